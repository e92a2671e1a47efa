package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/placid-net/placid/internal/agentapi"
)

func flowTable(entries []agentapi.CTEntry) *grid {
	g := newGrid("PROTO", "SOURCE", "DESTINATION", "STATE", "TABLE", "AGE", "IDLE", "EXPIRES", "FROM", "TO")
	for _, e := range entries {
		g.add(protocolName(e.Proto), side(e.Source), side(e.Destination), e.State, e.Table,
			since(e.Age), since(e.Idle), since(e.Expires), who(e.SourcePod, e.SourceIdentity), who(e.DestinationPod, e.DestinationIdentity))
	}
	return g
}

func talkerTable(by string, talkers []agentapi.CTTalker) *grid {
	g := newGrid(strings.ToUpper(by), "FLOWS")
	for _, t := range talkers {
		g.add(t.Name, strconv.Itoa(t.Entries))
	}
	return g
}

// who gives the pod, where it is one of this node, and the identity.
func who(pod string, identity uint32) string {
	if pod == "" {
		return identityName(identity)
	}
	return pod + " (" + identityName(identity) + ")"
}

// since gives a length of time in one unit, e.g. "5m"; what has passed its end
// is "0s".
func since(d time.Duration) string { return duration.ShortHumanDuration(max(0, d)) }

// collection says in one line what a collection did.
func collection(c agentapi.CTCollection) string {
	return fmt.Sprintf("%d deleted, %d alive, took %s, CPU %s", c.Deleted, c.Alive, spent(c.Took), spent(c.CPU))
}

// spent gives a duration in three digits, e.g. "1.24s" or "340µs".
func spent(d time.Duration) string {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}
