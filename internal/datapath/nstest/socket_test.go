package nstest

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/testutil"
)

// Sockets are balanced in the node's cgroup while services are on; switched off, and
// at clean-up, nothing is left there. What the programs do is tested in socktest.
func TestSocketPrograms(t *testing.T) {
	n := newCluster(t, options{change: func(cfg *datapath.Config) {
		cfg.Services.Enabled = true
		cfg.CgroupRoot = testutil.NewCgroup(t)
	}}).nodes[0]
	n.start(t)
	links := n.socketLinks(t)
	if len(links) != socketPrograms {
		t.Fatalf("pinned links of sockets: %v", links)
	}
	for _, p := range n.status(t).Programs {
		if strings.HasPrefix(p.Name, "sock_") && p.Links != 1 {
			t.Errorf("program %s has %d links", p.Name, p.Links)
		}
	}
	n.restart(t)
	if after := n.socketLinks(t); !maps.Equal(after, links) {
		t.Errorf("after a restart: %v, before %v", after, links)
	}

	n.cfg.Services.Enabled = false
	n.restart(t)
	if left := n.socketLinks(t); len(left) != 0 {
		t.Errorf("without services: %v", left)
	}

	n.cfg.Services.Enabled = true
	n.restart(t)
	if again := n.socketLinks(t); len(again) != socketPrograms {
		t.Errorf("with services again: %v", again)
	}
	n.must(t, "Cleanup", n.cfg.BPFRoot)
	if left, err := filepath.Glob(filepath.Join(n.cfg.BPFRoot, loader.Folder, "links", "*")); len(left) != 0 || err != nil {
		t.Errorf("after clean-up: %v, %v", left, err)
	}
}

const socketPrograms = 8

// socketLinks gives the ids of the pinned links that run in a cgroup.
func (n *node) socketLinks(t testing.TB) map[string]uint32 {
	t.Helper()
	links, _, _ := n.kernelIDs(t)
	maps.DeleteFunc(links, func(name string, _ uint32) bool { return !strings.HasPrefix(name, loader.CgroupDevice+":") })
	return links
}
