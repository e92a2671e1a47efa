package agentapi

import (
	"context"
	"net/http"
)

// BalanceService is what the agent tells of Services.
type BalanceService interface {
	// Services returns every Service that this node serves and every pod of it
	// with host ports, ordered by name; with ref "namespace/name" those of that
	// name, or CodeNotFound when there are none.
	Services(ctx context.Context, ref string) ([]ServiceInfo, error)
	// LB returns what the kernel has of services.
	LB(ctx context.Context) (LBTables, error)
}

func handleServices(mux *http.ServeMux, s BalanceService) {
	mux.Handle(PathServices, get(func(r *http.Request) (any, error) {
		ref, err := serviceQuery(r)
		if err != nil {
			return nil, err
		}
		return list(s.Services(r.Context(), ref))
	}))
	mux.Handle(PathLB, get(func(r *http.Request) (any, error) {
		if _, err := query(r); err != nil {
			return nil, err
		}
		out, err := s.LB(r.Context())
		out.Frontends, err = list(out.Frontends, err)
		out.Lists, err = list(out.Lists, err)
		out.Tables, err = list(out.Tables, err)
		return out, err
	}))
}

func serviceQuery(r *http.Request) (string, error) {
	q, err := query(r, "service")
	if err != nil {
		return "", err
	}
	ref := q.Get("service")
	if q.Has("service") && !IsPodName(ref) { // the names of both have the same form
		return "", invalidf("service is %q: want namespace/name", ref)
	}
	return ref, nil
}
