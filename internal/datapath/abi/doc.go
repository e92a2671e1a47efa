// Package abi is the generated Go form of every type that programs and agent
// share. It holds no hand-written code; the types are declared in
// bpf/lib/types.h.
package abi

//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package abi -target bpfel -cc clang -cflags "-O2 -mcpu=v3 -g -Wall -Werror -nostdinc -I../../../bpf -I../../../bpf/include" -type addr -type hook -type reason -type endpoint_flags -type table_slot -type endpoint_key -type endpoint -type ipcache_key -type ipcache_entry -type identity -type identity_key -type identity_entry -type cidr_key -type cidr_entry -type policy_constants -type policy_key -type policy_entry -type port_range -type port_list -type ct_key -type ct_flags -type way_kind -type ct_way -type ct_entry -type ct_timeout -type settings -type fragment_key -type fragment_ports -type metrics_value -type icmp_budget -type ct_nat -type frontend_key -type frontend -type frontend_flags -type frontend_scope -type backend_list -type backend_key -type backend -type backend_constants -type affinity_key -type affinity_entry -type source_range_key -type native_key -type sock_key -type sock_entry -type config C ../../../bpf/abi.bpf.c
