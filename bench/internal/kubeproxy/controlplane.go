package kubeproxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/bench/internal/netlab"
)

const (
	// folder is below the /run of the process's own.
	folder = "/run/placid-bench"
	// token is known to everybody who reaches the API server: nobody else is in its
	// namespaces.
	token   = "bench"
	apiPort = 6443

	startTimeout = 2 * time.Minute
	poll         = 20 * time.Millisecond
	// writers send objects side by side.
	writers = 32
)

// Tools says where the programs are.
type Tools struct {
	Folder   string `json:"folder"`   // of etcd, kube-apiserver and kube-proxy
	IPTables string `json:"iptables"` // the unpacked Debian package
}

// ControlPlane is etcd and an API server in a namespace of their own.
type ControlPlane struct {
	tools     Tools
	namespace *netlab.Namespace
	programs  []*exec.Cmd
	client    *http.Client
	nodes     int
}

// StartControlPlane starts them and waits until the API server is ready. Close it.
func StartControlPlane(ctx context.Context, tools Tools) (*ControlPlane, error) {
	c := &ControlPlane{tools: tools}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount a file system of our own on /run: %w", err)
	}
	if err := errors.Join(os.MkdirAll(folder, 0o700), writeServiceAccountKey(), writeTokens()); err != nil {
		return fmt.Errorf("prepare the API server: %w", err)
	}
	var err error
	if c.namespace, err = netlab.New(); err != nil {
		return err
	}
	// The API server wants to tell an address that is no loopback's.
	advertised := netip.MustParsePrefix("172.31.255.1/32")
	if err = c.namespace.AddAddr("lo", advertised); err != nil {
		return err
	}
	c.client = &http.Client{Transport: &http.Transport{
		DialContext: c.dial, ForceAttemptHTTP2: true, MaxConnsPerHost: 4,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // it made its certificate by itself
	}}
	err = c.run("etcd", "--data-dir", folder+"/etcd", "--unsafe-no-fsync", "--log-level", "error", "--quota-backend-bytes", "4294967296")
	if err != nil {
		return err
	}
	key := folder + "/sa.key"
	err = c.run("kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", fmt.Sprintf("--secure-port=%d", apiPort),
		"--advertise-address="+advertised.Addr().String(), "--endpoint-reconciler-type=none", "--cert-dir="+folder+"/certificates",
		"--service-cluster-ip-range="+cluster.ServiceCIDR, "--token-auth-file="+folder+"/tokens.csv", "--authorization-mode=AlwaysAllow",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file="+key, "--service-account-key-file="+key)
	if err != nil {
		return err
	}
	return c.waitReady(ctx)
}

// dial connects from inside the namespace.
func (c *ControlPlane) dial(_ context.Context, network, address string) (conn net.Conn, err error) {
	doErr := c.namespace.Do(func() error {
		conn, err = net.Dial(network, address)
		return nil
	})
	return conn, errors.Join(doErr, err)
}

func writeServiceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(folder+"/sa.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

func writeTokens() error {
	return os.WriteFile(folder+"/tokens.csv", []byte(token+`,bench,bench,"system:masters"`+"\n"), 0o600)
}

// run starts a program, whose output goes to a file.
func (c *ControlPlane) run(name string, args ...string) error {
	cmd, err := start(c.namespace, filepath.Join(c.tools.Folder, name), folder+"/"+name+".log", nil, args...)
	if err == nil {
		c.programs = append(c.programs, cmd)
	}
	return err
}

// start starts a program in a namespace.
func start(in *netlab.Namespace, path, log string, env []string, args ...string) (*exec.Cmd, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, append(os.Environ(), env...)
	if err := in.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return cmd, nil
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it tells of the kill
}

// lastLines is the end of a program's log, for an error.
func lastLines(log string) string {
	const most = 2000
	b, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}

func (c *ControlPlane) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := c.call(ctx, http.MethodGet, "/readyz", nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server is not ready after %s: %w; the end of its log:\n%s", startTimeout, err, lastLines(folder+"/kube-apiserver.log"))
		case <-time.After(poll):
		}
	}
}

// call sends an object, or nothing.
func (c *ControlPlane) call(ctx context.Context, method, path string, object any) error {
	var body io.Reader
	if object != nil {
		b, err := json.Marshal(object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("https://127.0.0.1:%d%s", apiPort, path), body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	answer, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return nil
}

// Create makes the services from number first up to, not including, last.
func (c *ControlPlane) Create(ctx context.Context, shape cluster.Shape, first, last int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for i := first; i < last; i++ {
		g.Go(func() error {
			for _, slice := range shape.Slices(i, 0) {
				if err := c.call(ctx, http.MethodPost, "/apis/discovery.k8s.io/v1/namespaces/"+cluster.Namespace+"/endpointslices", slice); err != nil {
					return err
				}
			}
			return c.call(ctx, http.MethodPost, "/api/v1/namespaces/"+cluster.Namespace+"/services", shape.Service(i))
		})
	}
	return g.Wait()
}

// addNode makes the Node object that kube-proxy looks for.
func (c *ControlPlane) addNode(ctx context.Context, name string, addr netip.Addr) error {
	return c.call(ctx, http.MethodPost, "/api/v1/nodes", &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr.String()}}},
	})
}

// Close ends the programs.
func (c *ControlPlane) Close() error {
	for _, cmd := range c.programs {
		stop(cmd)
	}
	if c.namespace != nil {
		c.namespace.Close()
	}
	return nil
}
