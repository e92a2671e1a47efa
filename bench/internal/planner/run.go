package planner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
)

// Report is what was measured.
type Report struct {
	Size   size
	Rounds int
	Bytes  int64 // of the cluster's file
	// Runs has what each command took, by what is asked.
	Runs map[string][]Cost
}

// Cost is what one process took.
type Cost struct {
	Seconds, CPU float64
	Peak         float64 // resident, in MiB
}

// question is a command, with the exit codes that are answers.
type question struct {
	what string
	args []string
}

func questions(cluster, changed string) []question {
	return []question{
		{"identity what-if, a filter", []string{"identity", "what-if", "-f", cluster, "--labels", "k8s:app$ k8s:tier$", "--force", "--limit", "20"}},
		{"identity what-if --propose", []string{"identity", "what-if", "-f", cluster, "--propose", "--limit", "20"}},
		{"the same for Cilium", []string{"identity", "what-if", "-f", cluster, "--propose", "--limit", "20", "--for", "cilium"}},
		{"policy diff, one policy in ten changed", []string{"policy", "diff", cluster, changed, "--cluster", cluster, "--limit", "20"}},
		{"plan", []string{"plan", "-f", cluster, "--for", "placid"}},
		{"plan for Cilium, with growth", []string{"plan", "-f", cluster, "--for", "cilium", "--grow", "pods=2x,services=+500"}},
		{"preflight", []string{"preflight", "-f", cluster, "--quiet"}},
	}
}

// Run measures the program at that path.
func Run(ctx context.Context, program string, short bool) (r Report, err error) {
	r = Report{Size: size{Pods: 50_000, Policies: 2_000, Namespaces: 500, Nodes: 500, Services: 5_000}, Rounds: 3, Runs: map[string][]Cost{}}
	if short {
		r.Size, r.Rounds = size{Pods: 2_000, Policies: 200, Namespaces: 50, Nodes: 50, Services: 200}, 1
	}
	dir, err := os.MkdirTemp("", "placid-bench-")
	if err != nil {
		return r, fmt.Errorf("make a folder for the cluster: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cluster, changed, err := writeCluster(dir, r.Size)
	if err != nil {
		return r, err
	}
	info, err := os.Stat(cluster)
	if err != nil {
		return r, fmt.Errorf("look at the cluster: %w", err)
	}
	r.Bytes = info.Size()
	if program, err = filepath.Abs(program); err != nil {
		return r, err
	}
	all := questions(cluster, changed)
	for range r.Rounds {
		for _, i := range rand.Perm(len(all)) {
			c, err := ask(ctx, program, all[i].args)
			if err != nil {
				return r, fmt.Errorf("%s: %w", all[i].what, err)
			}
			r.Runs[all[i].what] = append(r.Runs[all[i].what], c)
		}
	}
	return r, nil
}

// ask runs a command. An exit code of 1 is an answer too.
func ask(ctx context.Context, program string, args []string) (c Cost, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	c.Seconds = time.Since(began).Seconds()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && (!failed || exit.ExitCode() != 1) {
		return c, fmt.Errorf("%w\n%.2000s", err, out)
	}
	state := cmd.ProcessState
	c.CPU = (state.UserTime() + state.SystemTime()).Seconds()
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		c.Peak = float64(usage.Maxrss) / 1024
	}
	return c, nil
}

// Tables are what was measured.
func Tables(r Report) []report.Table {
	t := report.Table{
		Title: fmt.Sprintf("%d pods on %d nodes, %d namespaces, %d Services, %d policies in one list of %.0f MB; least / median of %d runs of the whole command.",
			r.Size.Pods, r.Size.Nodes, r.Size.Namespaces, r.Size.Services, r.Size.Policies, float64(r.Bytes)/1e6, r.Rounds),
		Head: []string{"command", "seconds", "goal", "CPU seconds", "peak memory, MiB", "goal"},
	}
	for _, q := range questions("", "") {
		runs := r.Runs[q.what]
		pair := func(format string, of func(Cost) float64) string {
			var samples []float64
			for _, c := range runs {
				samples = append(samples, of(c))
			}
			return fmt.Sprintf(format+" / "+format, stats.Min(samples), stats.Median(samples))
		}
		seconds, memory := "–", "–"
		if q.args[0] == "identity" {
			seconds, memory = "≤ 10", "≤ 1024"
		}
		t.Add(q.what, pair("%.1f", func(c Cost) float64 { return c.Seconds }), seconds,
			pair("%.1f", func(c Cost) float64 { return c.CPU }), pair("%.0f", func(c Cost) float64 { return c.Peak }), memory)
	}
	return []report.Table{t}
}
