package objects

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc" // kubeconfigs may say so
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

const (
	// pageSize is how many objects one request asks for.
	pageSize = 500
	// requestTimeout is how long one request may take unless Options say otherwise.
	requestTimeout = 30 * time.Second
	// requestsPerSecond and requestBurst bound what a read costs the API server.
	requestsPerSecond, requestBurst = 50, 100
	userAgent                       = "placid"
)

// listing is a kind of object as the API server lists it.
type listing struct {
	list typeMeta
	what string
	// paths are where it may be; the first that is there and open counts.
	paths []string
	// custom ones need not exist.
	custom bool
	// name restricts the list to objects of that name.
	name string
}

// listings returns what is listed, in order.
func listings() []listing {
	core := func(kind, what string) listing {
		return listing{list: typeMeta{"v1", kind + "List"}, what: what, paths: []string{"/api/v1/" + what}}
	}
	group := func(version, kind, what string, custom bool) listing {
		return listing{list: typeMeta{version, kind + "List"}, what: what, paths: []string{"/apis/" + version + "/" + what}, custom: custom}
	}
	groups := group("cilium.io/v2", "CiliumCIDRGroup", "ciliumcidrgroups", true)
	groups.paths = append(groups.paths, "/apis/cilium.io/v2alpha1/ciliumcidrgroups")
	out := []listing{
		core("Node", "nodes"), core("Namespace", "namespaces"),
		group("networking.k8s.io/v1", kindNetworkPolicy, "networkpolicies", false),
		group("cilium.io/v2", kindCilium, "ciliumnetworkpolicies", true),
		group("cilium.io/v2", kindClusterwide, "ciliumclusterwidenetworkpolicies", true),
		groups,
		core("Service", "services"), group("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", false),
		group("cilium.io/v2", "CiliumNode", "ciliumnodes", true), group("placid.io/v1alpha1", "PlacidNode", "placidnodes", true),
		core("Pod", "pods"),
	}
	for _, name := range configNames() {
		out = append(out, listing{
			list: typeMeta{"v1", "ConfigMapList"}, what: "configmaps", name: name,
			paths: []string{"/api/v1/configmaps", "/api/v1/namespaces/kube-system/configmaps"},
		})
	}
	return out
}

// live reads the API server.
func (l *loader) live(ctx context.Context) error {
	client, host, err := l.connect()
	if err != nil {
		return err
	}
	for _, res := range listings() {
		err := l.kind(ctx, client, res)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%w in time: %s, asked for %s: %w", ErrUnreachable, host, res.what, context.Cause(ctx))
		case err == nil:
		case apierrors.IsUnauthorized(err):
			return fmt.Errorf("the API server %s does not know us: %w; log in again, or choose another --context", host, err)
		case apierrors.ReasonForError(err) != "" || errors.Is(err, errAnswer):
			return fmt.Errorf("list %s of the API server %s: %w", res.what, host, err)
		default:
			return fmt.Errorf("%w: %s, asked for %s: %w; check --kubeconfig and --context, or give files instead", ErrUnreachable, host, res.what, err)
		}
	}
	return nil
}

// connect makes a client by the rules of kubectl, and says which server it asks.
func (l *loader) connect() (rest.Interface, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = l.Kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: l.Context}).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, "", errors.New("read kubeconfig: there is none; give --kubeconfig, set KUBECONFIG, or give files instead")
	case err != nil:
		return nil, "", fmt.Errorf("read kubeconfig: %w", err)
	}
	cfg.Timeout = cmp.Or(l.Timeout, requestTimeout)
	cfg.UserAgent = userAgent
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.QPS, cfg.Burst = requestsPerSecond, requestBurst
	cfg.APIPath, cfg.GroupVersion = "/api", &schema.GroupVersion{Version: "v1"} // every request has a path of its own
	scheme := runtime.NewScheme()                                               // for the errors of the API server
	if err = corev1.AddToScheme(scheme); err != nil {
		return nil, "", fmt.Errorf("use kubeconfig: %w", err)
	}
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(cfg)
	if err != nil {
		return nil, "", fmt.Errorf("use kubeconfig: %w", err)
	}
	return client, cfg.Host, nil
}

