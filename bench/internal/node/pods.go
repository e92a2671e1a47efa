package node

import "github.com/placid-net/placid/bench/internal/netlab"

// WithPods calls f with the namespaces of a node, which is joined to another one,
// and of pods of it, described as Spec wants them. They are gone when it returns.
func WithPods(pods int, f func(self *netlab.Namespace, pods []Pod) error) error {
	ns := make([]*netlab.Namespace, 2+pods)
	for i := range ns {
		var err error
		if ns[i], err = netlab.New(); err != nil {
			return err
		}
		defer ns[i].Close()
	}
	if err := netlab.Join(Side(ns[0], 1), Side(ns[1], 2)); err != nil {
		return err
	}
	described := make([]Pod, pods)
	for i, pod := range ns[2:] {
		described[i] = Pod{Netns: pod.Path(), IPv4: PodAddr(1, i+1, false), IPv6: PodAddr(1, i+1, true)}
	}
	return f(ns[0], described)
}
