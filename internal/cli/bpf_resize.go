package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

const mapResizeHelp = `Give a BPF table another size, in entries, while packets use it.

No entry is lost and no packet waits. Returns when all entries are in the new
table; --timeout does not count for that. When it is broken off, the agent goes
on. A size that would not hold the entries, or for which there is no memory, is
refused before anything has begun.

The size lasts until the agent starts again where one is configured, and until
the table fills or empties where it tunes itself (bpf-map-autosize); set its key
to keep it.`

// progressInterval is how often a person is shown how far a move has come.
const progressInterval = 200 * time.Millisecond

func (a *app) mapResizeCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:     "resize NAME SIZE",
		Short:   "Give a BPF table another size while packets use it",
		Long:    mapResizeHelp,
		Example: "  placid bpf map resize ct_tcp 262144\n  placid bpf map resize ct_tcp 262144 --why 'more connections on Monday' -o json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef(cmd, "%s takes exactly two arguments, got %d", cmd.Use, len(args))
			}
			return nil
		},
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			size, err := strconv.ParseUint(strings.ReplaceAll(args[1], ",", ""), 10, 32)
			if err != nil || size == 0 {
				return usagef(cmd, "SIZE is %q: want a number of entries such as 262144", args[1])
			}
			return a.resize(cmd.Context(), agentapi.ResizeRequest{Name: args[0], Entries: uint32(size), Why: why})
		}),
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, for the agent's log and 'bpf map list'")
	return cmd
}

// resize asks for another size, and shows how far it has come meanwhile.
func (a *app) resize(ctx context.Context, req agentapi.ResizeRequest) error {
	type answer struct {
		move agentapi.TableMove
		err  error
	}
	ended := make(chan answer, 1)
	go func() {
		move, err := a.env.dial(a.socket).ResizeTable(ctx, req)
		ended <- answer{move, err}
	}()
	show := a.progress(ctx, req)
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case got := <-ended:
			show.clear()
			if got.err != nil {
				return resizeRefused(ctx, req, got.err)
			}
			return a.printMove(got.move)
		case <-tick.C:
			show.update()
		}
	}
}

func (a *app) printMove(m agentapi.TableMove) error {
	if err := a.print(m, func(out *bytes.Buffer) { out.WriteString(moveText(m) + "\n") }); err != nil {
		return err
	}
	if m.State == agentapi.MoveWaiting {
		a.note("%d entries found no room and work on from the old table; the agent moves them when there is: expired ones make some, and so does placid bpf ct gc", m.Left)
	}
	return nil
}

// moveText says in one line what a move came to.
func moveText(m agentapi.TableMove) string {
	if m.State == "" {
		return fmt.Sprintf("%s has %d entries already", m.Name, m.To)
	}
	text := fmt.Sprintf("%s: %d → %d: %s in %s: %s", m.Name, m.From, m.To, m.State, spent(m.Took), counted(int(m.Moved), "entry moved", "entries moved"))
	if m.Ended > 0 {
		text += fmt.Sprintf(", %d had expired", m.Ended)
	}
	if m.Left > 0 {
		text += fmt.Sprintf(", %d left", m.Left)
	}
	if m.Rate > 0 {
		text += fmt.Sprintf(" (%s/s)", humanize.Comma(int64(m.Rate)))
	}
	return text + ", " + humanize.IBytes(m.Memory)
}

// resizeRefused adds what to do to the agent's answer.
func resizeRefused(ctx context.Context, req agentapi.ResizeRequest, cause error) error {
	apiErr, ok := errors.AsType[*agentapi.Error](cause)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("resize %s: %w; the agent goes on with what has begun: 'placid bpf map list' shows it", req.Name, ctx.Err())
	case !ok || apiErr.Code == agentapi.CodeUnavailable:
		return fmt.Errorf("resize %s: %w", req.Name, cause)
	}
	switch apiErr.Code {
	case agentapi.CodeTooSmall:
		return fmt.Errorf("%w; nothing was changed: give a larger size, or make entries go first ('placid bpf ct flush' for flows)", cause)
	case agentapi.CodeNoMemory:
		return fmt.Errorf("%w; nothing was changed: free memory on the node, or give a smaller size", cause)
	case agentapi.CodeBusy:
		return fmt.Errorf("%w; one table moves at a time: 'placid bpf map list' shows how far it has come", cause)
	}
	return cause
}

// progressLine shows a person how far a move has come, on one line that is written
// over and over. Without a terminal it shows nothing.
type progressLine struct {
	out   io.Writer // nil: nobody watches
	table func() *agentapi.TableInfo
	shown bool
}

func (a *app) progress(ctx context.Context, req agentapi.ResizeRequest) *progressLine {
	p := &progressLine{table: func() *agentapi.TableInfo {
		tables, err := a.tables(ctx)
		i := slices.IndexFunc(tables.Tables, func(t agentapi.TableInfo) bool { return t.Name == strings.TrimSuffix(req.Name, "_map") })
		if err != nil || i < 0 {
			return nil // the answer to the resize says what is wrong
		}
		return &tables.Tables[i]
	}}
	if a.env.terminal || isTerminal(a.env.Stderr) {
		p.out = a.env.Stderr
	}
	return p
}

// eraseLine puts the cursor where the line begins and clears it.
const eraseLine = "\r\x1b[K"

func (p *progressLine) update() {
	if p.out == nil {
		return
	}
	t := p.table()
	if t == nil || t.Move == nil || t.Move.State != agentapi.MoveMoving {
		return
	}
	p.shown = true
	_, _ = fmt.Fprint(p.out, eraseLine+progressText(*t.Move)) // as note: the result is still right
}

func (p *progressLine) clear() {
	if p.shown {
		_, _ = fmt.Fprint(p.out, eraseLine)
	}
}

// progressText says how far a move has come: entries, rate, time left.
func progressText(m agentapi.TableMove) string {
	text := fmt.Sprintf("%s: %d → %d: ", m.Name, m.From, m.To)
	if m.Passed == 0 {
		return text + "making the new table"
	}
	text += fmt.Sprintf("%d of %d entries moved", m.Passed, max(m.Total, m.Passed))
	if m.Rate > 0 {
		text += fmt.Sprintf(", %s/s", humanize.Comma(int64(m.Rate)))
	}
	if m.Remaining > 0 {
		text += ", " + spent(m.Remaining) + " left"
	}
	return text
}

// isTerminal tells whether w is a device that characters are written to.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
