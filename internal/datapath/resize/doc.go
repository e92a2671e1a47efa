// Package resize gives tables of the datapath another size while packets use
// them.
//
// There are three kinds, by who writes a table (docs/adr/0011-moving-tables.md):
// one that the agent alone writes is copied, and switched in one write. Flows move
// with a mark on each entry, by internal/datapath/conntrack. What programs write
// whole, and could do without, is copied behind them.
//
// What always holds: one table moves at a time; no entry is lost and no packet
// misses one; the two slots of an outer map are all that there is to know about a
// move, so that whoever finds them can end it; and a size that would not hold the
// entries, or memory that is not there, is refused before anything has begun.
package resize
