package cli

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

const serviceListHelp = `List the ports of all Services, and the host ports of this node's pods.

A line is one port in one family. ADDRESS is its first one, KIND what its
addresses are. BACKENDS are those that get new flows. The state is

  realised  the kernel serves it as it should
  pending   the kernel does not yet
  refused   it does not fit: the problem says into which table`

const serviceGetHelp = `Show everything about one Service, or about the host ports of one pod of this node.

For each port and family: where it is served and what clients inside and outside
of the cluster get, its backends, and the entries that it takes in each table,
which are exact. The estimate beside them is what the usual rule says: backends
times ports.`

func (a *app) serviceCommand() *cobra.Command {
	namespace := parsed[string]{kind: "NAMESPACE", parse: parseNamespace}
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the ports of all Services",
		Long:    serviceListHelp,
		Example: "  placid service list\n  placid service list -n kube-system -o json",
		Args:    cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			return a.serviceList(cmd.Context(), namespace.value)
		}),
	}
	list.Flags().VarP(&namespace, "namespace", "n", "only those of this namespace")
	get := &cobra.Command{
		Use:     "get NAMESPACE/NAME",
		Short:   "Show everything about one Service",
		Long:    serviceGetHelp,
		Example: "  placid service get default/web",
		Args:    serviceArg,
		RunE:    a.run(func(cmd *cobra.Command, args []string) error { return a.serviceGet(cmd.Context(), args[0]) }),
	}
	return a.group("service", "Show Services as this node serves them", list, get)
}

// serviceArg checks that a command got one argument, and that it names a Service.
func serviceArg(cmd *cobra.Command, args []string) error {
	if err := oneArg(cmd, args); err != nil {
		return err
	}
	if !agentapi.IsPodName(args[0]) { // the names of both have the same form
		return usagef(cmd, "%q is no service: want NAMESPACE/NAME", args[0])
	}
	return nil
}

func (a *app) services(ctx context.Context, ref string) ([]agentapi.ServiceInfo, error) {
	out, err := ask(ctx, a, "get services", func(ctx context.Context, ag agent) ([]agentapi.ServiceInfo, error) {
		return ag.Services(ctx, ref)
	})
	return nonNil(out), err
}

func (a *app) serviceList(ctx context.Context, namespace string) error {
	found, err := a.services(ctx, "")
	if err != nil {
		return err
	}
	if namespace != "" {
		found = slices.DeleteFunc(found, func(s agentapi.ServiceInfo) bool { return s.Service.Namespace != namespace })
	}
	return a.print(found, func(out *bytes.Buffer) { serviceTable(found).render(out, "") })
}

func (a *app) serviceGet(ctx context.Context, ref string) error {
	found, err := a.services(ctx, ref)
	if err != nil {
		return err
	}
	return a.print(found, func(out *bytes.Buffer) {
		for i, s := range found {
			if i > 0 {
				out.WriteByte('\n')
			}
			serviceText(out, s)
		}
	})
}

func serviceTable(services []agentapi.ServiceInfo) *grid {
	g := newGrid("SERVICE", "PORT", "ADDRESS", "KIND", "FRONTENDS", "BACKENDS", "STATE", "PROBLEM")
	for _, s := range services {
		problems := strings.Join(s.Problems, "; ")
		if len(s.Ports) == 0 {
			g.add(serviceName(s), "-", "-", "-", "0", "0", "-", dash(problems))
		}
		for _, p := range s.Ports {
			g.add(serviceName(s), portName(p), firstAddr(p), kinds(p), strconv.Itoa(len(p.Frontends)),
				strconv.Itoa(active(p)), p.State, dash(portProblem(p, problems)))
		}
	}
	return g
}

func serviceName(s agentapi.ServiceInfo) string {
	if s.HostPort {
		return s.Service.String() + " (pod)"
	}
	return s.Service.String()
}

// portName gives "http 80/TCP", or "80/TCP" for a port without a name.
func portName(p agentapi.ServicePort) string {
	return strings.TrimPrefix(p.Name+" "+strconv.Itoa(int(p.Port))+"/"+p.Protocol.String(), " ")
}

func firstAddr(p agentapi.ServicePort) string {
	if len(p.Frontends) == 0 {
		return "-"
	}
	return p.Frontends[0].Addr.String()
}

// kinds names what the port's frontends are, each once.
func kinds(p agentapi.ServicePort) string {
	var out []string
	for _, f := range p.Frontends {
		if !slices.Contains(out, f.Kind) {
			out = append(out, f.Kind)
		}
	}
	return dash(strings.Join(out, ","))
}

// active counts the backends that get new flows.
func active(p agentapi.ServicePort) int {
	n := 0
	for _, b := range p.Backends {
		if b.State == agentapi.BackendActive {
			n++
		}
	}
	return n
}

func portProblem(p agentapi.ServicePort, others string) string {
	if p.Refusal == nil {
		return others
	}
	return strings.TrimSuffix(refusal(p.Refusal)+"; "+others, "; ")
}
