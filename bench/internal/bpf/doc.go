// Package bpf holds the compiled programs that measure others with
// BPF_PROG_TEST_RUN, and what those are measured against. It holds no hand-written
// code; the sources are in bench/bpf.
package bpf

//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package bpf -target bpfel -cc clang -cflags "-O2 -g -Wall -Werror -nostdinc -I../../../bpf/include" -no-global-types Bench ../../bpf/bench.bpf.c
//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package bpf -target bpfel -cc clang -cflags "-O2 -mcpu=v3 -g -Wall -Werror -nostdinc -I../../../bpf -I../../../bpf/include" -no-global-types Plain ../../bpf/plain.bpf.c
