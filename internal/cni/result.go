package cni

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/placid-net/placid/internal/agentapi"
)

// version110 is the first CNI version whose results carry an MTU.
const version110 = "1.1.0"

// podInterface is the index of the pod's interface in a result.
const podInterface = 1

// buildResult gives the agent's answer the shape of the configuration's CNI
// version: the host's end of the pair first, then the pod's.
func buildResult(conf *netConf, args *skel.CmdArgs, a agentapi.CNIResult) (types.Result, error) {
	ep := a.Endpoint
	var mtu int
	if conf.CNIVersion == version110 {
		mtu = ep.MTU
	}
	res := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: ep.HostIfName, Mac: a.HostMAC.String(), Mtu: mtu},
			{Name: args.IfName, Mac: ep.MAC.String(), Mtu: mtu, Sandbox: args.Netns},
		},
		DNS: conf.DNS,
	}
	for _, family := range []struct{ addr, gateway, any netip.Addr }{
		{ep.IPv4, a.Gateway4, netip.IPv4Unspecified()},
		{ep.IPv6, a.Gateway6, netip.IPv6Unspecified()},
	} {
		if !family.addr.IsValid() {
			continue
		}
		res.IPs = append(res.IPs, &types100.IPConfig{
			Interface: new(podInterface),
			Address:   hostNet(family.addr),
			Gateway:   family.gateway.AsSlice(),
		})
		if family.gateway.IsValid() {
			res.Routes = append(res.Routes, &types.Route{
				Dst: net.IPNet{IP: family.any.AsSlice(), Mask: net.CIDRMask(0, family.any.BitLen())},
				GW:  family.gateway.AsSlice(),
				MTU: mtu,
			})
		}
	}
	if len(res.IPs) == 0 {
		return nil, types.NewError(types.ErrInternal, "placid-agent gave "+ep.Attachment.String()+" no address", "")
	}
	out, err := res.GetAsVersion(conf.CNIVersion)
	if err != nil {
		return nil, types.NewError(types.ErrIncompatibleCNIVersion, err.Error(), "")
	}
	return out, nil
}

// hostNet is addr/32 or addr/128.
func hostNet(addr netip.Addr) net.IPNet {
	return net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
}
