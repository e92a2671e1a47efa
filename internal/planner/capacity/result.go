package capacity

import (
	"github.com/placid-net/placid/internal/planner/snapshot"
)

// Result is the plan for a cluster.
type Result struct {
	Platform snapshot.Platform `json:"platform"`
	// Growth is what was asked for, empty for nothing.
	Growth string   `json:"growth,omitempty"`
	Rates  []string `json:"rates"`
	Now    Counts   `json:"now"`
	After  Counts   `json:"after"`
	// First is the limit that is met first while the cluster grows, nil if none is.
	First *Limit `json:"first"`
	// Tables has, of everything that can run out, the node with the least headroom,
	// in the order of the platform's tables.
	Tables []Table `json:"tables"`
	Nodes  []Node  `json:"nodes"`
	// Limits are those of Tables that growth meets, the first first.
	Limits        []Limit        `json:"limits"`
	Identities    IdentityCounts `json:"identities"`
	Services      ServiceTotals  `json:"services"`
	Configuration Configuration  `json:"configuration"`
	Curve         []Curve        `json:"curve,omitempty"`
	// Notes say what is assumed.
	Notes []string `json:"notes"`
}

// Counts are what a cluster has.
type Counts struct {
	Nodes      int `json:"nodes"`
	Namespaces int `json:"namespaces"`
	Pods       int `json:"pods"`
	Services   int `json:"services"`
	Policies   int `json:"policies"`
	Identities int `json:"identities"`
}

// Table is one table, or whatever else can run out, where there is the least of it.
type Table struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	Node string `json:"node,omitempty"` // empty: of the cluster
	What string `json:"what,omitempty"`
	Key  string `json:"key,omitempty"` // of the configuration, that sets Size
	Now  int    `json:"now"`
	// After is the need when the cluster has grown as asked.
	After int `json:"after"`
	// Size is what there is, Limit what it cannot grow beyond by itself.
	Size  int `json:"size"`
	Limit int `json:"limit"`
	// Bytes is what a table takes now and after.
	Bytes      uint64 `json:"bytes,omitempty"`
	BytesAfter uint64 `json:"bytesAfter,omitempty"`
	// Exact tells that Now is counted; else Model says how it is estimated.
	Exact bool   `json:"exact"`
	Model string `json:"model,omitempty"`
	// FullAt is how far growth can come, as text; empty if it never fills.
	FullAt string `json:"fullAt,omitempty"`
	Full   string `json:"whenFull"`

	most  int
	gauge *gauge
}

// Fill is how full it is, 1 being the limit.
func (t Table) Fill(need int) float64 {
	if t.Limit == 0 {
		return 0
	}
	return float64(need) / float64(t.Limit)
}

// Where names the node, and what on it.
func (t Table) Where() string {
	switch {
	case t.Node == "":
		return "the cluster"
	case t.What != "":
		return "node " + t.Node + " (" + t.What + ")"
	}
	return "node " + t.Node
}

// Limit is a limit that growth meets.
type Limit struct {
	Name string `json:"name"`
	Node string `json:"node,omitempty"`
	What string `json:"what,omitempty"`
	// Times is how far growth can come: without a growth that was asked for, as how
	// many times what runs now; else as a part of that growth, 1 being all of it.
	Times float64 `json:"times"`
	At    string  `json:"at"`
	Limit int     `json:"limit"`
	Full  string  `json:"whenFull"`
	Key   string  `json:"key,omitempty"`
}

// Node is one node with all of its tables.
type Node struct {
	Name   string      `json:"name"`
	Tables []NodeTable `json:"tables"`
	// Bytes is what all of its tables take now and after.
	Bytes      uint64 `json:"bytes"`
	BytesAfter uint64 `json:"bytesAfter"`
	Memory     uint64 `json:"memory,omitempty"`
	Pods       int    `json:"pods"`
	PodsAfter  int    `json:"podsAfter"`
}

// NodeTable is one table of one node.
type NodeTable struct {
	Kind  Kind   `json:"kind"`
	Name  string `json:"name"`
	Now   int    `json:"now"`
	After int    `json:"after"`
	Size  int    `json:"size"`
	Limit int    `json:"limit"`
	What  string `json:"what,omitempty"`
}

// IdentityCounts are the identities, and what makes them.
type IdentityCounts struct {
	Now   int `json:"now"`
	After int `json:"after"`
	Limit int `json:"limit"`
	// Namespaces are those with the most, first.
	Namespaces []Share `json:"namespaces"`
	// Labels are the label keys whose values make the most of them: so many fewer
	// there would be without the key.
	Labels []Share `json:"labels"`
}

// Share is a part of a whole.
type Share struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	After int    `json:"after"`
}

// ServiceTotals compare the usual rule with what there is.
type ServiceTotals struct {
	Documented int `json:"documented"`
	Exact      int `json:"exact"`
	// Largest are the Services that take the most, first.
	Largest []ServiceCost `json:"largest"`
}

// Curve is how full something gets while the cluster grows.
type Curve struct {
	Name   string  `json:"name"`
	Node   string  `json:"node,omitempty"`
	Points []Point `json:"points"`
}

// Point is one point of a Curve.
type Point struct {
	Times float64 `json:"times"` // as Limit.Times
	Fill  float64 `json:"fill"`  // 1 is the limit
}
