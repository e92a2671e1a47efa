package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// MaxRequestBody is the largest request body that Handler reads, in bytes.
const MaxRequestBody = 1 << 20

// Service is what the agent does for its clients. Handler calls it from many
// goroutines at once; the context ends when the client goes away. An error that
// is or wraps an *Error keeps that code, any other is CodeInternal.
type Service interface {
	// Add makes the attachment; asked again, it returns the same result.
	Add(ctx context.Context, req CNIRequest) (CNIResult, error)
	// Del removes the attachment; removing what is absent is success.
	Del(ctx context.Context, req CNIRequest) error
	// Check fails with CodeNotFound or CodeConflict.
	Check(ctx context.Context, req CNIRequest) error
	// GC removes every attachment that is not listed.
	GC(ctx context.Context, req GCRequest) error
	// CNIStatus fails with CodeNotReady while Add would.
	CNIStatus(ctx context.Context) error
	Status(ctx context.Context) (Status, error)
	Endpoints(ctx context.Context) ([]state.Endpoint, error)
	Config(ctx context.Context) ([]ConfigEntry, error)
	Maps(ctx context.Context) ([]MapInfo, error)
	// MapDump fails with CodeNotFound when there is no map of that name.
	MapDump(ctx context.Context, name string) (MapDump, error)
	ConntrackService
	PolicyService
	BalanceService
	TableService
}

// Handler serves the paths of this package from s. Every response of status 400
// and above carries an Error as its body, unknown paths and methods included.
// Fields that it does not know are ignored, so that a newer client can talk to
// an older agent; query parameters that it does not know are refused, so that
// no flush misses a condition. Requests that lack what they must have are
// answered with CodeInvalid and do not reach s.
func Handler(s Service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(PathCNIAdd, post(func(r *http.Request, req CNIRequest) (any, error) { return s.Add(r.Context(), req) }))
	mux.HandleFunc(PathCNIDel, post(func(r *http.Request, req CNIRequest) (any, error) { return nil, s.Del(r.Context(), req) }))
	mux.HandleFunc(PathCNICheck, post(func(r *http.Request, req CNIRequest) (any, error) { return nil, s.Check(r.Context(), req) }))
	mux.HandleFunc(PathCNIGC, post(func(r *http.Request, req GCRequest) (any, error) { return nil, s.GC(r.Context(), req) }))
	mux.HandleFunc(PathCNIStatus, get(func(r *http.Request) (any, error) { return nil, s.CNIStatus(r.Context()) }))
	mux.HandleFunc(PathStatus, get(func(r *http.Request) (any, error) { return s.Status(r.Context()) }))
	mux.HandleFunc(PathEndpoints, get(func(r *http.Request) (any, error) { return list(s.Endpoints(r.Context())) }))
	mux.HandleFunc(PathConfig, get(func(r *http.Request) (any, error) { return list(s.Config(r.Context())) }))
	mux.HandleFunc(PathMaps, get(func(r *http.Request) (any, error) { return list(s.Maps(r.Context())) }))
	mux.HandleFunc(PathMapPrefix+"{name}", get(func(r *http.Request) (any, error) {
		return s.MapDump(r.Context(), r.PathValue("name"))
	}))
	handleConntrack(mux, s)
	handlePolicy(mux, s)
	handleServices(mux, s)
	handleTables(mux, s)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &Error{Code: CodeNotFound, Message: fmt.Sprintf("path %s is not known to this placid-agent; is the client newer?", r.URL.Path)})
	})
	return mux
}

// validator is a request that knows what it must have.
type validator interface{ validate() error }

