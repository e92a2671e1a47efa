package cni

import (
	"maps"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/agentapi/agentapitest"
	"github.com/placid-net/placid/internal/state"
)

// TestBadRequests lists what the plugin refuses: the agent, which would grant
// it all, is never asked.
func TestBadRequests(t *testing.T) {
	long := strings.Repeat("x", 254)
	for _, tc := range []struct {
		name, command string
		vars          map[string]string
		stdin         string // instead of the configuration
		version       string // instead of 1.1.0
		extra         string
		code          uint
		part          string
	}{
		// Environment.
		{name: "unknown command", command: "MOVE", code: 4, part: "CNI_COMMAND: MOVE"},
		{name: "no container id", command: "ADD", vars: map[string]string{"CNI_CONTAINERID": ""}, code: 4, part: "CNI_CONTAINERID"},
		{name: "no container id in DEL", command: "DEL", vars: map[string]string{"CNI_CONTAINERID": ""}, code: 4, part: "CNI_CONTAINERID"},
		{name: "no container id in CHECK", command: "CHECK", vars: map[string]string{"CNI_CONTAINERID": ""}, code: 4, part: "CNI_CONTAINERID"},
		{name: "container id with a slash", command: "ADD", vars: map[string]string{"CNI_CONTAINERID": "../x"}, code: 4, part: "containerID"},
		{name: "no netns", command: "ADD", vars: map[string]string{"CNI_NETNS": ""}, code: 4, part: "CNI_NETNS"},
		{name: "no netns in CHECK", command: "CHECK", vars: map[string]string{"CNI_NETNS": ""}, code: 4, part: "CNI_NETNS"},
		{name: "relative netns", command: "ADD", vars: map[string]string{"CNI_NETNS": "netns/x"}, code: 4, part: "CNI_NETNS"},
		{name: "netns is gone", command: "ADD", vars: map[string]string{"CNI_NETNS": "/run/netns/gone"}, code: 8, part: "/run/netns/gone does not exist"},
		{name: "netns is the node's", command: "ADD", vars: map[string]string{"CNI_NETNS": "/proc/thread-self/ns/net"}, code: 8, part: "the node's own network namespace"},
		{name: "no interface", command: "ADD", vars: map[string]string{"CNI_IFNAME": ""}, code: 4, part: "CNI_IFNAME"},
		{name: "interface of 16 characters", command: "ADD", vars: map[string]string{"CNI_IFNAME": "abcdefghijklmnop"}, code: 4, part: "interface name is too long"},
		{name: "interface with a slash", command: "ADD", vars: map[string]string{"CNI_IFNAME": "eth/0"}, code: 4, part: "interface name contains /"},
		{name: "interface with a space", command: "ADD", vars: map[string]string{"CNI_IFNAME": "eth 0"}, code: 4, part: "whitespace"},
		{name: "interface with a tab in DEL", command: "DEL", vars: map[string]string{"CNI_IFNAME": "eth\t0"}, code: 4, part: "whitespace"},
		{name: "interface is ..", command: "ADD", vars: map[string]string{"CNI_IFNAME": ".."}, code: 4, part: "interface name is"},
		{name: "interface is a pattern", command: "ADD", vars: map[string]string{"CNI_IFNAME": "eth%d"}, code: 4, part: "CNI_IFNAME"},
		{name: "interface is no text", command: "ADD", vars: map[string]string{"CNI_IFNAME": "eth\xff"}, code: 4, part: "CNI_IFNAME"},
		{name: "no path", command: "STATUS", vars: map[string]string{"CNI_PATH": ""}, code: 4, part: "CNI_PATH"},
		{name: "args are no pairs", command: "ADD", vars: map[string]string{"CNI_ARGS": "K8S_POD_NAME"}, code: 4, part: "CNI_ARGS"},
		{name: "unknown args", command: "ADD", vars: map[string]string{"CNI_ARGS": "FOO=bar"}, code: 4, part: "FOO=bar"},
		{name: "args name a Go field", command: "ADD", vars: map[string]string{"CNI_ARGS": "CommonArgs=1"}, code: 4, part: "CommonArgs"},
		{name: "IgnoreUnknown is no boolean", command: "ADD", vars: map[string]string{"CNI_ARGS": "IgnoreUnknown=maybe"}, code: 4, part: "IgnoreUnknown"},
		{name: "pod without a namespace", command: "ADD", vars: map[string]string{"CNI_ARGS": "K8S_POD_NAME=p"}, code: 4, part: "K8S_POD_NAMESPACE"},
		{name: "namespace without a pod", command: "CHECK", vars: map[string]string{"CNI_ARGS": "K8S_POD_NAMESPACE=p"}, extra: prevResultConf, code: 4, part: "K8S_POD_NAME "},
		{name: "pod name with a slash", command: "ADD", vars: map[string]string{"CNI_ARGS": "K8S_POD_NAMESPACE=n;K8S_POD_NAME=../p"}, code: 4, part: "K8S_POD_NAME is"},
		{name: "pod name too long", command: "ADD", vars: map[string]string{"CNI_ARGS": "K8S_POD_NAMESPACE=n;K8S_POD_NAME=" + long}, code: 4, part: "at most 253"},
		{name: "pod UID with a newline", command: "ADD", vars: map[string]string{"CNI_ARGS": "K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;K8S_POD_UID=a\nb"}, code: 4, part: "K8S_POD_UID"},

		// Configuration that does not decode.
		{name: "no configuration", command: "ADD", stdin: " ", code: 6, part: "network config"},
		{name: "configuration is cut off", command: "ADD", stdin: `{"cniVersion":"1.1.0","name":"placid"`, code: 6, part: "network config"},
		{name: "configuration is a list", command: "ADD", stdin: `[]`, code: 6, part: "network config"},
		{name: "no name", command: "ADD", stdin: `{"cniVersion":"1.1.0"}`, code: 7, part: "missing network name"},
		{name: "bad name", command: "ADD", stdin: `{"cniVersion":"1.1.0","name":"a/b"}`, code: 7, part: "network name"},
		{name: "name is a number", command: "ADD", stdin: `{"cniVersion":"1.1.0","name":7}`, code: 6, part: "name"},
		{name: "socketPath is a number", command: "ADD", extra: `,"socketPath":7`, code: 6, part: "socketPath is a JSON number, want string"},
		{name: "socketPath is a number in DEL", command: "DEL", extra: `,"socketPath":7`, code: 6, part: "socketPath"},
		{name: "socketPath is a number in GC", command: "GC", extra: `,"socketPath":7`, code: 6, part: "socketPath"},
		{name: "pendingDir is a list", command: "DEL", extra: `,"pendingDir":[]`, code: 6, part: "pendingDir"},
		{name: "mtu is a string", command: "ADD", extra: `,"mtu":"1500"`, code: 6, part: "mtu is a JSON string, want int"},
		{name: "mtu is a fraction", command: "ADD", extra: `,"mtu":1500.5`, code: 6, part: "mtu"},
		{name: "logFile is true", command: "ADD", extra: `,"logFile":true`, code: 6, part: "logFile"},
		{name: "runtimeConfig is a string", command: "ADD", extra: `,"runtimeConfig":"x"`, code: 6, part: "runtimeConfig"},
		{name: "bandwidth is a list", command: "ADD", extra: `,"runtimeConfig":{"bandwidth":[]}`, code: 6, part: "runtimeConfig.bandwidth"},
		{name: "ingressRate is a string", command: "ADD", extra: `,"runtimeConfig":{"bandwidth":{"ingressRate":"1M"}}`, code: 6, part: "runtimeConfig.bandwidth.ingressRate"},
		{name: "egressBurst is too large", command: "ADD", extra: `,"runtimeConfig":{"bandwidth":{"egressBurst":1e30}}`, code: 6, part: "runtimeConfig.bandwidth.egressBurst"},
		{name: "dns is a string", command: "ADD", extra: `,"dns":"1.1.1.1"`, code: 6, part: "dns"},
		{name: "nameservers is a string", command: "ADD", extra: `,"dns":{"nameservers":"1.1.1.1"}`, code: 6, part: "dns.nameservers"},
		{name: "prevResult is a string", command: "ADD", extra: `,"prevResult":"x"`, code: 7, part: "must be the first plugin"},
		{name: "prevResult is a string in CHECK", command: "CHECK", extra: `,"prevResult":"x"`, code: 6, part: "prevResult"},

		// Configuration that decodes and is wrong.
		{name: "no version", command: "ADD", stdin: `{"name":"placid"}`, code: 1, part: `config is "0.1.0"`},
		{name: "old version", command: "ADD", version: "0.3.1", code: 1, part: "0.3.1"},
		{name: "future version", command: "ADD", version: "2.0.0", code: 1, part: "2.0.0"},
		{name: "version is no version", command: "CHECK", version: "one", code: 6, part: "one"},
		{name: "GC before 1.1.0", command: "GC", version: "1.0.0", code: 1, part: "does not allow GC"},
		{name: "STATUS before 1.1.0", command: "STATUS", version: "0.4.0", code: 1, part: "does not allow STATUS"},
		{name: "behind another plugin", command: "ADD", extra: prevResultConf, code: 7, part: "must be the first plugin of the chain"},
		{name: "behind another plugin that did nothing", command: "ADD", extra: `,"prevResult":{}`, code: 7, part: "must be the first plugin of the chain"},
		{name: "relative socketPath", command: "ADD", extra: `,"socketPath":"agent.sock"`, code: 7, part: "socketPath"},
		{name: "relative socketPath in DEL", command: "DEL", extra: `,"socketPath":"agent.sock"`, code: 7, part: "socketPath"},
		{name: "socketPath too long", command: "ADD", extra: `,"socketPath":"/` + long + `"`, code: 7, part: "at most 107"},
		{name: "relative pendingDir", command: "ADD", extra: `,"pendingDir":"x"`, code: 7, part: "pendingDir"},
		{name: "relative logFile", command: "STATUS", extra: `,"logFile":"x"`, code: 7, part: "logFile"},
		{name: "mtu below IPv6's", command: "ADD", extra: `,"mtu":1279`, code: 7, part: "mtu is 1279: allowed are 1280 to 65520"},
		{name: "mtu negative", command: "ADD", extra: `,"mtu":-1`, code: 7, part: "mtu is -1"},
		{name: "mtu too large", command: "CHECK", extra: `,"mtu":65521` + prevResultConf, code: 7, part: "mtu is 65521"},
		{name: "log level", command: "ADD", extra: `,"logLevel":"loud"`, code: 7, part: `logLevel is "loud": allowed are debug`},
		{name: "foreign ipam", command: "ADD", extra: `,"ipam":{"type":"host-local"}`, code: 7, part: "ipam.type"},
		{name: "negative rate", command: "ADD", extra: `,"runtimeConfig":{"bandwidth":{"ingressRate":-1}}`, code: 7, part: "runtimeConfig.bandwidth.ingressRate is -1"},
		{name: "negative burst", command: "ADD", extra: `,"runtimeConfig":{"bandwidth":{"egressRate":1,"egressBurst":-1}}`, code: 7, part: "runtimeConfig.bandwidth.egressBurst is -1"},
		{name: "burst without a rate", command: "ADD", extra: `,"runtimeConfig":{"bandwidth":{"ingressBurst":1}}`, code: 7, part: "without ingressRate"},
		{name: "host port 0", command: "ADD", extra: portMappings(`{"hostPort":0,"containerPort":80,"protocol":"tcp"}`), code: 7, part: "runtimeConfig.portMappings[0].hostPort is 0: allowed are 1 to 65535"},
		{name: "host port too large", command: "ADD", extra: portMappings(`{"hostPort":65536,"containerPort":80,"protocol":"tcp"}`), code: 7, part: "hostPort is 65536"},
		{name: "container port negative", command: "ADD", extra: portMappings(`{"hostPort":80,"containerPort":80},{"hostPort":81,"containerPort":-1}`), code: 7, part: "portMappings[1].containerPort is -1"},
		{name: "unknown protocol", command: "ADD", extra: portMappings(`{"hostPort":80,"containerPort":80,"protocol":"icmp"}`), code: 7, part: `portMappings[0].protocol is "icmp": allowed are tcp, udp and sctp`},
		{name: "host IP is a name", command: "ADD", extra: portMappings(`{"hostPort":80,"containerPort":80,"hostIP":"localhost"}`), code: 7, part: `hostIP is "localhost"`},
		{name: "host IP has a zone", command: "ADD", extra: portMappings(`{"hostPort":80,"containerPort":80,"hostIP":"fe80::1%eth0"}`), code: 7, part: "hostIP is"},
		{name: "host port twice", command: "ADD", extra: portMappings(`{"hostPort":80,"containerPort":80},{"hostPort":80,"containerPort":81,"protocol":"TCP"}`), code: 7, part: "portMappings[1] is hostPort 80/TCP, which portMappings[0] has too"},
		{name: "host port is a string", command: "ADD", extra: portMappings(`{"hostPort":"80","containerPort":80}`), code: 6, part: "runtimeConfig.portMappings.hostPort is a JSON string"},
		{name: "port mappings are an object", command: "ADD", extra: `,"runtimeConfig":{"portMappings":{}}`, code: 6, part: "runtimeConfig.portMappings"},

		// CHECK's prevResult.
		{name: "no prevResult", command: "CHECK", code: 7, part: "prevResult is missing"},
		{name: "prevResult of another version", command: "CHECK", extra: `,"prevResult":{"cniVersion":"0.4.0"}`, code: 7, part: "prevResult.cniVersion"},
		{name: "prevResult's address is no address", command: "CHECK", extra: `,"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.0.0"}]}`, code: 6, part: "prevResult"},
		{name: "prevResult's addresses are a number", command: "CHECK", extra: `,"prevResult":{"ips":7}`, code: 6, part: "prevResult: ips is a JSON number"},
		{name: "prevResult's index is a string", command: "CHECK", extra: `,"prevResult":{"ips":[{"interface":"0"}]}`, code: 6, part: "ips.interface"},
		{name: "prevResult without addresses", command: "CHECK", extra: `,"prevResult":{"cniVersion":"1.1.0"}`, code: 7, part: "no address of eth0"},
		{name: "prevResult of another interface", command: "CHECK", vars: map[string]string{"CNI_IFNAME": "net1"}, extra: prevResultConf, code: 7, part: "no address of net1"},
		{name: "prevResult with a null address", command: "CHECK", extra: `,"prevResult":{"cniVersion":"1.1.0","ips":[null]}`, code: 7, part: "prevResult.ips[0]"},
		{name: "prevResult with no address in ips", command: "CHECK", extra: `,"prevResult":{"cniVersion":"1.1.0","ips":[{}]}`, code: 7, part: "prevResult.ips[0].address"},
		{name: "prevResult's index is out of range", command: "CHECK", extra: `,"prevResult":{"cniVersion":"1.1.0","ips":[{"interface":3,"address":"10.0.0.1/32"}]}`, code: 7, part: "prevResult.ips[0].interface is 3"},
		{name: "prevResult's index is negative", command: "CHECK", extra: `,"prevResult":{"cniVersion":"1.1.0","ips":[{"interface":-1,"address":"10.0.0.1/32"}]}`, code: 7, part: "prevResult.ips[0].interface is -1"},
		{name: "prevResult with a null interface", command: "CHECK", extra: `,"prevResult":{"cniVersion":"1.1.0","interfaces":[null],"ips":[{"interface":0,"address":"10.0.0.1/32"}]}`, code: 7, part: "prevResult.ips[0].interface is 0"},

		// GC's list.
		{name: "no list", command: "GC", code: 7, part: "cni.dev/valid-attachments is missing"},
		{name: "list is null", command: "GC", extra: `,"cni.dev/valid-attachments":null`, code: 7, part: "cni.dev/valid-attachments is missing"},
		{name: "list is an object", command: "GC", extra: `,"cni.dev/valid-attachments":{}`, code: 6, part: "cni.dev/valid-attachments"},
		{name: "attachment without a container", command: "GC", extra: `,"cni.dev/valid-attachments":[{"ifname":"eth0"}]`, code: 7, part: "cni.dev/valid-attachments[0].containerID"},
		{name: "attachment without an interface", command: "GC", extra: `,"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"},{"containerID":"b"}]`, code: 7, part: "cni.dev/valid-attachments[1].ifname"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			svc := &agentapitest.Service{AddResult: answer()}
			agentapitest.Serve(t, e.socket, svc)
			maps.Copy(e.vars, tc.vars)
			version := tc.version
			if version == "" {
				version = "1.1.0"
			}
			stdin := tc.stdin
			if stdin == "" {
				stdin = e.conf(version, tc.extra)
			}
			_, err := e.run(t, tc.command, stdin)
			wantError(t, err, tc.code, tc.part)
			if calls := svc.Calls(); len(calls) != 0 {
				t.Errorf("the agent was asked: %+v", calls)
			}
		})
	}
}

