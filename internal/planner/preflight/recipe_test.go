package preflight

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/objects"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/planner/verdict"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// recipe is a way in which policies are written, in a small cluster, with what
// follows from it.
type recipe struct {
	Title  string `json:"title"`
	For    string `json:"for"`    // the platform; Placid where it is empty
	Target string `json:"target"` // the version to come
	Labels string `json:"labels"` // the label filter

	// Objects in short, one a line: "name key=value..." of namespaces; "name address
	// podCIDR key=value..." of nodes; "namespace/name key=value... address
	// [name=]port/protocol... sa:account" of pods, which are on the node that their
	// address is of; "namespace/name key=value..." of Services, where app is the
	// selector and all are labels; "namespace/name address port/protocol" of slices;
	// "name cidr..." of groups.
	Namespaces string `json:"namespaces"`
	Nodes      string `json:"nodes"`
	Pods       string `json:"pods"`
	Services   string `json:"services"`
	Slices     string `json:"slices"`
	Groups     string `json:"groups"`

	Policies string `json:"policies"` // as kubectl takes them
	Findings string `json:"findings"` // "severity code object field", in order
	Verdicts string `json:"verdicts"` // "from -> to port/protocol allow|deny"
}

func readRecipe(t testing.TB, path string) recipe {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r recipe
	if err := yaml.UnmarshalStrict(text, &r); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return r
}

var portForm = regexp.MustCompile(`^(?:([a-z-]+)=)?(\d+)/(TCP|UDP|SCTP)$`)

// cluster is the recipe, on top of the common cluster, as objects of the API.
func (r recipe) cluster(common recipe) string {
	var out strings.Builder
	each := func(lines string, write func(name string, words []string)) {
		for line := range strings.Lines(lines) {
			if words := strings.Fields(line); len(words) > 0 {
				write(words[0], words[1:])
			}
		}
	}
	each(common.Namespaces+r.Namespaces, func(name string, words []string) {
		fmt.Fprintf(&out, "---\n{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {%s}}}\n", name, labelsOf(append(words, "kubernetes.io/metadata.name="+name)))
	})
	each(common.Nodes+r.Nodes, func(name string, words []string) {
		fmt.Fprintf(&out, "---\n{apiVersion: v1, kind: Node, metadata: {name: %s, labels: {%s}}, spec: {podCIDRs: [%q]}, status: {addresses: [{type: InternalIP, address: %s}]}}\n",
			name, labelsOf(words[2:]), words[1], words[0])
	})
	each(common.Pods+r.Pods, func(name string, words []string) { writePod(&out, name, words) })
	each(r.Services, func(name string, words []string) {
		ns, name, _ := strings.Cut(name, "/")
		selector := labelsOf(slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.HasPrefix(w, "app=") }))
		fmt.Fprintf(&out, "---\n{apiVersion: v1, kind: Service, metadata: {namespace: %s, name: %s, labels: {%s}}, spec: {clusterIP: 10.96.0.10, ports: [{port: 80}], selector: {%s}}}\n",
			ns, name, labelsOf(words), selector)
	})
	each(r.Slices, func(name string, words []string) {
		ns, name, _ := strings.Cut(name, "/")
		m := portForm.FindStringSubmatch(words[1])
		fmt.Fprintf(&out, "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: %s, name: %s, labels: {kubernetes.io/service-name: %s}}, addressType: IPv4, ports: [{port: %s, protocol: %s}], endpoints: [{addresses: [%s]}]}\n",
			ns, name, name, m[2], m[3], words[0])
	})
	each(r.Groups, func(name string, words []string) {
		fmt.Fprintf(&out, "---\n{apiVersion: cilium.io/v2, kind: CiliumCIDRGroup, metadata: {name: %s}, spec: {externalCIDRs: [%s]}}\n", name, strings.Join(words, ", "))
	})
	return out.String() + "---\n" + r.Policies
}

func writePod(out *strings.Builder, name string, words []string) {
	ns, name, _ := strings.Cut(name, "/")
	var labels, ports []string
	ip, account, node := "", "default", "b"
	for _, w := range words {
		switch m := portForm.FindStringSubmatch(w); {
		case m != nil && m[1] != "":
			ports = append(ports, fmt.Sprintf("{name: %s, containerPort: %s, protocol: %s}", m[1], m[2], m[3]))
		case m != nil:
			ports = append(ports, fmt.Sprintf("{containerPort: %s, protocol: %s}", m[2], m[3]))
		case strings.HasPrefix(w, "sa:"):
			account = w[3:]
		case strings.Contains(w, "="):
			labels = append(labels, w)
		default:
			ip = w
		}
	}
	if strings.HasPrefix(ip, "10.244.1.") {
		node = "a"
	}
	fmt.Fprintf(out, "---\n{apiVersion: v1, kind: Pod, metadata: {namespace: %s, name: %s, labels: {%s}}, spec: {nodeName: %s, serviceAccountName: %s, containers: [{name: c, ports: [%s]}]}, status: {phase: Running, podIPs: [{ip: %s}]}}\n",
		ns, name, labelsOf(labels), node, account, strings.Join(ports, ", "), ip)
}

func labelsOf(words []string) string {
	var out []string
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		out = append(out, fmt.Sprintf("%q: %q", key, value))
	}
	return strings.Join(out, ", ")
}

func (r recipe) load(t testing.TB, common recipe) *snapshot.Snapshot {
	t.Helper()
	s, err := objects.Load(t.Context(), objects.Options{Paths: []string{"-"}, Stdin: strings.NewReader(r.cluster(common))})
	if err != nil {
		t.Fatal(err)
	}
	if r.Labels != "" {
		s.Settings = map[string]string{"labels": r.Labels}
	}
	return s
}

