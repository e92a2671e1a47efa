// Package bpf holds the compiled programs that measure others with
// BPF_PROG_TEST_RUN. It holds no hand-written code; the source is
// bench/bpf/bench.bpf.c.
package bpf

//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package bpf -target bpfel -cc clang -cflags "-O2 -g -Wall -Werror -nostdinc -I../../../bpf/include" -no-global-types Bench ../../bpf/bench.bpf.c
