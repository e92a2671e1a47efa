package agentapi

import (
	"context"
	"net/http"
	"net/url"
)

// Services returns the Services and host ports that the node serves; with ref
// "namespace/name" those of that name alone, or CodeNotFound.
func (c *Client) Services(ctx context.Context, ref string) ([]ServiceInfo, error) {
	var out []ServiceInfo
	q := url.Values{}
	if ref != "" {
		q.Set("service", ref)
	}
	err := c.do(ctx, http.MethodGet, withQuery(PathServices, q), nil, &out)
	return out, err
}

// LB returns what the kernel has of services.
func (c *Client) LB(ctx context.Context) (LBTables, error) {
	var out LBTables
	err := c.do(ctx, http.MethodGet, PathLB, nil, &out)
	return out, err
}