// portMappings is a configuration's runtimeConfig with these mappings.
func portMappings(mappings string) string {
	return `,"runtimeConfig":{"portMappings":[` + mappings + `]}`
}

func FuzzParseConf(f *testing.F) {
	e := &env{socket: "/run/placid/agent.sock", pending: "/run/placid/pending-del"}
	for _, extra := range []string{
		"", prevResultConf, `,"mtu":1500,"dns":{"search":["a"]}`, `,"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}]`,
		`,"runtimeConfig":{"bandwidth":{"ingressRate":1,"ingressBurst":2}}`, `,"prevResult":{"ips":[null,{"interface":9}],"interfaces":[null]}`,
		portMappings(`{"hostPort":80,"containerPort":80,"protocol":"sctp","hostIP":"::ffff:192.0.2.1"},{"hostPort":80}`),
	} {
		f.Add([]byte(e.conf("1.1.0", extra)))
		f.Add([]byte(e.conf("0.4.0", extra)))
	}
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		conf, err := parseConf(data)
		if err != nil {
			return
		}
		if addrs, err := expectedAddrs(conf, "eth0"); err == nil {
			for _, a := range addrs {
				if !a.IsValid() {
					t.Errorf("expects an invalid address of %q", data)
				}
			}
		}
		if valid, err := conf.validAttachments(); err == nil && valid == nil {
			t.Errorf("a nil list of valid attachments of %q", data)
		}
		if conf.validate() != nil {
			return
		}
		if conf.SocketPath == "" || conf.PendingDir == "" {
			t.Errorf("no paths of %q", data)
		}
		if b := conf.bandwidth(); b.IngressRate > 1<<63-1 || b.EgressBurst > 1<<63-1 {
			t.Errorf("bandwidth %+v of %q", b, data)
		}
		ports := conf.hostPorts()
		if len(ports) != len(conf.Runtime.PortMappings) {
			t.Errorf("%d host ports of %q", len(ports), data)
		}
		for _, p := range ports {
			if p.HostPort == 0 || p.ContainerPort == 0 || p.Protocol == state.ProtocolAny || p.HostIP.Is4In6() {
				t.Errorf("host port %+v of %q", p, data)
			}
		}
	})
}

func FuzzParsePod(f *testing.F) {
	f.Add("IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c")
	f.Add("CommonArgs=1;;=")
	f.Fuzz(func(t *testing.T, args string) {
		pod, err := parsePod(args)
		if err != nil {
			return
		}
		if (pod.Name == "") != (pod.Namespace == "") || strings.ContainsAny(pod.Namespace+pod.Name+pod.UID, "/ \n;=") {
			t.Errorf("pod %+v of %q", pod, args)
		}
	})
}
