package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// How long each command waits for the agent. The kubelet gives up after two
// minutes or more; an ADD that answers before that says why it failed.
const (
	addTimeout    = 90 * time.Second
	delTimeout    = 20 * time.Second
	delAgain      = 2 * time.Second
	checkTimeout  = 20 * time.Second
	gcTimeout     = 60 * time.Second
	statusTimeout = 5 * time.Second
)

// plugin carries out one CNI command.
type plugin struct {
	stdout io.Writer
	stderr io.Writer
}

// Run carries out the CNI command that the process's environment and standard
// input describe, writes its result or error to stdout as the CNI specification
// says, and returns the exit code. version is what the plugin calls itself when
// it is started by hand, without CNI_COMMAND.
func Run(buildVersion string, stdout, stderr io.Writer) int {
	p := &plugin{stdout: stdout, stderr: stderr}
	cniErr := skel.PluginMainFuncsWithError(
		skel.CNIFuncs{Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status},
		version.PluginSupports("0.4.0", "1.0.0", version110),
		"CNI plugin placid-cni "+buildVersion)
	if cniErr == nil {
		return 0
	}
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "    ")
	if err := enc.Encode(cniErr); err != nil {
		_, _ = fmt.Fprintf(stderr, "placid-cni: write the error %q: %v\n", cniErr, err)
	}
	return 1
}

// add makes the attachment. It can be asked again for the same attachment and
// then gives the same result.
func (p *plugin) add(args *skel.CmdArgs) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	if conf.hasPrevResult() {
		return types.NewError(types.ErrInvalidNetworkConfig,
			"prevResult is set: Placid makes the pod's interface and must be the first plugin of the chain", "")
	}
	if err = conf.validate(); err != nil {
		return err
	}
	req, err := newRequest(args, conf)
	if err != nil {
		return err
	}
	if err = checkNetns(args); err != nil {
		return err
	}
	log, closeLog := p.openLog(conf, "ADD", req)
	defer closeLog()

	ctx, cancel := context.WithTimeout(context.Background(), addTimeout)
	defer cancel()
	agent := agentapi.NewClient(conf.SocketPath)
	if err = finishQueuedDel(ctx, agent, conf, req); err != nil {
		log.Error("queued DEL of the same attachment is not done", "err", err)
		return err
	}
	answer, err := agent.Add(ctx, req)
	if err != nil {
		log.Error("agent refused", "err", err)
		return agentError(err)
	}
	res, err := buildResult(conf, args, answer)
	if err != nil {
		return err
	}
	log.Info("done", "endpoint", answer.Endpoint.ID, "addresses", answer.Endpoint.Addrs())
	if err := res.PrintTo(p.stdout); err != nil {
		return types.NewError(types.ErrIOFailure, "write the result: "+err.Error(), "")
	}
	return nil
}

// finishQueuedDel carries out a DEL of the same attachment that waits for the
// agent, so that the agent cannot carry it out after the ADD and destroy what
// that made. Container ids are unique, so this all but never finds one.
func finishQueuedDel(ctx context.Context, agent *agentapi.Client, conf *netConf, req agentapi.CNIRequest) error {
	queue := agentapi.PendingDir(conf.PendingDir)
	queued, err := queue.Has(req.Attachment)
	if err != nil {
		return types.NewError(types.ErrIOFailure, err.Error(), "")
	}
	if !queued {
		return nil
	}
	if err := agent.Del(ctx, agentapi.CNIRequest{Attachment: req.Attachment}); err != nil {
		return agentError(err)
	}
	if err := queue.Remove(req.Attachment); err != nil {
		return types.NewError(types.ErrIOFailure, err.Error(), "")
	}
	return nil
}

