package objects

import (
	"context"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// inFlight is how many objects may be read ahead, and inFlightBytes how much text
// they may have.
const inFlight, inFlightBytes = 64, 2 * maxObject

// pipeline decodes items on all CPUs, and hands on what they came to in the order
// of the items.
type pipeline struct {
	ctx   context.Context // of the one call of run
	jobs  chan job
	queue chan chan *reading
	room  *semaphore.Weighted // of inFlightBytes
}

type job struct {
	item
	out chan *reading // takes one without a reader
}

// size is what the item counts for, in bytes.
func (j job) size() int64 { return min(int64(len(j.raw)), inFlightBytes) }

// run calls produce, decodes what it emits, and gives the results to take, all
// until produce returns or ctx ends. The error is that of produce, or of ctx.
func run(ctx context.Context, decode func(item) *reading, take func(*reading), produce func(*pipeline) error) error {
	g, inner := errgroup.WithContext(ctx)
	p := &pipeline{ctx: inner, jobs: make(chan job), queue: make(chan chan *reading, inFlight), room: semaphore.NewWeighted(inFlightBytes)}
	g.Go(func() error {
		defer close(p.queue)
		defer close(p.jobs)
		return produce(p)
	})
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for j := range p.jobs {
				j.out <- decode(j.item)
				p.room.Release(j.size())
			}
			return nil
		})
	}
	for out := range p.queue {
		take(<-out)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// emit hands on an item. After the end of the context it does nothing.
func (p *pipeline) emit(it item) {
	j := job{item: it, out: make(chan *reading, 1)}
	if p.room.Acquire(p.ctx, j.size()) != nil {
		return // the context ended
	}
	select {
	case p.jobs <- j:
		p.put(j.out)
	case <-p.ctx.Done():
	}
}

// problem hands on a problem, in its place among the items.
func (p *pipeline) problem(problem snapshot.Problem) {
	out := make(chan *reading, 1)
	out <- &reading{item: item{origin: problem.Origin}, problems: []snapshot.Problem{problem}}
	p.put(out)
}

func (p *pipeline) put(out chan *reading) {
	select {
	case p.queue <- out:
	case <-p.ctx.Done():
	}
}

// contextReader fails when its context ends.
type contextReader struct {
	ctx context.Context // a reader has no other way to get it
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b) // a reader hands io.EOF on as it is
}
