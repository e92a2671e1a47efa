package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	manyPods = 110
	starts   = 10
	node     = "n1" // which is measured
	folder   = "/run/placid-bench"
	// restDelay lets a pod have the address that one before gave back, since
	// the node's range holds two rounds of pods only.
	restDelay   = "ipam-address-reuse-delay=1s"
	moveTimeout = 60 * time.Second
)

// Config says where things are.
type Config struct {
	Lab      string   // path of the lab's command
	Binaries string   // folder of the built programs, this one included
	Args     []string // make this program call Child
	Progress io.Writer
}

// Lab is what the lab tells: how long after its agent's start a node was Ready,
// in milliseconds, each node.
type Lab struct {
	Results
	NodesReady []float64
}

// Run brings a lab up, measures in one of its nodes, and ends the lab.
func Run(ctx context.Context, cfg Config) (out Lab, err error) {
	l := lab{cfg}
	defer func() {
		if _, downErr := l.run(context.WithoutCancel(ctx), nil, "down"); err == nil {
			err = downErr
		}
	}()
	text, err := l.run(ctx, nil, "up", "--set", restDelay)
	if err != nil {
		return out, err
	}
	out.NodesReady = nodesReady(text)
	if err = l.freeNode(ctx); err != nil {
		return out, err
	}
	for _, name := range []string{"bench", "placid-agent", "placid-cni"} {
		if err = l.install(ctx, name, cfg.Binaries+"/"+name); err != nil {
			return out, err
		}
	}
	spec, err := l.spec(ctx)
	if err != nil {
		return out, err
	}
	input, err := json.Marshal(spec)
	if err != nil {
		return out, fmt.Errorf("write what to measure: %w", err)
	}
	args := append([]string{"exec", node, folder + "/bench"}, cfg.Args...)
	answer, err := l.run(ctx, bytes.NewReader(input), args...)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal([]byte(answer), &out.Results); err != nil {
		return out, fmt.Errorf("read the results: %w", err)
	}
	return out, nil
}

// lab runs the lab's command.
type lab struct{ cfg Config }

// run returns what the command wrote to its standard output; the rest is
// progress.
func (l lab) run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.cfg.Lab, args...)
	cmd.Env = append(os.Environ(), "PLACID_LAB=bench")
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, l.cfg.Progress
	if args[0] == "up" { // its whole output is progress
		cmd.Stdout = io.MultiWriter(&out, l.cfg.Progress)
		cmd.Stderr = cmd.Stdout
	}
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("lab %s: %w", args[0], err)
	}
	return out.String(), nil
}

// nodesReady reads the lines that the lab writes when a node becomes Ready.
func nodesReady(text string) []float64 {
	var out []float64
	for _, m := range regexp.MustCompile(`is Ready, (\d+) ms after its agent started`).FindAllStringSubmatch(text, -1) {
		if ms, err := strconv.ParseFloat(m[1], 64); err == nil {
			out = append(out, ms)
		}
	}
	return out
}

// offNode keeps the DaemonSet's pod away from the node.
const offNode = `{"spec":{"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":` +
	`{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"NotIn","values":["` + node + `"]}]}]}}}}}}}`

// freeNode takes the agent's pod from the node, for this program's agent.
func (l lab) freeNode(ctx context.Context) error {
	if _, err := l.run(ctx, nil, "kubectl", "-n", "kube-system", "patch", "daemonset", "placid-agent", "-p", offNode); err != nil {
		return err
	}
	deadline := time.Now().Add(moveTimeout)
	for {
		// Its network is the node's, so the process shows what the API would.
		out, err := l.run(ctx, nil, "exec", node, "sh", "-c", "pgrep -x placid-agent || true")
		if err != nil {
			return err
		}
		if strings.TrimSpace(out) == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the agent's pod is still on %s after %s", node, moveTimeout)
		}
		if err := sleep(ctx, pace); err != nil {
			return err
		}
	}
}

// install copies a file into the node.
func (l lab) install(ctx context.Context, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("install %s: %w: run \"make build\" and bench/run", name, err)
	}
	defer func() { _ = f.Close() }()
	script := fmt.Sprintf("mkdir -p %s && cat >%s/%s && chmod 755 %s/%s", folder, folder, name, folder, name)
	_, err = l.run(ctx, f, "exec", node, "sh", "-c", script)
	return err
}

// spec gives the agent the cluster's own configuration, and the
// administrator's credentials in place of the pod's.
func (l lab) spec(ctx context.Context) (Spec, error) {
	text, err := l.run(ctx, nil, "kubectl", "-n", "kube-system", "get", "configmap", "placid-config", "-o", "json")
	if err != nil {
		return Spec{}, err
	}
	var configMap struct {
		Data map[string]string `json:"data"`
	}
	if err = json.Unmarshal([]byte(text), &configMap); err != nil {
		return Spec{}, fmt.Errorf("read the ConfigMap: %w", err)
	}
	kubeconfig, err := l.run(ctx, nil, "kubectl", "config", "view", "--raw", "--flatten")
	if err != nil {
		return Spec{}, err
	}
	path := folder + "/kubeconfig"
	script := "umask 077 && cat >" + path
	if _, err := l.run(ctx, strings.NewReader(kubeconfig), "exec", node, "sh", "-c", script); err != nil {
		return Spec{}, err
	}
	spec := Spec{
		Folder: folder, Pods: manyPods, Starts: starts, Env: []string{"K8S_NODE_NAME=" + node, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Flags: []string{"--k8s-kubeconfig-path=" + path},
	}
	for key, value := range configMap.Data {
		spec.Flags = append(spec.Flags, "--"+key+"="+value)
	}
	slices.Sort(spec.Flags)
	return spec, nil
}