// del removes the attachment. Nothing there is success, and so is an agent that
// is away: then the request is queued and takes effect when the agent starts.
func (p *plugin) del(args *skel.CmdArgs) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	if err = conf.validatePaths(); err != nil {
		return err
	}
	req := agentapi.CNIRequest{
		Attachment: state.AttachmentID{ContainerID: args.ContainerID, IfName: args.IfName},
		Netns:      args.Netns,
	}
	// The pod is named for the log only: a DEL does not fail for it.
	if pod, podErr := parsePod(args.Args); podErr == nil {
		req.Pod = pod
	}
	log, closeLog := p.openLog(conf, "DEL", req)
	defer closeLog()

	agent := agentapi.NewClient(conf.SocketPath)
	err = askDel(agent, req, delTimeout)
	if !isAway(err) {
		if err != nil {
			log.Error("agent refused", "err", err)
			return agentError(err)
		}
		log.Info("done")
		return nil
	}
	queue := agentapi.PendingDir(conf.PendingDir)
	if putErr := queue.Put(req); putErr != nil {
		return types.NewError(types.ErrIOFailure, putErr.Error(), "the placid-agent is away and the DEL could not be kept for it")
	}
	log.Warn("agent is away: queued", "err", err, "dir", conf.PendingDir)
	// An agent that drained the queue before the file was there answers now.
	if askDel(agent, req, delAgain) != nil {
		return nil
	}
	if err := queue.Remove(req.Attachment); err != nil {
		log.Warn("agent is back, but the queued DEL stays", "err", err)
	}
	return nil
}

func askDel(agent *agentapi.Client, req agentapi.CNIRequest, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := agent.Del(ctx, req)
	if errorCode(err) == agentapi.CodeNotFound {
		return nil
	}
	return err
}

// check compares the attachment with the previous result and with what the
// agent finds in the kernel.
func (p *plugin) check(args *skel.CmdArgs) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	if err = conf.validate(); err != nil {
		return err
	}
	req, err := newRequest(args, conf)
	if err != nil {
		return err
	}
	if req.Expect, err = expectedAddrs(conf, args.IfName); err != nil {
		return err
	}
	log, closeLog := p.openLog(conf, "CHECK", req)
	defer closeLog()

	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	if err := agentapi.NewClient(conf.SocketPath).Check(ctx, req); err != nil {
		log.Error("attachment is not as it should be", "err", err)
		return agentError(err)
	}
	return nil
}

// gc has the agent remove every attachment that is not listed as valid.
func (p *plugin) gc(args *skel.CmdArgs) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	if err = conf.validatePaths(); err != nil {
		return err
	}
	valid, err := conf.validAttachments()
	if err != nil {
		return err
	}
	log, closeLog := p.openLog(conf, "GC", agentapi.CNIRequest{})
	defer closeLog()

	ctx, cancel := context.WithTimeout(context.Background(), gcTimeout)
	defer cancel()
	if err := agentapi.NewClient(conf.SocketPath).GC(ctx, agentapi.GCRequest{Valid: valid}); err != nil {
		log.Error("agent refused", "err", err)
		return agentError(err)
	}
	log.Info("done", "valid", len(valid))
	return nil
}

// status tells whether an ADD would be served now.
func (p *plugin) status(args *skel.CmdArgs) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	if err := conf.validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	if err := agentapi.NewClient(conf.SocketPath).CNIStatus(ctx); err != nil {
		return types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
	}
	return nil
}

// openLog opens the log file of the configuration; without one, or when it
// does not open, nothing is logged, because a log must not keep a pod from
// starting.
func (p *plugin) openLog(conf *netConf, command string, req agentapi.CNIRequest) (log *slog.Logger, closeLog func()) {
	if conf.LogFile == "" {
		return slog.New(slog.DiscardHandler), func() {}
	}
	f, err := os.OpenFile(conf.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		_, _ = fmt.Fprintf(p.stderr, "placid-cni: open logFile: %v\n", err)
		return slog.New(slog.DiscardHandler), func() {}
	}
	log = slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: conf.level()})).With(
		"command", command, "attachment", req.Attachment.String(), "pod", req.Pod.String())
	log.Debug("request", "netns", req.Netns, "mtu", req.MTU, "bandwidth", req.Bandwidth, "expect", req.Expect)
	return log, func() { _ = f.Close() }
}

// isAway tells whether the agent is not there, or not yet, to serve a request.
func isAway(err error) bool {
	code := errorCode(err)
	return code == agentapi.CodeUnavailable || code == agentapi.CodeNotReady
}

// errorCode is the code of an *agentapi.Error in err, or empty.
func errorCode(err error) string {
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		return e.Code
	}
	return ""
}
