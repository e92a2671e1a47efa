// Package planner measures the commands that plan: whole processes, from the file of
// a large cluster as kubectl writes it to the last line of the answer.
package planner
