package services

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

const (
	// listenRetry is how often a port that is in use is tried.
	listenRetry = 5 * time.Second
	// healthTimeout bounds one exchange with a load balancer.
	healthTimeout = 10 * time.Second
)

// weightHeader tells load balancers how much of the traffic is for this node.
const weightHeader = "X-Load-Balancing-Endpoint-Weight"

// healthAnswer is the body that load balancers know from kube-proxy.
type healthAnswer struct {
	Service             state.ServiceRef `json:"service"`
	LocalEndpoints      int              `json:"localEndpoints"`
	ServiceProxyHealthy bool             `json:"serviceProxyHealthy"`
}

// healthState is one health check node port as it is.
type healthState struct {
	loadbalance.HealthPort
	err error // why nothing answers there
}

// healthServers answer on health check node ports. All methods but ServeHTTP of
// its servers are for one caller at a time.
type healthServers struct {
	open    func(port uint16) (net.Listener, error)
	healthy func() bool
	log     *slog.Logger
	ports   map[uint16]*healthServer
	failed  map[uint16]error
	retryAt time.Time // when to try the ports again that failed; zero: none did
	serving sync.WaitGroup
}

// healthServer answers for one Service.
type healthServer struct {
	server  *http.Server
	healthy func() bool

	mu    sync.Mutex
	state loadbalance.HealthPort
}

func newHealthServers(open func(uint16) (net.Listener, error), healthy func() bool, log *slog.Logger) *healthServers {
	return &healthServers{open: open, healthy: healthy, log: log, ports: map[uint16]*healthServer{}, failed: map[uint16]error{}}
}

// listenAll opens a port on all addresses of the node.
func listenAll(port uint16) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(port))))
}

// set opens and closes ports until exactly these are there, and tells how each
// fares. Of two Services with one port the first is served.
func (h *healthServers) set(want []loadbalance.HealthPort) []healthState {
	now := time.Now()
	first := map[uint16]loadbalance.HealthPort{}
	for _, w := range want {
		if _, taken := first[w.Port]; !taken {
			first[w.Port] = w
		}
	}
	for _, port := range slices.Sorted(maps.Keys(h.ports)) {
		if _, ok := first[port]; !ok {
			h.stop(port)
		}
	}
	maps.DeleteFunc(h.failed, func(port uint16, _ error) bool {
		_, ok := first[port]
		return !ok
	})
	again := !h.retryAt.IsZero() && !now.Before(h.retryAt)
	for _, port := range slices.Sorted(maps.Keys(first)) {
		if server := h.ports[port]; server != nil {
			server.set(first[port])
			continue
		}
		if _, bad := h.failed[port]; !bad || again {
			h.start(first[port])
		}
	}
	switch {
	case len(h.failed) == 0:
		h.retryAt = time.Time{}
	case h.retryAt.IsZero() || again:
		h.retryAt = now.Add(listenRetry)
	}
	return h.states(want, first)
}

func (h *healthServers) states(want []loadbalance.HealthPort, first map[uint16]loadbalance.HealthPort) []healthState {
	out := make([]healthState, 0, len(want))
	for _, w := range want {
		s := healthState{HealthPort: w, err: h.failed[w.Port]}
		if served := first[w.Port]; served.Service != w.Service {
			s.err = fmt.Errorf("port %d answers for %s already", w.Port, served.Service)
		}
		out = append(out, s)
	}
	return out
}

func (h *healthServers) start(want loadbalance.HealthPort) {
	l, err := h.open(want.Port)
	if err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("listen on port %d: %w: another program of the node has it; end that, or give the Service another port", want.Port, unix.EADDRINUSE)
		} else {
			err = fmt.Errorf("listen on port %d: %w", want.Port, err)
		}
		h.failed[want.Port] = err
		return
	}
	delete(h.failed, want.Port)
	s := &healthServer{healthy: h.healthy, state: want}
	s.server = &http.Server{
		Handler: s, ReadTimeout: healthTimeout, WriteTimeout: healthTimeout, IdleTimeout: healthTimeout,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	h.ports[want.Port] = s
	h.serving.Go(func() {
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			h.log.Error("serve health check node port", "port", want.Port, "service", want.Service.String(), "error", err)
		}
	})
}

func (h *healthServers) stop(port uint16) {
	_ = h.ports[port].server.Close() // closes the listener, which is all that matters
	delete(h.ports, port)
}

func (h *healthServers) close() {
	for _, port := range slices.Sorted(maps.Keys(h.ports)) {
		h.stop(port)
	}
	h.serving.Wait()
}

func (s *healthServer) set(now loadbalance.HealthPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = now
}

// ServeHTTP answers on every path, as kube-proxy does.
func (s *healthServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	s.mu.Lock()
	now := s.state
	s.mu.Unlock()
	answer := healthAnswer{Service: now.Service, LocalEndpoints: now.Local, ServiceProxyHealthy: s.healthy()}
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set(weightHeader, strconv.Itoa(now.Local))
	status := http.StatusServiceUnavailable
	if answer.LocalEndpoints > 0 && answer.ServiceProxyHealthy {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: there is nobody to tell
}