func (r CNIRequest) validate() error {
	if r.Attachment.ContainerID == "" {
		return &Error{Code: CodeInvalid, Message: "attachment.containerID is empty: name the sandbox"}
	}
	if r.Attachment.IfName == "" {
		return &Error{Code: CodeInvalid, Message: "attachment.ifName is empty: name the pod's interface, e.g. eth0"}
	}
	for i, p := range r.HostPorts {
		if p.HostPort == 0 || p.ContainerPort == 0 || p.Protocol == state.ProtocolAny {
			return &Error{Code: CodeInvalid, Message: fmt.Sprintf(
				"hostPorts[%d] leads from port %d to port %d, protocol %s: both ports and one protocol are needed",
				i, p.HostPort, p.ContainerPort, p.Protocol)}
		}
	}
	return nil
}

func (r GCRequest) validate() error {
	if r.Valid == nil {
		return &Error{Code: CodeInvalid, Message: "valid is missing: list the attachments to keep, [] removes all"}
	}
	for i, a := range r.Valid {
		if a.ContainerID == "" || a.IfName == "" {
			return &Error{Code: CodeInvalid, Message: fmt.Sprintf("valid[%d] is %q: both containerID and ifName are needed", i, a)}
		}
	}
	return nil
}

// post decodes the body into a T and answers with what call returns, or with
// 204 when that is nil.
func post[T validator](call func(*http.Request, T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			methodNotAllowed(w, r, http.MethodPost)
			return
		}
		var req T
		if err := decodeBody(w, r, &req); err != nil {
			writeError(w, err)
			return
		}
		if err := req.validate(); err != nil {
			writeError(w, err)
			return
		}
		out, err := call(r, req)
		write(w, out, err)
	}
}

// bodyless is what a path does for each of its methods, which read no body.
type bodyless map[string]func(*http.Request) (any, error)

func (b bodyless) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, ok := b[r.Method]
	if !ok {
		methodNotAllowed(w, r, slices.Sorted(maps.Keys(b))...)
		return
	}
	out, err := call(r)
	write(w, out, err)
}

func get(call func(*http.Request) (any, error)) http.HandlerFunc {
	return bodyless{http.MethodGet: call}.ServeHTTP
}

func methodNotAllowed(w http.ResponseWriter, r *http.Request, want ...string) {
	w.Header().Set("Allow", strings.Join(want, ", "))
	writeJSON(w, http.StatusMethodNotAllowed, &Error{Code: CodeInvalid, Message: fmt.Sprintf(
		"method %s is not allowed on %s: use %s", r.Method, r.URL.Path, strings.Join(want, " or "))})
}

// decodeBody reads exactly one JSON value.
func decodeBody(w http.ResponseWriter, r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxRequestBody))
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more follows the JSON value")
		}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{Code: CodeInvalid, Message: fmt.Sprintf("request body of %s is over %d bytes", r.URL.Path, tooLarge.Limit)}
	}
	return &Error{Code: CodeInvalid, Message: fmt.Sprintf("decode the request body of %s: %v", r.URL.Path, err)}
}

// list makes JSON's [] of a nil slice.
func list[T any](v []T, err error) ([]T, error) {
	if v == nil {
		v = []T{}
	}
	return v, err
}

func write(w http.ResponseWriter, out any, err error) {
	switch {
	case err != nil:
		writeError(w, err)
	case out == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		writeJSON(w, http.StatusOK, out)
	}
}

func writeError(w http.ResponseWriter, err error) {
	code := CodeInternal
	if e, ok := errors.AsType[*Error](err); ok {
		code = e.Code
	}
	writeJSON(w, httpStatus(code), &Error{Code: code, Message: strings.TrimSpace(err.Error())})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		writeError(w, fmt.Errorf("encode the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client is gone: there is nobody to tell
}

func httpStatus(code string) int {
	switch code {
	case CodeInvalid:
		return http.StatusBadRequest
	case CodeNotFound:
		return http.StatusNotFound
	case CodeConflict, CodeTooSmall, CodeBusy:
		return http.StatusConflict
	case CodeExhausted, CodeNoMemory:
		return http.StatusInsufficientStorage
	case CodeNotReady, CodeUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
