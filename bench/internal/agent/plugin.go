package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netns"
)

// ErrNoPlugin is returned when the CNI configuration does not name Placid's plugin.
var ErrNoPlugin = errors.New("no Placid in the CNI configuration")

const (
	confPath    = "/etc/cni/net.d/05-placid.conflist"
	pluginName  = "placid-cni"
	pluginPath  = "/opt/cni/bin/" + pluginName
	metricsURL  = "http://127.0.0.1:9962/metrics"
	cniSeries   = "placid_cni_duration_seconds"
	netnsPrefix = "plbench"
)

// pluginConf makes the configuration that a runtime hands the plugin.
func pluginConf(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the CNI configuration: %w", err)
	}
	var list struct {
		CNIVersion string           `json:"cniVersion"`
		Name       string           `json:"name"`
		Plugins    []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for _, p := range list.Plugins {
		if p["type"] == pluginName {
			p["cniVersion"], p["name"] = list.CNIVersion, list.Name
			return json.Marshal(p)
		}
	}
	return nil, fmt.Errorf("%s: %w", path, ErrNoPlugin)
}

// pods are network namespaces as a container runtime makes them.
type pods struct {
	names []string
	conf  []byte
}

// makePods makes n namespaces.
func makePods(n int, conf []byte) (*pods, error) {
	p := &pods{conf: conf}
	for i := range n {
		name := fmt.Sprintf("%s%d", netnsPrefix, i)
		if err := makeNetns(name); err != nil {
			return nil, errors.Join(err, p.remove())
		}
		p.names = append(p.names, name)
	}
	return p, nil
}

func makeNetns(name string) error {
	runtime.LockOSThread()
	old, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open the thread's network namespace: %w", err)
	}
	defer func() { _ = old.Close() }()
	made, err := netns.NewNamed(name)
	if err != nil {
		return fmt.Errorf("make network namespace %s: %w", name, err)
	}
	_ = made.Close()
	if err := netns.Set(old); err != nil {
		return fmt.Errorf("leave network namespace %s: %w", name, err) // the thread stays locked
	}
	runtime.UnlockOSThread()
	return nil
}

func (p *pods) remove() error {
	var errs []error
	for _, name := range p.names {
		errs = append(errs, netns.DeleteNamed(name))
	}
	return errors.Join(errs...)
}

// call runs the plugin for pod i, and returns what it took in milliseconds.
func (p *pods) call(ctx context.Context, command string, i int) (float64, error) {
	cmd := exec.CommandContext(ctx, pluginPath)
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + p.names[i], "CNI_IFNAME=eth0",
		"CNI_NETNS=/run/netns/" + p.names[i], "CNI_PATH=/opt/cni/bin",
	}
	cmd.Stdin = bytes.NewReader(p.conf)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	began := time.Now()
	err := cmd.Run()
	took := milliseconds(time.Since(began))
	if err != nil {
		return 0, fmt.Errorf("%s for pod %d: %w: %s", command, i, err, stdout.String())
	}
	if command == "ADD" {
		err = checkResult(stdout.Bytes())
	}
	return took, err
}

// checkResult looks for an address of each family.
func checkResult(answer []byte) error {
	var result struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(answer, &result); err != nil {
		return fmt.Errorf("read the plugin's answer: %w", err)
	}
	if len(result.IPs) != 2 {
		return fmt.Errorf("the plugin's answer has %d addresses, want one of each family: %s", len(result.IPs), answer)
	}
	return nil
}

// agentShare is the time that the agent has spent on an operation so far, in
// milliseconds, by its own metrics.
func agentShare(ctx context.Context, operation string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, metricsURL, nil)
	if err != nil {
		return 0, fmt.Errorf("build the request for %s: %w", metricsURL, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read the agent's metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("read the agent's metrics: %w", err)
	}
	return sumOf(string(text), operation), nil
}

// sumOf adds up the sums of the operation's histograms, in milliseconds.
func sumOf(metrics, operation string) float64 {
	sum := 0.0
	for line := range strings.Lines(metrics) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(series, cniSeries+"_sum{") || !strings.Contains(series, `operation="`+operation+`"`) {
			continue
		}
		if seconds, err := strconv.ParseFloat(value, 64); err == nil {
			sum += 1000 * seconds
		}
	}
	return sum
}
