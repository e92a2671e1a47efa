// Package bpf holds the compiled programs and their generated loaders, one
// object an attach point. It holds no hand-written code.
package bpf

//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package bpf -target bpfel -cc clang -cflags "-O2 -mcpu=v3 -g -Wall -Werror -nostdinc -I../../../bpf -I../../../bpf/include" -no-global-types Pod ../../../bpf/pod.bpf.c
//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package bpf -target bpfel -cc clang -cflags "-O2 -mcpu=v3 -g -Wall -Werror -nostdinc -I../../../bpf -I../../../bpf/include" -no-global-types Netdev ../../../bpf/netdev.bpf.c
//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package bpf -target bpfel -cc clang -cflags "-O2 -mcpu=v3 -g -Wall -Werror -nostdinc -I../../../bpf -I../../../bpf/include" -no-global-types Overlay ../../../bpf/overlay.bpf.c
//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package bpf -target bpfel -cc clang -cflags "-O2 -mcpu=v3 -g -Wall -Werror -nostdinc -I../../../bpf -I../../../bpf/include" -no-global-types -type ct_filter -type ct_totals -type ct_moves -type ct_record -type ct_phase -type ct_kind -type counts Tables ../../../bpf/tables.bpf.c
//go:generate go tool -modfile=../../../tools/go.mod bpf2go -go-package bpf -target bpfel -cc clang -cflags "-O2 -mcpu=v3 -g -Wall -Werror -nostdinc -I../../../bpf -I../../../bpf/include" -no-global-types Sock ../../../bpf/sock.bpf.c
