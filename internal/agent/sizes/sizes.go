package sizes

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/sizing"
)

// Datapath is what a Runner needs of the kernel. *datapath.Datapath implements it.
type Datapath interface {
	SizedTables() ([]datapath.SizedTable, error)
	Moves() []resize.Move
	Resize(ctx context.Context, mapName string, entries uint32, why string) (resize.Move, error)
	RefusedServices() []loadbalance.Refusal
}

// Events posts events about parts of this node. *k8s.Client implements it.
type Events interface {
	EventNode(part string, kind k8s.EventType, reason, message string)
}

// Settings are what the configuration says of sizes.
type Settings struct {
	sizing.Sizes
	Ratio  float64 // bpf-map-dynamic-size-ratio
	Auto   bool    // bpf-map-autosize
	Budget uint64  // of all tables together, in bytes
}

// fixed tells whether a table has the size of the configuration and keeps it.
func (s Settings) fixed(t sizing.Sized) bool { return !s.Auto || t.From == sizing.FromKey }

// Fixed names the maps whose tables have the sizes of the configuration and keep
// them.
func (s Settings) Fixed() []string {
	var out []string
	for _, t := range s.Tables {
		if s.fixed(t) {
			out = append(out, t.Map)
		}
	}
	return out
}

func (s Settings) controller() (*autosize.Controller, error) {
	cfg := autosize.Config{Budget: s.Budget}
	for _, t := range s.Tables {
		cfg.Tables = append(cfg.Tables, autosize.Tuned(t, s.fixed(t)))
	}
	return autosize.New(cfg)
}

// Config is what a Runner needs.
type Config struct {
	Settings Settings
	Datapath Datapath
	Events   Events
	Log      *slog.Logger
}

// Runner looks after the sizes of tables. Create it with New; Run does the work.
type Runner struct {
	cfg     Config
	working chan struct{} // holds one while a move of the Runner's goes on
	moves   sync.WaitGroup

	mu         sync.Mutex
	settings   Settings
	controller *autosize.Controller
	// wanted are sizes of changed settings that tables do not have yet.
	wanted  map[string]uint32
	peaks   map[string]uint64
	blocked map[string]autosize.Decision // of the last sample
	told    map[string]obstacle
	retries map[string]retry
	seen    map[string]resize.Move // the last one of each table that ended
	counts  map[string]Counts
	problem string // why the tables could not be read
}

// New returns a runner. It does no I/O. An error is one of the settings.
func New(cfg Config) (*Runner, error) {
	c, err := cfg.Settings.controller()
	if err != nil {
		return nil, err
	}
	return &Runner{
		cfg: cfg, settings: cfg.Settings, controller: c, working: make(chan struct{}, 1), wanted: map[string]uint32{},
		peaks: map[string]uint64{}, blocked: map[string]autosize.Decision{}, told: map[string]obstacle{},
		retries: map[string]retry{}, seen: map[string]resize.Move{}, counts: map[string]Counts{},
	}, nil
}

// Apply takes changed settings: a table whose size was set anew, or follows from
// another ratio, gets it while packets use it. An error is one of the settings,
// which then stay as they are.
func (r *Runner) Apply(s Settings) error {
	c, err := s.controller()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.settings
	if before.Ratio == s.Ratio && before.Auto == s.Auto && before.Budget == s.Budget && slices.Equal(before.Tables, s.Tables) {
		return nil
	}
	r.settings, r.controller = s, c
	for i, t := range s.Tables { // always the same tables
		was := before.Tables[i]
		switch {
		case s.fixed(t) == before.fixed(was) && t.Entries == was.Entries:
		case s.fixed(t) || !before.fixed(was):
			r.wanted[t.Map] = uint32(t.Entries)
		default:
			delete(r.wanted, t.Map) // it is tuned from now on
		}
	}
	return nil
}

// interval is the time between two samples.
const interval = time.Second

// Run samples and tunes until ctx ends. A move that goes on then is ended by the
// next agent.
func (r *Runner) Run(ctx context.Context) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	defer r.moves.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			r.turn(ctx, now)
		}
	}
}

// turn takes one sample and does what follows from it.
func (r *Runner) turn(ctx context.Context, now time.Time) {
	tables, err := r.cfg.Datapath.SizedTables()
	if !r.readable(err) {
		return
	}
	waiting := waitingEntries(r.cfg.Datapath.RefusedServices())
	ended := r.cfg.Datapath.Moves()
	r.mu.Lock()
	r.observe(tables, ended)
	decisions := r.controller.Step(now, samples(tables, waiting))
	news := r.judge(now, decisions)
	next, ok := r.next(now, tables, decisions)
	r.mu.Unlock()
	for _, d := range news {
		r.cfg.Log.Warn("a table does not get the size that it should", "map", d.Map, "limit", d.Limit, "reason", d.Reason)
		r.tell(d.Map, k8s.EventWarning, reasonBlocked, d.Reason)
	}
	if ok {
		r.begin(ctx, now, next)
	}
}

// readable says once why the tables cannot be read, until that changes.
func (r *Runner) readable(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != r.problem {
		r.cfg.Log.Error("read the sizes of tables", "error", err)
	}
	r.problem = text
	return err == nil
}

// tell posts an event about a table.
func (r *Runner) tell(mapName string, kind k8s.EventType, reason, message string) {
	r.cfg.Events.EventNode("tables{"+datapath.ShortName(mapName)+"}", kind, reason, message)
}
