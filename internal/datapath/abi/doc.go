// Package abi is the generated Go form of every type that programs and agent
// share. It holds no hand-written code; the types are declared in
// bpf/lib/types.h.
package abi

//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package abi -target bpfel -cc clang -cflags "-O2 -g -Wall -Werror -nostdinc -I../../../bpf -I../../../bpf/include" -type addr -type hook -type reason -type endpoint_flags -type table_slot -type endpoint_key -type endpoint -type ipcache_key -type ipcache_entry -type metrics_value -type icmp_budget -type config C ../../../bpf/abi.bpf.c
