package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

var (
	// ErrEmpty is an input without any object that counts.
	ErrEmpty = errors.New("there is no object that says anything of a network")
	// ErrUnreachable is an API server that does not answer, or does not let us in.
	ErrUnreachable = errors.New("the API server does not answer")
)

// Options say which cluster to read, and from where.
type Options struct {
	// Paths are files and directories, and "-" for Stdin. Of a directory those files
	// are read whose name ends in .yaml, .yml or .json, at any depth, unless it
	// begins with a dot.
	Paths []string
	Stdin io.Reader
	// Live reads the API server too; an object that is in both is that of the files.
	// Without Paths it is implied.
	Live bool
	// Kubeconfig is the path of a kubeconfig; empty takes KUBECONFIG, then
	// ~/.kube/config, then the service account of a pod. Context is one of its
	// contexts; empty takes the current one.
	Kubeconfig, Context string
	// Timeout limits one request to the API server; 0 is 30 s.
	Timeout time.Duration
	// Progress is told now and then, from one goroutine, how many objects of how many
	// (0: not known) were read of what, e.g. "pods" or a file. It may be nil.
	Progress func(done, total int, what string)
}

// Load reads a cluster. Objects that cannot be read are in the Problems of the
// result, and not an error.
//
// The error is ErrEmpty if there is no object that counts; ErrUnreachable if the API
// server does not answer; a path that leads nowhere or to no text; the end of ctx.
func Load(ctx context.Context, o Options) (*snapshot.Snapshot, error) {
	return load(ctx, o, maxObject)
}

// load is Load with a limit for the bytes of one object.
func load(ctx context.Context, o Options, limit int) (*snapshot.Snapshot, error) {
	l := &loader{Options: o, known: newKnowledge(limit), all: newCollector()}
	if l.Progress == nil {
		l.Progress = func(int, int, string) {}
	}
	if len(o.Paths) > 0 {
		if err := l.files(ctx); err != nil {
			return nil, err
		}
	}
	if o.Live || len(o.Paths) == 0 {
		if err := l.live(ctx); err != nil {
			return nil, err
		}
	}
	out := l.all.snapshot()
	if l.all.rows == 0 && !hasFatal(out.Problems) {
		return nil, l.empty(out)
	}
	return out, nil
}

func hasFatal(problems []snapshot.Problem) bool {
	for _, p := range problems {
		if p.Severity == snapshot.Fatal {
			return true
		}
	}
	return false
}

// empty says what there was instead of objects.
func (l *loader) empty(s *snapshot.Snapshot) error {
	where := "the cluster"
	if len(l.Paths) > 0 {
		where = strings.Join(l.Paths, ", ")
	}
	details := []string{}
	if n := s.Input.Skipped; n > 0 {
		details = append(details, fmt.Sprintf("%d files were skipped", n))
	}
	for _, p := range s.Problems {
		details = append(details, p.Message)
	}
	if len(details) == 0 {
		return fmt.Errorf("read %s: %w", where, ErrEmpty)
	}
	return fmt.Errorf("read %s: %w (%s)", where, ErrEmpty, strings.Join(details, "; "))
}

// loader is one call of Load.
type loader struct {
	Options
	known *knowledge
	all   *collector
}

// files reads what Paths lead to.
func (l *loader) files(ctx context.Context) error {
	found, err := findSources(l.Paths, l.Stdin)
	if err != nil {
		return err
	}
	l.all.problems = append(l.all.problems, found.problems...)
	l.all.input.Skipped += found.skipped
	for _, src := range found.list {
		if err := l.file(ctx, src); err != nil {
			return fmt.Errorf("read %s: %w", src.name, err)
		}
	}
	return nil
}

// file reads one source. The error is that nothing of it can be used, though it was
// asked for by name.
func (l *loader) file(ctx context.Context, src source) error {
	f := l.all.file(src.name, src.found, l.Progress)
	err := run(ctx, l.known.decodeItem, f.take, func(p *pipeline) (err error) {
		f.plausible, err = src.read(p, l.known.limit)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
	case !src.found:
		return err
	case errors.Is(err, errBinary):
		f.binary = true
	default:
		f.take(&reading{problems: []snapshot.Problem{{
			Severity: snapshot.Fatal, Origin: snapshot.Origin{File: src.name}, Message: "it cannot be read: " + err.Error(),
		}}})
	}
	f.done()
	return nil
}

// read hands on the objects of a source; in two goes, if the types of its lists
// stand behind their items. plausible tells whether it looks like objects at all.
func (s source) read(p *pipeline, limit int) (plausible bool, err error) {
	first := &splitter{file: s.name, limit: limit, emit: p.emit, problem: p.problem}
	err = s.split(p, first)
	switch {
	case err != nil || first.late == nil:
		return first.plausible, err
	case s.once:
		for document := range first.late {
			p.problem(snapshot.Problem{
				Severity: snapshot.Fatal, Origin: snapshot.Origin{File: s.name, Document: document},
				Message: "items of the list have no kind, and the list says it behind them; store it as a file, and give that",
			})
		}
		return true, nil
	}
	return true, s.split(p, &splitter{file: s.name, limit: limit, emit: p.emit, problem: p.problem, types: first.late})
}

func (s source) split(p *pipeline, to *splitter) error {
	in, err := s.open()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	return to.split(contextReader{p.ctx, in})
}
