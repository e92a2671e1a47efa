// Package trips measures round trips between two pods of one node while something
// else goes on there. Server and client are processes of their own, on the processor
// that everything else is bound to.
package trips
