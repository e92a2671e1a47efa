package k8s

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/api/v1alpha1"
)

const (
	policiesPath   = "/apis/networking.k8s.io/v1/networkpolicies"
	namespacesPath = "/api/v1/namespaces"
	identitiesPath = "/apis/placid.io/v1alpha1/placididentities"
	endpointsPath  = "/apis/placid.io/v1alpha1/placidendpoints"
	coreNodesPath  = "/api/v1/nodes"

	ciliumPath      = "/apis/cilium.io/v2"
	cnpPath         = ciliumPath + "/ciliumnetworkpolicies"
	clusterwidePath = ciliumPath + "/ciliumclusterwidenetworkpolicies"
	groupsPath      = ciliumPath + "/ciliumcidrgroups"
)

// examples has an object without a name of each resource.
func examples() map[string]object {
	return map[string]object{
		nodesPath: node(""), podsPath: pod("", "", ""), policiesPath: networkPolicy("", ""), namespacesPath: namespace("", nil),
		identitiesPath: identityObject("", nil), endpointsPath: nodeEndpoints(""), coreNodesPath: coreNode("", ""),
		servicesPath: service("", ""), slicesPath: slice("", "", ""),
		cnpPath: cnp("", ""), clusterwidePath: ccnp(""), groupsPath: cidrGroup(""),
	}
}

func meta(kind, version string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: version}
}

func networkPolicy(ns, name string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta: meta("NetworkPolicy", "networking.k8s.io/v1"), ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
	}
}

func cnp(ns, name string, specs ...*v2.Rule) *v2.CiliumNetworkPolicy {
	return &v2.CiliumNetworkPolicy{
		TypeMeta: meta("CiliumNetworkPolicy", "cilium.io/v2"), ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Specs: specs,
	}
}

func ccnp(name string, specs ...*v2.Rule) *v2.CiliumClusterwideNetworkPolicy {
	return &v2.CiliumClusterwideNetworkPolicy{
		TypeMeta: meta("CiliumClusterwideNetworkPolicy", "cilium.io/v2"), ObjectMeta: metav1.ObjectMeta{Name: name}, Specs: specs,
	}
}

func cidrGroup(name string, cidrs ...string) *v2.CiliumCIDRGroup {
	return &v2.CiliumCIDRGroup{
		TypeMeta: meta("CiliumCIDRGroup", "cilium.io/v2"), ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v2.CIDRGroupSpec{ExternalCIDRs: cidrs},
	}
}

func namespace(name string, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{TypeMeta: meta("Namespace", "v1"), ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

func identityObject(name string, labels map[string]string) *v1alpha1.PlacidIdentity {
	return &v1alpha1.PlacidIdentity{
		TypeMeta: meta("PlacidIdentity", "placid.io/v1alpha1"), ObjectMeta: metav1.ObjectMeta{Name: name}, Labels: labels,
	}
}

func nodeEndpoints(name string, eps ...v1alpha1.PublishedEndpoint) *v1alpha1.PlacidEndpoints {
	return &v1alpha1.PlacidEndpoints{
		TypeMeta: meta("PlacidEndpoints", "placid.io/v1alpha1"), ObjectMeta: metav1.ObjectMeta{Name: name}, Endpoints: eps,
	}
}

func coreNode(name, uid string) *corev1.Node {
	return &corev1.Node{TypeMeta: meta("Node", "v1"), ObjectMeta: metav1.ObjectMeta{Name: name, UID: typesUID(uid)}}
}

func (s *apiServer) getNamed(w http.ResponseWriter, r *http.Request, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[path][strings.TrimPrefix(r.URL.Path, path+"/")]
	if !ok {
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, r.URL.Path)
		return
	}
	reply(w, o)
}

// writeEndpoints creates, replaces and deletes as the real server does.
func (s *apiServer) writeEndpoints(w http.ResponseWriter, r *http.Request) {
	raw := readAll(s.t, r)
	var obj v1alpha1.PlacidEndpoints
	var opts metav1.DeleteOptions
	var err error
	if r.Method == http.MethodDelete {
		err = json.Unmarshal(raw, &opts)
	} else {
		err = json.Unmarshal(raw, &obj)
		if strings.Contains(string(raw), ":null") {
			err = fmt.Errorf("%s %s has a null: the API server refuses it: %s", r.Method, r.URL.Path, raw)
		}
	}
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, endpointsPath), "/")
	if r.Method == http.MethodPost {
		name = obj.Name
	}
	old, exists := s.objects[endpointsPath][name]
	s.writes = append(s.writes, fmt.Sprintf("%s %d", r.Method, len(obj.Endpoints)))
	switch {
	case r.Method == http.MethodPost && exists:
		fail(w, http.StatusConflict, metav1.StatusReasonAlreadyExists, name)
		return
	case r.Method != http.MethodPost && !exists:
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, name)
		return
	case r.Method == http.MethodPut && obj.ResourceVersion != old.GetResourceVersion(),
		opts.Preconditions != nil && *opts.Preconditions.UID != old.GetUID():
		fail(w, http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified")
		return
	case r.Method == http.MethodDelete:
		s.removeLocked(endpointsPath, name)
		reply(w, metav1.Status{TypeMeta: meta("Status", "v1"), Status: metav1.StatusSuccess})
		return
	case r.Method == http.MethodPost:
		obj.UID = typesUID(fmt.Sprintf("uid-%d", s.version))
	}
	obj.TypeMeta = nodeEndpoints("").TypeMeta
	s.putLocked(endpointsPath, &obj)
	reply(w, &obj)
}

// endpoints returns what is stored for a node, nil for nothing, and the writes
// so far.
func (s *apiServer) endpoints(node string) (obj *v1alpha1.PlacidEndpoints, writes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.objects[endpointsPath][node]; ok {
		obj = o.DeepCopyObject().(*v1alpha1.PlacidEndpoints)
	}
	return obj, slices.Clone(s.writes)
}
