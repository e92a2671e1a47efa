package agentapi

import (
	"context"
	"net/http"
)

// Tables returns every table that has a size.
func (c *Client) Tables(ctx context.Context) (Tables, error) {
	var out Tables
	err := c.do(ctx, http.MethodGet, PathTables, nil, &out)
	return out, err
}

// ResizeTable gives a table another size and returns when that is done: see
// TableService. When ctx ends, the agent goes on with it.
func (c *Client) ResizeTable(ctx context.Context, req ResizeRequest) (TableMove, error) {
	var out TableMove
	err := c.do(ctx, http.MethodPost, PathTableResize, req, &out)
	return out, err
}
