package loader

import (
	"errors"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
)

func TestPinNames(t *testing.T) {
	for _, tc := range []struct {
		key LinkKey
		pin string
	}{
		{LinkKey{"plc01234567", FromPod}, "plc01234567:from_pod"},
		{LinkKey{"eth0.5", ToNetdev}, "eth0%5:to_netdev"},
		{LinkKey{"placid_vxlan", FromOverlay}, "placid_vxlan:from_overlay"},
		{LinkKey{CgroupDevice, SockConnect4}, "cgroup:sock_connect4"},
	} {
		if got := tc.key.pin(); got != tc.pin || strings.ContainsAny(got, "./") {
			t.Errorf("pin of %+v is %q, want %q", tc.key, got, tc.pin)
		}
		if got := keyOfPin(tc.pin); got != tc.key {
			t.Errorf("%q is the pin of %+v, want %+v", tc.pin, got, tc.key)
		}
	}
}

func TestNotABPFFS(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, abi.CConfig{}, nil); !errors.Is(err, ErrNoBPFFS) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Open of an ordinary folder: %v", err)
	}
	if _, err := Open(dir+"/no", abi.CConfig{}, nil); err == nil || !strings.Contains(err.Error(), "mount -t bpf") {
		t.Errorf("Open of what is not there: %v", err)
	}
	if err := RemoveAll(dir + "/no"); err != nil {
		t.Errorf("RemoveAll of what is not there: %v", err)
	}
}
