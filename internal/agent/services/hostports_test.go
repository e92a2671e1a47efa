package services

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/state"
)

func TestHostPorts(t *testing.T) {
	endpoint := func(id uint32, addr string, port uint16) state.Endpoint {
		return state.Endpoint{
			ID: id, Attachment: state.AttachmentID{ContainerID: fmt.Sprint(id), IfName: "eth0"}, Pod: state.PodRef{Namespace: ns, Name: "dns", UID: fmt.Sprint(id)},
			IPv4: netip.MustParseAddr(addr), CreatedAt: time.Unix(int64(id), 0),
			HostPorts: []state.HostPort{{Protocol: state.ProtocolUDP, HostPort: port, ContainerPort: 53}},
		}
	}
	at := func(n *node) string {
		out := "none"
		n.kernel.look(func() {
			for key, p := range n.kernel.ports {
				if key.HostPort {
					out = fmt.Sprint(p.Frontends[0].Addr, " to ", p.All[0].Addr)
				}
			}
		})
		return out
	}
	story(t, "a pod that is made anew", func(n *node) {
		n.running()
		n.Must(n.tables.UpsertEndpoint(endpoint(1, "10.0.0.1", 5353)))
		synctest.Wait()
		if got := at(n); got != "192.0.2.1:5353 to 10.0.0.1:53" {
			n.Errorf("served: %s", got)
		}
		if i := n.infos(""); len(i) != 1 || !i[0].HostPort || i[0].Service != ref("dns") || n.runner.Status().HostPorts != 1 || n.runner.Status().Services != 0 {
			n.Errorf("services %+v, status %+v", i, n.runner.Status())
		}
		// The new endpoint may come before the old one goes.
		n.Must(n.tables.UpsertEndpoint(endpoint(2, "10.0.0.2", 5354)))
		synctest.Wait()
		n.Must(n.tables.DeleteEndpoint(1))
		synctest.Wait()
		if got := at(n); got != "192.0.2.1:5354 to 10.0.0.2:53" {
			n.Errorf("served: %s", got)
		}
		n.Must(n.tables.DeleteEndpoint(2))
		synctest.Wait()
		if got := at(n); got != "none" || n.runner.Status().HostPorts != 0 {
			n.Errorf("served: %s", got)
		}
	})
	story(t, "a pod without host ports", func(n *node) {
		n.running()
		ep := endpoint(1, "10.0.0.1", 1)
		ep.HostPorts = nil
		n.Must(n.tables.UpsertEndpoint(ep))
		n.Must(n.tables.DeleteEndpoint(1))
		synctest.Wait()
		if n.kernel.writes > 0 {
			n.Error("something is written")
		}
	})
	story(t, "a port that another pod has", func(n *node) {
		n.running()
		other := endpoint(2, "10.0.0.2", 5353)
		other.Pod.Name = "other"
		n.Must(n.tables.UpsertEndpoint(endpoint(1, "10.0.0.1", 5353)))
		n.Must(n.tables.UpsertEndpoint(other))
		n.Pass(time.Second)
		if e := n.cluster.take(); len(e) != 1 || !strings.HasPrefix(e[0], "pod shop/other Warning ServiceProblem: ") {
			n.Errorf("events %q", e)
		}
		if s := n.runner.Status(); len(s.Problems) != 1 || !strings.HasPrefix(s.Problems[0], "host ports of pod shop/other: ") {
			n.Errorf("problems %q", s.Problems)
		}
	})
}
