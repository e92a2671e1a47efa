package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// Part is what one process measures.
type Part string

// The parts.
const (
	PartAgent  Part = "agent"  // everything, as the agent does it, then changes and memory
	PartWriter Part = "writer" // the writer alone, with services that are compiled already
	PartMaps   Part = "maps"   // nothing but the rows that it writes, in batches
)

// spec is what a child gets.
type spec struct {
	Node    node.Spec `json:"node"`
	Part    Part      `json:"part"`
	Count   int       `json:"count"`   // of services
	Changes int       `json:"changes"` // of slices, by PartAgent
}

// Cost is what something took.
type Cost struct {
	Took   float64 `json:"took"`   // seconds
	User   float64 `json:"user"`   // of CPU, seconds
	System float64 `json:"system"` // the kernel's
}

// CPU is the sum.
func (c Cost) CPU() float64 { return c.User + c.System }

// result is what one child measured.
type result struct {
	Cold    Cost      `json:"cold"`
	Entries int       `json:"entries"` // of frontends and backends, in the kernel
	Changes []float64 `json:"changes"` // milliseconds
	Before  Memory    `json:"before"`  // without services
	After   Memory    `json:"after"`
}

// Child is the process of a node: it reads a spec, measures, and writes a result,
// both as JSON.
func Child(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	var s spec
	if err = json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read the node's description: %w", err)
	}
	n, err := node.Start(ctx, s.Node, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	m := &measurement{spec: s, shape: s.Node.Serving.Shape, node: n}
	switch s.Part {
	case PartAgent:
		err = m.agent(ctx, log)
	case PartWriter:
		err = m.writer()
	case PartMaps:
		err = m.maps()
	default:
		err = fmt.Errorf("part %q: no such part", s.Part)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(m.result)
}

type measurement struct {
	spec   spec
	shape  cluster.Shape
	node   *node.Node
	result result
}

// rows are everything that the watches write.
type rows struct {
	services []state.Service
	slices   [][]state.EndpointSlice
}

func (m *measurement) rows() (r rows, err error) {
	for i := range m.spec.Count {
		service, slices, err := node.Rows(m.shape, i)
		if err != nil {
			return r, err
		}
		r.services, r.slices = append(r.services, service), append(r.slices, slices)
	}
	return r, nil
}

// timed measures f.
func timed(f func() error) (Cost, error) {
	began, before := time.Now(), usage()
	err := f()
	took, after := time.Since(began), usage()
	return Cost{
		Took: took.Seconds(), User: seconds(after.Utime) - seconds(before.Utime), System: seconds(after.Stime) - seconds(before.Stime),
	}, err
}

func usage() unix.Rusage {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails for other arguments only
	return u
}

func seconds(t unix.Timeval) float64 { return time.Duration(t.Nano()).Seconds() }

// agent measures the agent's whole way, and what follows.
func (m *measurement) agent(ctx context.Context, log *slog.Logger) (err error) {
	if m.result.Before, err = memory(); err != nil {
		return err
	}
	all, err := m.rows()
	if err != nil {
		return err
	}
	var served *node.Services
	m.result.Cold, err = timed(func() error {
		if served, err = m.node.Serve(ctx, log); err != nil {
			return err
		}
		for i, row := range all.services {
			if err = served.Put(row, all.slices[i]); err != nil {
				return err
			}
		}
		return served.Complete(ctx)
	})
	all = rows{}
	if served != nil {
		defer func() { err = errors.Join(err, served.Close()) }()
	}
	if err != nil {
		return err
	}
	if err = m.check(); err != nil {
		return err
	}
	if err = m.changes(ctx, served); err != nil {
		return err
	}
	m.result.After, err = memory()
	return err
}

// compiled is everything as the datapath is given it.
func (m *measurement) compiled() (*loadbalance.Engine, error) {
	all, err := m.rows()
	if err != nil {
		return nil, err
	}
	engine, err := loadbalance.New(node.Compiler())
	if err != nil {
		return nil, err
	}
	for i := range all.services {
		engine.UpsertService(&all.services[i])
		for k := range all.slices[i] {
			engine.UpsertSlice(&all.slices[i][k])
		}
	}
	engine.Take()
	return engine, nil
}

// writer measures the writer, which finds its tables empty.
func (m *measurement) writer() error {
	engine, err := m.compiled()
	if err != nil {
		return err
	}
	ports, addresses := engine.Ports(), engine.Addresses()
	m.result.Cold, err = timed(func() error {
		_, syncErr := m.node.SyncServices(ports, addresses)
		return syncErr
	})
	if err != nil {
		return fmt.Errorf("write services: %w", err)
	}
	return m.check()
}
