package agentapi

import "time"

// Paths of the tables that have a size.
const (
	PathTables      = "/v1/tables"        // GET → Tables
	PathTableResize = "/v1/tables/resize" // POST ResizeRequest → TableMove, when it has ended
)

// Codes of a resize that was refused; nothing has begun then.
const (
	CodeTooSmall = "tooSmall" // its entries would not fit: the message has the least size
	CodeNoMemory = "noMemory" // the machine has no memory for the new table beside the old one
	CodeBusy     = "busy"     // a table moves already: try again when it has
)

// Tables are all tables that have a size, and how those come about. Memory is in
// bytes.
type Tables struct {
	// Ratio is bpf-map-dynamic-size-ratio; 0: sizes do not follow the memory.
	Ratio float64 `json:"ratio"`
	// Autosize says that sizes which were not set tune themselves within Budget, of
	// which all tables take Memory now.
	Autosize bool   `json:"autosize"`
	Budget   uint64 `json:"budget"`
	Memory   uint64 `json:"memory"`
	// NAT is the size that Cilium's NAT table would have. There is none: a flow that
	// is translated has two entries in its conntrack table.
	NAT    int         `json:"nat"`
	Tables []TableInfo `json:"tables"`
}

// TableInfo is one table. Sizes and counts are in entries.
type TableInfo struct {
	Name  string `json:"name"`          // of its map, e.g. "ct_tcp"
	Label string `json:"label"`         // the word for it in events, e.g. "tcp"
	Kind  string `json:"kind"`          // how the kernel stores it, e.g. "hash"
	Key   string `json:"key,omitempty"` // configuration key of its size
	// Evicts says that it drops what was used least when it is full, as it may be by
	// design; others refuse what is new.
	Evicts bool `json:"evicts,omitempty"`
	// Fixed says that the table keeps its size: it was set, or nothing tunes itself.
	Fixed   bool   `json:"fixed"`
	Entries uint64 `json:"entries"`
	Size    uint64 `json:"size"`
	// Old is the size of the table that entries are moving out of; 0: they are not.
	Old uint64 `json:"old,omitempty"`
	// Pressure is Entries to Size.
	Pressure float64 `json:"pressure"`
	// Peak is the most entries that were seen since the agent started, Headroom what
	// there is room for now.
	Peak     uint64 `json:"peak"`
	Headroom uint64 `json:"headroom"`
	// Waiting are entries that found no room and that the agent writes when there is.
	Waiting uint64 `json:"waiting,omitempty"`
	// Memory is what the table takes, in bytes, the old one included.
	Memory  uint64       `json:"memory"`
	Inserts TableInserts `json:"inserts"`
	// Blocked says why the table does not get the size that it should, and Limit what
	// is in the way.
	Blocked string     `json:"blocked,omitempty"`
	Limit   string     `json:"limit,omitempty"`
	Move    *TableMove `json:"move,omitempty"` // the one that goes on, or the last one
}

// What keeps a table from the size that it should have.
const (
	LimitBudget  = "budget"  // bpf-map-memory-budget
	LimitMaximum = "maximum" // the largest size, or its share of the budget
)

// TableInserts counts attempts to insert: those of programs since they were loaded,
// those of the agent, which counts refused ones only, since it started.
type TableInserts struct {
	Inserted uint64 `json:"inserted"`
	Full     uint64 `json:"full"`  // refused for lack of room
	Busy     uint64 `json:"busy"`  // refused because another CPU held the lock
	Other    uint64 `json:"other"` // refused for any other cause: memory, above all
}

// ResizeRequest asks for another size of a table.
type ResizeRequest struct {
	Name    string `json:"name"`    // of its map, with or without "_map"
	Entries uint32 `json:"entries"` // the size
	Why     string `json:"why,omitempty"`
}

// States of a TableMove.
const (
	MoveMoving  = "moving"
	MoveWaiting = "waiting for room" // entries are left in the old table; everything works
	MoveDone    = "done"
	MoveStopped = "stopped" // the agent goes on with it
	MoveFailed  = "failed"
)

// TableMove is one change of a table's size. Sizes and counts are in entries.
type TableMove struct {
	Name  string        `json:"name"`
	From  uint32        `json:"from"` // 0: an earlier agent began
	To    uint32        `json:"to"`
	Why   string        `json:"why,omitempty"`
	State string        `json:"state"` // empty: the table has that size already
	Began time.Time     `json:"began,omitzero"`
	Took  time.Duration `json:"took"` // nanoseconds until now, or until it ended
	// Total are the entries that there were when it began, Passed those that were
	// looked at, of which Moved moved and Ended had expired; Left wait for room.
	Total  uint64 `json:"total"`
	Passed uint64 `json:"passed"`
	Moved  uint64 `json:"moved"`
	Ended  uint64 `json:"ended,omitempty"`
	Left   uint64 `json:"left,omitempty"`
	// Rate is in entries a second.
	Rate float64 `json:"rate"`
	// Remaining is how long it still takes, in nanoseconds; 0: nobody knows.
	Remaining time.Duration `json:"remaining,omitempty"`
	Memory    uint64        `json:"memory"` // of the new table, in bytes
	Problem   string        `json:"problem,omitempty"`
}
