package agentapi

import (
	"context"
	"net/http"
)

// TableService is what the agent does with the sizes of tables.
type TableService interface {
	// Tables returns every table that has a size.
	Tables(ctx context.Context) (Tables, error)
	// ResizeTable gives a table another size and returns when its entries are in the
	// new one, or when those that found no room there are the only ones left: State
	// says which. Tables shows how far it has come. It fails with CodeNotFound,
	// CodeInvalid, CodeTooSmall, CodeNoMemory or CodeBusy. When ctx ends, the agent
	// goes on with the move by itself.
	ResizeTable(ctx context.Context, req ResizeRequest) (TableMove, error)
}

func handleTables(mux *http.ServeMux, s TableService) {
	mux.Handle(PathTables, get(func(r *http.Request) (any, error) {
		if _, err := query(r); err != nil {
			return nil, err
		}
		out, err := s.Tables(r.Context())
		out.Tables, err = list(out.Tables, err)
		return out, err
	}))
	mux.Handle(PathTableResize, post(func(r *http.Request, req ResizeRequest) (any, error) { return s.ResizeTable(r.Context(), req) }))
}

func (r ResizeRequest) validate() error {
	switch {
	case r.Name == "":
		return invalidf("name is missing: name the table, e.g. ct_tcp")
	case r.Entries == 0:
		return invalidf("entries is 0: want the new size of %s in entries", r.Name)
	}
	return nil
}
