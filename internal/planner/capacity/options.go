package capacity

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/sizing"
)

// ErrSettings is a configuration that cannot be planned with.
var ErrSettings = errors.New("configuration of the cluster")

// Options say what to plan for.
type Options struct {
	// For is whose tables and limits are meant; empty takes the Snapshot's, else
	// Placid's.
	For    snapshot.Platform
	Growth Growth
	// Rates are the new flows of a node; nil takes DefaultRates.
	Rates []Rate
	// Instances are what nodes of a type can have of the cloud, by type, besides
	// those that are known. DefaultInstance is the type of nodes without one.
	Instances       map[string]Instance
	DefaultInstance string
}

// settings are the keys that the needs and sizes depend on, read once.
type settings struct {
	platform snapshot.Platform
	values   map[string]string
	// seen tells that they are those of the platform that is planned for, not
	// defaults.
	seen   bool
	filter identity.Filter
	// cfg is Placid's configuration; of the others, what they have in common with it.
	cfg   config.Config
	notes []string
	sized map[uint64]sizing.Sizes // by the memory of a node
}

// readSettings takes the settings of a cluster. Those of another network than the
// one that is planned for count where both have the key.
func readSettings(s *snapshot.Snapshot, platform snapshot.Platform) (*settings, error) {
	out := &settings{platform: platform, values: s.Settings, seen: s.Platform == platform, sized: map[uint64]sizing.Sizes{}}
	filter, err := identity.ParseFilter(strings.Fields(s.Settings["labels"]))
	if err != nil {
		return nil, fmt.Errorf("%w: labels: %w", ErrSettings, err)
	}
	out.filter = filter
	var env []string
	for _, k := range config.Keys() {
		if v, ok := s.Settings[k.Name]; ok {
			env = append(env, k.EnvName()+"="+v)
		}
	}
	loaded, err := config.Load(config.Sources{Env: env})
	if err != nil && platform == snapshot.Placid && out.seen {
		return nil, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	if err != nil { // values that only the other network has, or that contradict each other here
		env = slices.DeleteFunc(env, func(one string) bool {
			_, wrong := config.Load(config.Sources{Env: []string{one}})
			return wrong != nil
		})
		if loaded, err = config.Load(config.Sources{Env: env}); err != nil {
			out.notes = append(out.notes, "Some settings of the cluster contradict each other for Placid, so that its defaults count: "+firstLine(err.Error()))
			loaded, err = config.Load(config.Sources{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	out.cfg = loaded.Config
	return out, nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// on gives a switch, or what counts where nobody set it.
func (s *settings) on(key string, otherwise bool) bool {
	b, err := strconv.ParseBool(s.values[key])
	if err != nil {
		return otherwise
	}
	return b
}

// number gives a number, or what counts where it is not set or none.
func (s *settings) number(key string, otherwise int) int {
	n, err := strconv.Atoi(s.values[key])
	if err != nil || n <= 0 {
		return otherwise
	}
	return n
}

// replacesProxy tells whether node ports and external addresses are served too. Of
// a network that is not seen, it is assumed: that takes the most.
func (s *settings) replacesProxy() bool {
	if s.platform == snapshot.Placid {
		return s.cfg.KubeProxyReplacement
	}
	return s.on("kube-proxy-replacement", !s.seen)
}

// isolates tells whether policies count at all.
func (s *settings) isolates() bool { return s.cfg.EnablePolicy != "never" }

// families tells which addresses pods have.
func (s *settings) families() (ipv4, ipv6 bool) {
	if s.platform == snapshot.Placid {
		return s.cfg.EnableIPv4, s.cfg.EnableIPv6
	}
	return s.on("enable-ipv4", true), s.on("enable-ipv6", false)
}

// sizes gives the tables of a node of that memory.
func (s *settings) sizes(memory uint64) (sizing.Sizes, error) {
	if sizes, ok := s.sized[memory]; ok {
		return sizes, nil
	}
	in := s.cfg.SizeInput(memory)
	if s.platform != snapshot.Placid {
		in.Explicit = map[string]int{}
		for _, key := range []string{sizing.KeyTCP, sizing.KeyAny, sizing.KeyNAT, sizing.KeySock} {
			if n := s.number(key, 0); n > 0 {
				in.Explicit[key] = n
			}
		}
	}
	if memory == 0 {
		in.Ratio = 0
	}
	sizes, err := sizing.Plan(in)
	if err != nil {
		return sizes, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	s.sized[memory] = sizes
	return sizes, nil
}
