package k8s

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
)

// serviceAccountDir is where the kubelet mounts a pod's credentials.
const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// Connection says how to reach the API server.
type Connection struct {
	// Kubeconfig is the path of a kubeconfig file; empty takes the pod's
	// service account.
	Kubeconfig string
	// APIServer is a URL that replaces the one of the kubeconfig or of the
	// pod's environment; empty keeps it. It is for nodes on which the address
	// of the kubernetes service is not reachable (yet).
	APIServer string
	// QPS and Burst limit the requests per second; both must be more than 0.
	QPS   float64
	Burst int
	// UserAgent names the program to the API server, e.g. "placid-agent/v1.2.3".
	UserAgent string
}

// RESTConfig reads the credentials that c names and returns client-go's form
// of it. It does not contact the API server. The result carries one rate
// limiter, which all clients made from it share.
func (c Connection) RESTConfig() (*rest.Config, error) {
	return c.restConfig(serviceAccountDir)
}

func (c Connection) restConfig(accountDir string) (*rest.Config, error) {
	if err := checkURL(c.APIServer); err != nil {
		return nil, err
	}
	if c.QPS <= 0 || c.Burst <= 0 {
		return nil, fmt.Errorf("connect to the API server: QPS %v and burst %d, want both more than 0", c.QPS, c.Burst)
	}
	var cfg *rest.Config
	var err error
	if c.Kubeconfig != "" {
		cfg, err = clientcmd.BuildConfigFromFlags(c.APIServer, c.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig %s: %w", c.Kubeconfig, err)
		}
	} else if cfg, err = inCluster(c.APIServer, accountDir); err != nil {
		return nil, err
	}
	cfg.UserAgent = c.UserAgent
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(float32(c.QPS), c.Burst)
	return cfg, nil
}

// inCluster builds the configuration of a pod. Unlike client-go's, it works
// with a given URL where the environment has none.
func inCluster(apiServer, accountDir string) (*rest.Config, error) {
	if apiServer == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return nil, errors.New("find the API server: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, " +
				"so this is not a pod; set k8s-kubeconfig-path, or k8s-api-server")
		}
		apiServer = "https://" + net.JoinHostPort(host, port)
	}
	token, ca := filepath.Join(accountDir, "token"), filepath.Join(accountDir, "ca.crt")
	for _, f := range []string{token, ca} {
		if _, err := os.Stat(f); err != nil {
			return nil, fmt.Errorf("read the pod's service account: %w; outside a pod set k8s-kubeconfig-path", err)
		}
	}
	return &rest.Config{
		Host:            apiServer,
		BearerTokenFile: token, // read again when the kubelet renews it
		TLSClientConfig: rest.TLSClientConfig{CAFile: ca},
	}, nil
}

func checkURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
		return nil
	}
	return fmt.Errorf("k8s-api-server %q is not a URL such as https://192.0.2.1:6443", s)
}
