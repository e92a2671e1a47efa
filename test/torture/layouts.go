package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// ownProgram is this program.
const ownProgram = "/proc/self/exe"

// changes is what versions with another layout of flows did.
type changes struct {
	Done    int           `json:"done"`    // one took over
	Early   int           `json:"early"`   // of these, before the one before had brought everything over
	Longest time.Duration `json:"longest"` // until everything was brought over
}

// changeLayouts lets the two versions take over from each other until the window is
// over, and ends with this one. Each agent is killed when the next one comes, some of
// them before they have brought all flows over.
func (n *node) changeLayouts(ctx context.Context) error {
	n.watcher.mu.Lock()
	defer n.watcher.mu.Unlock()
	for began := time.Now(); time.Since(began) < n.Window; {
		for _, program := range []string{n.Other, ownProgram} {
			if err := errors.Join(ctx.Err(), n.takeOver(ctx, program)); err != nil {
				return err
			}
		}
	}
	return errors.Join(n.settled(ctx), n.watcher.close(), n.watcher.open(), n.mover.reopen())
}

// takeOver puts another program's agent in the place of the one that runs. Half of
// the times that one is given no time to come to an end.
func (n *node) takeOver(ctx context.Context, program string) error {
	if n.mover.random.IntN(2) == 0 {
		if err := n.settled(ctx); err != nil {
			return err
		}
	}
	unsettled, err := underWay()
	if err != nil {
		return err
	}
	n.agent.kill()
	n.agent.program = program
	if err := n.agent.start(); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	n.result.Changes.Done++
	if unsettled {
		n.result.Changes.Early++
	}
	return nil
}

// settled waits until the agent has brought everything over.
func (n *node) settled(ctx context.Context) error {
	for began := time.Now(); ; {
		unsettled, err := underWay()
		if err != nil || !unsettled {
			n.result.Changes.Longest = max(n.result.Changes.Longest, time.Since(began))
			return err
		}
		if time.Since(began) > settleTimeout {
			return fmt.Errorf("flows of another layout are still being brought over after %s", settleTimeout)
		}
		if err := rest(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// underWay tells whether a change of layout is.
func underWay() (bool, error) {
	found, err := filepath.Glob(filepath.Join(pins, "*:*"))
	return len(found) > 0, err
}
