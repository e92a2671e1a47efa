package agentapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/placid-net/placid/internal/state"
)

const (
	dialTimeout = time.Second
	// maxErrorBody bounds what is read of a response that is not a success.
	maxErrorBody = 1 << 20
)

// Client talks to the agent of this node. Every method returns an *Error when
// the agent answered with one, and an *Error with CodeUnavailable when nothing
// answered: the socket is absent, refuses, or stays silent until ctx ends. Only
// the caller's own cancellation comes back as context.Canceled. A Client holds
// no connection between calls and is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client for the agent's unix socket at socketPath. It does
// not connect.
func NewClient(socketPath string) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Client{socket: socketPath, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socketPath)
		},
		DisableKeepAlives:  true,
		DisableCompression: true,
	}}}
}

// Add makes the attachment, or returns the one that is there already.
func (c *Client) Add(ctx context.Context, req CNIRequest) (CNIResult, error) {
	var out CNIResult
	err := c.do(ctx, http.MethodPost, PathCNIAdd, req, &out)
	return out, err
}

// Del removes the attachment; removing what is absent is success.
func (c *Client) Del(ctx context.Context, req CNIRequest) error {
	return c.do(ctx, http.MethodPost, PathCNIDel, req, nil)
}

// Check compares the attachment with what the kernel holds: CodeNotFound when
// it is absent, CodeConflict when it differs.
func (c *Client) Check(ctx context.Context, req CNIRequest) error {
	return c.do(ctx, http.MethodPost, PathCNICheck, req, nil)
}

// GC removes every attachment that req does not list. A nil list is refused
// with CodeInvalid; an empty one removes all.
func (c *Client) GC(ctx context.Context, req GCRequest) error {
	return c.do(ctx, http.MethodPost, PathCNIGC, req, nil)
}

// CNIStatus returns nil when the agent can serve an ADD.
func (c *Client) CNIStatus(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, PathCNIStatus, nil, nil)
}

// Status returns the state of the agent and its datapath.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var out Status
	err := c.do(ctx, http.MethodGet, PathStatus, nil, &out)
	return out, err
}

// Endpoints returns the pod interfaces of this node.
func (c *Client) Endpoints(ctx context.Context) ([]state.Endpoint, error) {
	var out []state.Endpoint
	err := c.do(ctx, http.MethodGet, PathEndpoints, nil, &out)
	return out, err
}

// Config returns the effective value of every key.
func (c *Client) Config(ctx context.Context) ([]ConfigEntry, error) {
	var out []ConfigEntry
	err := c.do(ctx, http.MethodGet, PathConfig, nil, &out)
	return out, err
}

// Maps returns every BPF map of the agent.
func (c *Client) Maps(ctx context.Context) ([]MapInfo, error) {
	var out []MapInfo
	err := c.do(ctx, http.MethodGet, PathMaps, nil, &out)
	return out, err
}

// MapDump returns the content of the BPF map with that name, or CodeNotFound.
func (c *Client) MapDump(ctx context.Context, name string) (MapDump, error) {
	var out MapDump
	err := c.do(ctx, http.MethodGet, PathMapPrefix+url.PathEscape(name), nil, &out)
	return out, err
}

// do sends in as JSON unless it is nil, and decodes the answer into out unless
// that is nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request for %s: %w", path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://placid-agent"+path, body)
	if err != nil {
		return fmt.Errorf("build the request for %s: %w", path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unanswered(ctx, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusBadRequest {
		return c.responseError(resp, path)
	}
	if out == nil {
		return nil
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return c.unanswered(ctx, path, err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &Error{Code: CodeInternal, Message: fmt.Sprintf("decode the answer of %s to %s: %v", c.socket, path, err)}
	}
	return nil
}

// unanswered says why there is no answer, and what to do about it.
func (c *Client) unanswered(ctx context.Context, path string, cause error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("ask %s for %s: %w", c.socket, path, context.Canceled)
	}
	// net/http and net wrap the cause in text that repeats the socket's path.
	if urlErr, ok := errors.AsType[*url.Error](cause); ok {
		cause = urlErr.Err
	}
	if opErr, ok := errors.AsType[*net.OpError](cause); ok {
		cause = opErr.Err
	}
	advice := "check whether the placid-agent pod runs on this node"
	if errors.Is(cause, fs.ErrPermission) {
		advice = "only root may open it"
	}
	return &Error{Code: CodeUnavailable, Message: fmt.Sprintf("placid-agent does not answer on %s: %s (%v)", c.socket, advice, cause)}
}

// responseError decodes the body of an error response, and makes an Error of
// whatever else came.
func (c *Client) responseError(resp *http.Response, path string) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return &Error{Code: CodeUnavailable, Message: fmt.Sprintf("placid-agent on %s broke off its answer to %s: %v", c.socket, path, err)}
	}
	e := &Error{}
	if err := json.Unmarshal(b, e); err == nil && e.Code != "" {
		return e
	}
	return &Error{Code: CodeInternal, Message: fmt.Sprintf(
		"%s answered %s with HTTP %s: %.200q: is it the placid-agent's socket?", c.socket, path, resp.Status, strings.TrimSpace(string(b)))}
}
