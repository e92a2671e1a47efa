package datapath

import "github.com/placid-net/placid/internal/datapath/loader"

// FindCgroup returns what Config.CgroupRoot is to be on this node. configured is
// the key cgroup-root: a path on the node, or empty for the root of its cgroup2
// hierarchy. The error says what is missing and what to do about it.
func FindCgroup(configured string) (string, error) { return loader.FindCgroup(configured) }

// openSockets chooses where sockets are balanced. Where nothing is chosen, the audit
// of links removes what an earlier agent attached.
func (d *Datapath) openSockets() error {
	if !d.node.cfg.Services.Enabled || d.node.cfg.CgroupRoot == "" {
		return nil
	}
	return d.loader.OpenCgroup(d.node.cfg.CgroupRoot)
}
