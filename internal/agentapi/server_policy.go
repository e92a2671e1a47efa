package agentapi

import (
	"context"
	"net/http"
)

// ConntrackService is what the agent does with conntrack. Filters that reach it
// are valid, and their prefix is masked.
type ConntrackService interface {
	// CTList returns the live entries that the filter selects. A pod of the
	// filter that is not on this node fails with CodeNotFound.
	CTList(ctx context.Context, filter CTFilter) (CTList, error)
	// CTFlush deletes them; the filter has a condition or All, and no limit.
	CTFlush(ctx context.Context, filter CTFilter) (CTFlushed, error)
	// CTTop counts entries by CTTopSource, CTTopDestination or CTTopPod, most
	// first; a limit of 0 is all.
	CTTop(ctx context.Context, by string, limit int) ([]CTTalker, error)
	// CTCollect removes what has expired, now, and returns when that is done.
	CTCollect(ctx context.Context) (CTCollection, error)
}

// PolicyService is what the agent tells of identities and policies.
type PolicyService interface {
	// Identities returns the identities that the node knows, the reserved ones
	// included, ordered by number.
	Identities(ctx context.Context) ([]IdentityInfo, error)
	// Policy returns what the pod "namespace/name" is under, or CodeNotFound when
	// it is not on this node; all pods of the node when pod is empty.
	Policy(ctx context.Context, pod string) ([]EndpointPolicy, error)
	// Selectors returns the selectors of all policies in use.
	Selectors(ctx context.Context) ([]SelectorInfo, error)
	// PolicyTrace tells what becomes of a new flow. It fails with CodeNotFound
	// when a pod is not known, and with CodeInvalid when neither side is a pod of
	// this node: other nodes judge that flow.
	PolicyTrace(ctx context.Context, req TraceRequest) (TraceResult, error)
}

func handleConntrack(mux *http.ServeMux, s ConntrackService) {
	mux.Handle(PathCT, bodyless{
		http.MethodGet: func(r *http.Request) (any, error) {
			filter, err := listFilter(r)
			if err != nil {
				return nil, err
			}
			out, err := s.CTList(r.Context(), filter)
			out.Entries, err = list(out.Entries, err)
			return out, err
		},
		http.MethodDelete: func(r *http.Request) (any, error) {
			filter, err := flushFilter(r)
			if err != nil {
				return nil, err
			}
			return s.CTFlush(r.Context(), filter)
		},
	})
	mux.Handle(PathCTTop, get(func(r *http.Request) (any, error) {
		by, limit, err := topQuery(r)
		if err != nil {
			return nil, err
		}
		return list(s.CTTop(r.Context(), by, limit))
	}))
	mux.Handle(PathCTCollect, bodyless{http.MethodPost: func(r *http.Request) (any, error) {
		if _, err := query(r); err != nil {
			return nil, err
		}
		return s.CTCollect(r.Context())
	}})
}

func handlePolicy(mux *http.ServeMux, s PolicyService) {
	mux.Handle(PathIdentities, get(func(r *http.Request) (any, error) { return list(s.Identities(r.Context())) }))
	mux.Handle(PathPolicy, get(func(r *http.Request) (any, error) {
		pod, err := podQuery(r)
		if err != nil {
			return nil, err
		}
		return list(s.Policy(r.Context(), pod))
	}))
	mux.Handle(PathSelectors, get(func(r *http.Request) (any, error) { return list(s.Selectors(r.Context())) }))
	mux.Handle(PathPolicyTrace, post(func(r *http.Request, req TraceRequest) (any, error) { return s.PolicyTrace(r.Context(), req) }))
}
