package k8s

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/placid-net/placid/internal/agentapi"
)

// health notes for each resource whether its watch works, and logs each
// outage once when it begins and once when it ends.
type health struct {
	log *slog.Logger

	mu        sync.Mutex
	since     time.Time // of the last change of ok
	answered  bool      // the API server has answered at all
	resources map[string]outage
}

// outage is a watch that does not work.
type outage struct {
	since   time.Time
	unknown bool // the API server answers, but does not know the resource
	err     error
}

func newHealth(log *slog.Logger) *health {
	return &health{log: log, since: time.Now(), resources: map[string]outage{}}
}

// Health tells whether all watches work. When they do not, Since is the time
// at which the first of them broke, and Message names the error; the tables
// then hold what was last known.
func (c *Client) Health() agentapi.Condition { return c.health.condition() }

// observe takes the result of a request of a watch.
func (h *health) observe(ctx context.Context, resource string, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the agent stops
	}
	if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
		err = nil // the server answered: the watch starts over with a list
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.brokenLocked(resource, err)
		return
	}
	now := time.Now()
	if before, broken := h.resources[resource]; broken {
		h.log.Info("watch works again", "resource", resource, "after", now.Sub(before.since).Round(time.Millisecond))
		delete(h.resources, resource)
		if len(h.resources) == 0 {
			h.since = now
		}
	}
	if !h.answered {
		h.answered, h.since = true, now
	}
}

func (h *health) brokenLocked(resource string, err error) {
	before, broken := h.resources[resource]
	now := outage{since: time.Now(), err: err, unknown: apierrors.IsNotFound(err)}
	if broken {
		now.since = before.since
	}
	if now.unknown {
		now.err = fmt.Errorf("the API server does not know the resource, apply its CustomResourceDefinition: %w", err)
	}
	if !broken || before.unknown != now.unknown {
		h.log.Warn("watch does not work; the last known state stays in use", "resource", resource, "err", now.err)
	}
	h.resources[resource] = now
}

func (h *health) condition() agentapi.Condition {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := agentapi.Condition{Name: "kubernetes", OK: h.answered && len(h.resources) == 0, Since: h.since}
	if len(h.resources) == 0 {
		if !h.answered {
			c.Message = "the API server has not answered yet"
		}
		return c
	}
	var parts []string
	for resource, o := range h.resources {
		parts = append(parts, fmt.Sprintf("watch %s: %v", resource, o.err))
		if len(parts) == 1 || o.since.Before(c.Since) {
			c.Since = o.since
		}
	}
	slices.Sort(parts)
	c.Message = strings.Join(parts, "; ")
	return c
}
