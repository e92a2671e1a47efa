// Package arch holds the tests of the project's structure: which package may
// import which, what each program depends on, and that every package says what
// it is. It has no code of its own.
package arch
