package agentapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// CTList returns the live conntrack entries that the filter selects.
func (c *Client) CTList(ctx context.Context, filter CTFilter) (CTList, error) {
	var out CTList
	err := c.do(ctx, http.MethodGet, withQuery(PathCT, filter.query()), nil, &out)
	return out, err
}

// CTFlush deletes the conntrack entries that the filter selects. A filter with
// neither a condition nor All is refused with CodeInvalid, and so is a limit.
func (c *Client) CTFlush(ctx context.Context, filter CTFilter) (CTFlushed, error) {
	var out CTFlushed
	err := c.do(ctx, http.MethodDelete, withQuery(PathCT, filter.query()), nil, &out)
	return out, err
}

// CTTop returns who has most conntrack entries, by CTTopSource, CTTopDestination
// or CTTopPod; a limit of 0 is all.
func (c *Client) CTTop(ctx context.Context, by string, limit int) ([]CTTalker, error) {
	var out []CTTalker
	q := url.Values{"by": {by}, "limit": {strconv.Itoa(limit)}}
	err := c.do(ctx, http.MethodGet, withQuery(PathCTTop, q), nil, &out)
	return out, err
}

// CTCollect removes expired conntrack entries now. The agent breaks off when ctx
// ends.
func (c *Client) CTCollect(ctx context.Context) (CTCollection, error) {
	var out CTCollection
	err := c.do(ctx, http.MethodPost, PathCTCollect, nil, &out)
	return out, err
}

// Identities returns the identities that the node knows.
func (c *Client) Identities(ctx context.Context) ([]IdentityInfo, error) {
	var out []IdentityInfo
	err := c.do(ctx, http.MethodGet, PathIdentities, nil, &out)
	return out, err
}

// Policy returns what the pod "namespace/name" of this node is under, or
// CodeNotFound; all pods of the node when pod is empty.
func (c *Client) Policy(ctx context.Context, pod string) ([]EndpointPolicy, error) {
	var out []EndpointPolicy
	q := url.Values{}
	if pod != "" {
		q.Set("pod", pod)
	}
	err := c.do(ctx, http.MethodGet, withQuery(PathPolicy, q), nil, &out)
	return out, err
}

// Selectors returns the selectors of all policies in use.
func (c *Client) Selectors(ctx context.Context) ([]SelectorInfo, error) {
	var out []SelectorInfo
	err := c.do(ctx, http.MethodGet, PathSelectors, nil, &out)
	return out, err
}

// PolicyTrace tells what becomes of a new flow, or CodeNotFound when a pod of it
// is not known.
func (c *Client) PolicyTrace(ctx context.Context, req TraceRequest) (TraceResult, error) {
	var out TraceResult
	err := c.do(ctx, http.MethodPost, PathPolicyTrace, req, &out)
	return out, err
}

func withQuery(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}
