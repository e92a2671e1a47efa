package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/planner/objects"
	"github.com/placid-net/placid/internal/planner/snapshot"
)

// errNotWhole is a cluster of which a part could not be read.
var errNotWhole = errors.New("a part of the cluster could not be read")

// progressAfter is how long work may take before a person is shown how far it is.
const progressAfter = time.Second

// clusterFlags say which cluster a command is about: one that files describe, or
// a live one.
type clusterFlags struct {
	paths               []string
	kubeconfig, context string
}

// add registers the flags.
func (c *clusterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&c.paths, "filename", "f", nil,
		"file or directory with objects of the cluster, - for standard input; may be repeated. Without it the cluster of the kubeconfig is read")
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster to read; empty takes KUBECONFIG, then ~/.kube/config")
	flags.StringVar(&c.context, "context", "", "context of the kubeconfig; empty takes its current one")
}

// load reads the cluster. What could not be read, or not as it was meant, is in
// its Problems, which complain tells; the error is that nothing could be read.
func (c *clusterFlags) load(ctx context.Context, a *app) (*snapshot.Snapshot, error) {
	show := a.showProgress()
	defer show.clear()
	opts := objects.Options{Paths: c.paths, Stdin: a.env.Stdin, Kubeconfig: c.kubeconfig, Context: c.context, Progress: show.update}
	if a.timeout != defaultTimeout { // the default is for an agent on the same machine
		opts.Timeout = a.timeout
	}
	s, err := objects.Load(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("read the cluster: %w", err)
	}
	return s, nil
}

// complain tells a person about the problems of a cluster, and returns
// errNotWhole if one of them leaves an object out.
func (a *app) complain(s *snapshot.Snapshot) error {
	fatal := 0
	for _, p := range s.Problems {
		a.note("%s", problemText(p))
		if p.Severity == snapshot.Fatal {
			fatal++
		}
	}
	if fatal > 0 {
		return fmt.Errorf("%w: %s above", errNotWhole, plural(fatal, "error"))
	}
	return nil
}

// problemText is one line: severity, place and message.
func problemText(p snapshot.Problem) string {
	text := string(p.Severity) + ": "
	if place := placeText(p); place != "" {
		text += place + ": "
	}
	return text + p.Message
}

// placeText says where a problem is: file, document and item, object and field.
func placeText(p snapshot.Problem) string {
	var parts []string
	if p.Origin.File != "" {
		file := p.Origin.File
		if p.Origin.Document > 0 {
			file += fmt.Sprintf(", document %d", p.Origin.Document)
		}
		if p.Origin.Item > 0 {
			file += fmt.Sprintf(", item %d", p.Origin.Item)
		}
		parts = append(parts, file)
	}
	for _, part := range []string{p.Object.String(), p.Field} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// workLine shows a person how far long work has come, on one line that is written
// over and over. Without a terminal, and before progressAfter, it shows nothing.
type workLine struct {
	out   io.Writer // nil: nobody watches
	now   func() time.Time
	since time.Time
	last  time.Time
	shown bool
}

func (a *app) showProgress() *workLine {
	w := &workLine{now: a.env.Now}
	if a.env.terminal || isTerminal(a.env.Stderr) {
		w.out = a.env.Stderr
		w.since = w.now()
	}
	return w
}

// update says that done of total are done of what; a total of 0 is not known.
func (w *workLine) update(done, total int, what string) {
	if w.out == nil {
		return
	}
	now := w.now()
	if now.Sub(w.since) < progressAfter || now.Sub(w.last) < progressInterval {
		return
	}
	w.last, w.shown = now, true
	text := fmt.Sprintf("%s: %d", what, done)
	if total > 0 {
		text += fmt.Sprintf(" of %d", total)
	}
	_, _ = fmt.Fprint(w.out, eraseLine+text) // as note: the result is still right
}

func (w *workLine) clear() {
	if w.shown {
		_, _ = fmt.Fprint(w.out, eraseLine)
		w.shown = false
	}
}

// platforms are the values of --for.
func platforms() []string {
	return []string{string(snapshot.Cilium), string(snapshot.Terway), string(snapshot.Placid)}
}

// platformFlag is the flag --for: whose tables and limits are meant. It implements
// pflag.Value.
type platformFlag struct{ value snapshot.Platform }

func (p *platformFlag) String() string { return string(p.value) }

// Type gives the placeholder that help shows for the flag's value.
func (p *platformFlag) Type() string { return "network" }

func (p *platformFlag) Set(s string) error {
	choice := enum{allowed: platforms()}
	if !slices.Contains(choice.allowed, s) {
		return fmt.Errorf("want %s", choice.choices())
	}
	p.value = snapshot.Platform(s)
	return nil
}

// add registers the flag.
func (p *platformFlag) add(cmd *cobra.Command) {
	cmd.Flags().Var(p, "for", "whose tables and limits are meant: "+(&enum{allowed: platforms()}).choices()+
		"; default: what the cluster is seen to run, else placid")
}

// of gives the platform that is meant for a cluster.
func (p *platformFlag) of(s *snapshot.Snapshot) snapshot.Platform {
	switch {
	case p.value != "":
		return p.value
	case s.Platform != "":
		return s.Platform
	}
	return snapshot.Placid
}