func (r recipe) platform() snapshot.Platform {
	if r.For == "" {
		return snapshot.Placid
	}
	return snapshot.Platform(r.For)
}

func (r recipe) options(t testing.TB) Options {
	t.Helper()
	o := Options{For: r.platform()}
	if r.Target != "" {
		v, err := ParseVersion(r.Target)
		if err != nil {
			t.Fatal(err)
		}
		o.Target = v
	}
	return o
}

func line(f Finding) string {
	return strings.TrimSpace(strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s", f.Severity, f.Code, f.Object, f.Field)), " "))
}

// TestRecipes checks what is found in each recipe, and what the compiler that drives
// the datapath allows there.
func TestRecipes(t *testing.T) {
	paths, err := filepath.Glob("testdata/recipes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 45 {
		t.Fatalf("%d recipes, want at least 45", len(paths))
	}
	common := readRecipe(t, "testdata/cluster.yaml")
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			r := readRecipe(t, path)
			s := r.load(t, common)
			var got []string
			for _, f := range Check(s, r.options(t)) {
				got = append(got, line(f))
			}
			if want := strings.TrimSpace(r.Findings); strings.Join(got, "\n") != want {
				t.Errorf("findings:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
			}
			j := newJudge(t, s, r.platform())
			for want := range strings.Lines(r.Verdicts) {
				j.check(t, strings.TrimSpace(want))
			}
		})
	}
}

// judge is the compiler of the datapath with every pod on its own node.
type judge struct {
	snapshot *snapshot.Snapshot
	tables   policy.Tables
	at       map[string]int // pods by name
}

func newJudge(t testing.TB, s *snapshot.Snapshot, platform snapshot.Platform) *judge {
	t.Helper()
	side, _, err := verdict.SideOf(s, platform)
	if err != nil {
		t.Fatal(err)
	}
	e := policy.NewEngine(policy.Config{
		PodLabelKnown: side.Filter.KeepPodLabel, NamespaceLabelKnown: side.Filter.KeepNamespaceLabel,
		DerivedLabelKnown: func(key string) bool { return side.Filter.Keep(identity.SourceKubernetes, key) },
	})
	namespaces := map[string]state.Namespace{}
	for _, n := range s.Namespaces {
		namespaces[n.Name] = n
	}
	j := &judge{snapshot: s, at: map[string]int{}}
	for i, p := range s.Pods {
		j.at[p.Ref.String()] = i
		all := identity.PodLabels(p.Pod, namespaces[p.Ref.Namespace], "default")
		labels, ports := identity.Of(p.Pod, namespaces[p.Ref.Namespace], "default", side.Filter)
		e.SetIdentity(state.Identity{ID: podIdentity(i), Labels: labels, NamedPorts: ports})
		derived := map[string]string{}
		for key, value := range all {
			if key == namespaceName || strings.HasPrefix(key, podPrefix+"io.cilium.k8s.") {
				derived[key] = value
			}
		}
		e.SetSubject(policy.Subject{Endpoint: uint32(i) + 1, Pod: p.Ref, Labels: p.Labels, Derived: derived, NamedPorts: p.NamedPorts})
	}
	for _, p := range side.Policies {
		e.SetPolicy(p)
	}
	j.tables = e.Tables()
	return j
}

func podIdentity(i int) uint32 { return state.IdentityMin + uint32(i) }

// end is one end of a connection: a pod, or an address.
type end struct {
	pod  int // -1: none
	addr netip.Addr
	id   uint32
}

func (j *judge) end(t testing.TB, name, other string) end {
	t.Helper()
	if i, ok := j.at[name]; ok {
		return end{i, j.snapshot.Pods[i].Addrs[0], podIdentity(i)}
	}
	home := ""
	if i, ok := j.at[other]; ok {
		home = j.snapshot.Pods[i].Node
	}
	for _, n := range j.snapshot.Nodes {
		mine := n.Name == home
		if name == "host" && mine || name == "remote-node" && !mine || name == n.Addrs[0].String() {
			id := state.IdentityRemoteNode
			if mine {
				id = state.IdentityHost
			}
			return end{-1, n.Addrs[0], id}
		}
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		t.Fatalf("%q is neither a pod nor a node nor an address", name)
	}
	return end{-1, addr, state.IdentityWorld}
}

// check judges one line: "from -> to port/protocol allow|deny".
func (j *judge) check(t testing.TB, line string) {
	t.Helper()
	words := strings.Fields(line)
	if len(words) != 5 || words[1] != "->" {
		t.Fatalf("%q is no verdict", line)
	}
	from, to := j.end(t, words[0], words[2]), j.end(t, words[2], words[0])
	number, protocol, _ := strings.Cut(words[3], "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	allowed := true
	ask := func(of end, peer end, egress bool) {
		if of.pod >= 0 {
			allowed = allowed && j.tables.Judge(policy.Query{
				Endpoint: uint32(of.pod) + 1, Egress: egress, Peer: peer.addr, Identity: peer.id, Port: uint16(port),
				Protocol: map[string]state.Protocol{"TCP": state.ProtocolTCP, "UDP": state.ProtocolUDP, "ICMP": state.ProtocolICMP}[protocol],
			}).Allowed
		}
	}
	ask(from, to, true)
	ask(to, from, false)
	if want := words[4] == "allow"; allowed != want {
		t.Errorf("%s: allowed %v", line, allowed)
	}
}