// kind lists one kind of object. What may not be listed is a problem, and not
// an error.
func (l *loader) kind(ctx context.Context, client rest.Interface, res listing) error {
	var err error
	for _, path := range res.paths {
		var got []*reading
		if got, err = l.listAll(ctx, client, res, path); err == nil {
			for _, r := range got {
				l.all.add(r)
			}
			l.all.input.Objects += len(got)
			return nil
		}
		if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
			return err
		}
	}
	switch {
	case apierrors.IsNotFound(err) && res.custom:
		return nil
	case apierrors.IsForbidden(err):
		l.all.problems = append(l.all.problems, forbidden(res, err))
		return nil
	}
	return err
}

// forbidden tells of objects that we may not list.
func forbidden(res listing, err error) snapshot.Problem {
	p := snapshot.Problem{
		Severity: snapshot.Doubt, Object: snapshot.Object{Kind: res.list.element().Kind, Name: res.name},
		Message: fmt.Sprintf("%s may not be listed, so none is known; get and list are needed on them in all namespaces (%v)", res.what, err),
	}
	if isPolicy(p.Object.Kind) {
		p.Severity = snapshot.Fatal
	}
	return p
}

// errAnswer is an answer that is no list of objects.
var errAnswer = errors.New("the answer is no list of objects; is this a Kubernetes API server?")

// listAll reads a list page by page. If the server forgets between two pages what
// it was listing, the list is read once more, as a whole.
func (l *loader) listAll(ctx context.Context, client rest.Interface, res listing, path string) ([]*reading, error) {
	out, err := l.pages(ctx, client, res, path, pageSize)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		out, err = l.pages(ctx, client, res, path, 0)
	}
	return out, err
}

func (l *loader) pages(ctx context.Context, client rest.Interface, res listing, path string, limit int) ([]*reading, error) {
	var out []*reading
	for next := ""; ; {
		request := client.Get().AbsPath(path).SetHeader("Accept", "application/json")
		if limit > 0 {
			request = request.Param("limit", strconv.Itoa(limit))
		}
		if next != "" {
			request = request.Param("continue", next)
		}
		if res.name != "" {
			request = request.Param("fieldSelector", "metadata.name="+res.name)
		}
		page, err := l.page(ctx, request, res, &out)
		if err != nil {
			return nil, err
		}
		l.Progress(len(out), len(out)+page.Remaining, res.what)
		if next = page.Continue; next == "" {
			return out, nil
		}
	}
}

// pageMeta is what a list says of its next page.
type pageMeta struct {
	Continue  string `json:"continue"`
	Remaining int    `json:"remainingItemCount"`
}

// page reads one page and appends its objects.
func (l *loader) page(ctx context.Context, request *rest.Request, res listing, out *[]*reading) (pageMeta, error) {
	body, err := request.Stream(ctx)
	if err != nil {
		return pageMeta{}, err
	}
	defer func() { _ = body.Close() }() // it was only read
	var list struct {
		typeMeta
		Metadata pageMeta `json:"metadata"`
	}
	take := func(r *reading) { *out = append(*out, r) }
	err = run(ctx, l.known.decodeItem, take, func(p *pipeline) error {
		var broken error
		s := &splitter{
			given: res.list, limit: l.known.limit,
			emit: func(it item) {
				it.origin = snapshot.Origin{}
				p.emit(it)
			},
			problem: func(problem snapshot.Problem) { broken = fmt.Errorf("%w (%s)", errAnswer, problem.Message) },
			header:  func(fields []byte) { _ = json.Unmarshal(fields, &list) }, // checked below
		}
		failed := s.splitJSON(contextReader{p.ctx, body})
		if failed == nil && broken == nil && !list.isList() {
			failed = errAnswer
		}
		return cmp.Or(failed, broken)
	})
	return list.Metadata, err
}
