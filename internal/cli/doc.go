// Package cli is the command line `placid`: it asks the agent of the node it
// runs on and prints what the agent answers, for people as tables and for
// scripts as JSON or YAML.
//
// Invariants: a command is a function of its arguments, its Env and the
// agent's answers, so every command runs in-process in tests. Nouns show and
// change nothing. JSON and YAML are the types of agentapi and state as they
// are, so their fields are only ever added. Output is written whole and only
// after the request succeeded. Only main ends the process; Run returns the
// exit code.
package cli
