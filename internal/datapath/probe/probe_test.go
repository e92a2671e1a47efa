package probe

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestRun(t *testing.T) {
	with := func(err error) func() error { return func() error { return err } }
	optional := func(err error) feature { return feature{"nice", "6.9", false, "slower", with(err)} }
	required := func(err error) feature { return feature{"basic", "6.6", true, "", with(err)} }
	for _, tc := range []struct {
		name  string
		table []feature
		is    error
		say   []string
		rows  int
	}{
		{"all there", []feature{required(nil), optional(nil)}, nil, nil, 2},
		{"an optional one is missing", []feature{required(nil), optional(ebpf.ErrNotSupported)}, nil, nil, 2},
		{"a required one is missing", []feature{required(ebpf.ErrNotSupported), optional(nil)}, ErrMissing, []string{"basic (needs Linux 6.6)", Kernel()}, 2},
		{"no permission", []feature{required(unix.EPERM), optional(nil)}, ErrNoPermission, []string{"probe basic", "privileged"}, 0},
		{"no access", []feature{optional(os.NewSyscallError("bpf", unix.EACCES))}, ErrNoPermission, []string{"probe nice"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := run(tc.table)
			if !errors.Is(err, tc.is) || len(got) != tc.rows {
				t.Fatalf("run = %+v, %v", got, err)
			}
			for _, part := range tc.say {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
			for i, f := range got {
				missing := tc.table[i].probe() != nil
				if f.Available == missing || f.Name != tc.table[i].name || (f.Effect != "") != (missing && !f.Required) {
					t.Errorf("row %+v of %+v", f, tc.table[i])
				}
			}
		})
	}
}

func TestTable(t *testing.T) {
	names := map[string]bool{}
	for _, f := range table() {
		if names[f.name] || f.since == "" || f.required == (f.effect != "") {
			t.Errorf("row %+v", f)
		}
		names[f.name] = true
	}
}
