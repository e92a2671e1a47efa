package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// maxNameLen is the longest name that Kubernetes gives a pod, in bytes.
const maxNameLen = 253

// k8sArgs are the keys of CNI_ARGS that container runtimes set for Kubernetes.
type k8sArgs struct {
	types.CommonArgs
	K8S_POD_NAMESPACE          types.UnmarshallableString //nolint:revive // types.LoadArgs finds the field by the key's name
	K8S_POD_NAME               types.UnmarshallableString //nolint:revive // types.LoadArgs finds the field by the key's name
	K8S_POD_UID                types.UnmarshallableString //nolint:revive // types.LoadArgs finds the field by the key's name
	K8S_POD_INFRA_CONTAINER_ID types.UnmarshallableString //nolint:revive // types.LoadArgs finds the field by the key's name
}

// newRequest builds the request for the agent. The container id and interface
// name were checked by skel, the configuration by netConf.validate.
func newRequest(args *skel.CmdArgs, conf *netConf) (agentapi.CNIRequest, error) {
	if !filepath.IsAbs(args.Netns) {
		return agentapi.CNIRequest{}, envError(fmt.Sprintf("CNI_NETNS is %q: it must be an absolute path", args.Netns))
	}
	if strings.Contains(args.IfName, "%") || !utf8.ValidString(args.IfName) {
		return agentapi.CNIRequest{}, envError(fmt.Sprintf("CNI_IFNAME is %q: it must be UTF-8 text without '%%'", args.IfName))
	}
	pod, err := parsePod(args.Args)
	if err != nil {
		return agentapi.CNIRequest{}, err
	}
	return agentapi.CNIRequest{
		Attachment: state.AttachmentID{ContainerID: args.ContainerID, IfName: args.IfName},
		Netns:      args.Netns,
		Pod:        pod,
		Bandwidth:  conf.bandwidth(),
		HostPorts:  conf.hostPorts(),
		MTU:        conf.MTU,
	}, nil
}

// parsePod reads the pod from CNI_ARGS, "K=V;K2=V2". Without Kubernetes' keys
// the reference is empty: CNI can be used without Kubernetes.
func parsePod(cniArgs string) (state.PodRef, error) {
	var k k8sArgs
	if err := types.LoadArgs(cniArgs, &k); err != nil {
		return state.PodRef{}, envError("CNI_ARGS: " + err.Error())
	}
	pod := state.PodRef{Namespace: string(k.K8S_POD_NAMESPACE), Name: string(k.K8S_POD_NAME), UID: string(k.K8S_POD_UID)}
	if (pod.Namespace == "") != (pod.Name == "") {
		return state.PodRef{}, envError(fmt.Sprintf(
			"CNI_ARGS: K8S_POD_NAMESPACE is %q and K8S_POD_NAME is %q: set both or neither", pod.Namespace, pod.Name))
	}
	for _, f := range []struct{ key, value string }{
		{"K8S_POD_NAMESPACE", pod.Namespace}, {"K8S_POD_NAME", pod.Name}, {"K8S_POD_UID", pod.UID},
	} {
		if len(f.value) > maxNameLen || strings.ContainsFunc(f.value, notNameRune) {
			return state.PodRef{}, envError(fmt.Sprintf(
				"CNI_ARGS: %s is %.300q: at most %d letters, digits, '-', '_' and '.' are allowed", f.key, f.value, maxNameLen))
		}
	}
	return pod, nil
}

func notNameRune(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		return false
	default:
		return true
	}
}

// checkNetns refuses a namespace that is gone, and the plugin's own before the
// agent makes a pod interface in it; skel would find that out too late.
func checkNetns(args *skel.CmdArgs) error {
	if _, err := os.Stat(args.Netns); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("CNI_NETNS %s does not exist: the sandbox is gone", args.Netns), "")
		}
		return types.NewError(types.ErrInvalidNetNS, "CNI_NETNS: "+err.Error(), "")
	}
	if o := strings.ToUpper(args.NetnsOverride); o == "TRUE" || o == "1" {
		return nil
	}
	own, err := ns.CheckNetNS(args.Netns)
	if err != nil {
		return err
	}
	if own {
		return types.NewError(types.ErrInvalidNetNS,
			fmt.Sprintf("CNI_NETNS %s is the node's own network namespace, not a pod's", args.Netns), "")
	}
	return nil
}
