package security

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/resolve"
	"github.com/placid-net/placid/internal/state"
)

// Datapath is the part of the datapath that enforces policies.
type Datapath interface {
	ApplyPolicy(ctx context.Context, u policy.Update) error
	SyncPolicy(ctx context.Context, t policy.Tables) error
	SetIdentity(ctx context.Context, endpoint, identity uint32) error
	Forget(endpoint uint32)
	SecurityOf(endpoint uint32) (datapath.Security, bool)
	PolicyProblems() []datapath.PolicyProblem
}

// Cluster is what the API server is asked for and told.
type Cluster interface {
	// PolicySynced is closed when all tables that policies need are complete.
	PolicySynced() <-chan struct{}
	// Pod reads one pod of this node; ok is false when it does not exist.
	Pod(ctx context.Context, ref state.PodRef) (pod state.Pod, ok bool, err error)
	PublishEndpoints(eps []state.PublishedEndpoint)
	WithdrawEndpoints()
	Event(ref state.PodRef, kind k8s.EventType, reason, message string)
	PolicyEvent(ref k8s.PolicyRef, kind k8s.EventType, reason, message string)
}

// Meter takes what is measured.
type Meter interface {
	// Propagated is the time from an endpoint of another node getting its
	// identity to this node knowing it.
	Propagated(took time.Duration)
	// Identified is the time from the creation of a pod of this node, or from the
	// first policy when that was later, to its identity being known here.
	Identified(took time.Duration)
	// Implemented is the time that a change of policies took to be in the kernel
	// once the node knew it.
	Implemented(took time.Duration)
}

// Config describes one Enforcer. All fields but the switches are required.
type Config struct {
	NodeName, ClusterName string
	Mode                  policy.Mode // the key enable-policy
	AuditAll              bool        // the key policy-audit-mode
	Ignore                bool        // Kubernetes' own NetworkPolicies: the key enable-k8s-networkpolicy is off
	Filter                identity.Filter
	Interval              time.Duration // between audits
	Tables                *state.Tables
	Datapath              Datapath
	Cluster               Cluster
	Meter                 Meter
	Log                   *slog.Logger
}

// Enforcer keeps what the policies say in force. Create it with New; Restore
// comes before Run, all other methods are safe for concurrent use.
type Enforcer struct {
	cfg    Config
	feeds  feeds
	wake   chan struct{} // tells Run that there is something to do
	synced <-chan struct{}

	// mu guards all below and the order of writes to the datapath.
	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something changed
	begun   bool          // the tables were complete once
	engine  *policy.Engine
	audit   bool
	// resolver stands between the tables and the engine.
	resolver *resolve.Resolver

	identities *identity.Table
	policies   map[string]known // by state.NetworkPolicy.Key
	members    map[uint32]*member
	strangers  map[string]int // endpoints without an identity, by the node that publishes them

	stage     staging
	published published
	problems  problems
	pending   time.Time // when the oldest change of a policy that is not in the kernel yet came
	retry     retry
}

// known is what the Enforcer itself remembers of a policy.
type known struct {
	object          k8s.PolicyRef
	ingress, egress bool // what it has a say in
}

func knownOf(p *state.NetworkPolicy) known {
	return known{
		object:  k8s.PolicyRef{Kind: p.Kind, Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		ingress: p.IsolatesIngress || p.Kind != state.PolicyKubernetes && len(p.Ingress)+len(p.IngressDeny) > 0,
		egress:  p.IsolatesEgress || p.Kind != state.PolicyKubernetes && len(p.Egress)+len(p.EgressDeny) > 0,
	}
}

// ErrIncomplete says that a Config lacks a field.
var ErrIncomplete = errors.New("configuration is incomplete")

// New returns an Enforcer that does nothing until Run or Admit.
func New(cfg Config) (*Enforcer, error) {
	if cfg.NodeName == "" || cfg.Interval <= 0 || cfg.Tables == nil || cfg.Datapath == nil || cfg.Cluster == nil || cfg.Meter == nil || cfg.Log == nil {
		return nil, errors.Join(errors.New("create policy enforcer"), ErrIncomplete)
	}
	synced := cfg.Cluster.PolicySynced()
	if cfg.Mode == policy.ModeNever { // nothing is watched, nothing is waited for
		now := make(chan struct{})
		close(now)
		synced = now
	}
	return &Enforcer{
		cfg: cfg, synced: synced, feeds: openFeeds(cfg.Tables), wake: make(chan struct{}, 1), changed: make(chan struct{}), audit: cfg.AuditAll,
		engine: policy.NewEngine(policy.Config{
			Mode: cfg.Mode, AuditAll: cfg.AuditAll,
			PodLabelKnown: cfg.Filter.KeepPodLabel, NamespaceLabelKnown: cfg.Filter.KeepNamespaceLabel,
			DerivedLabelKnown: func(key string) bool { return cfg.Filter.Keep(identity.SourceKubernetes, key) },
		}),
		resolver:   resolve.New(),
		identities: identity.NewTable(), policies: map[string]known{}, members: map[uint32]*member{}, strangers: map[string]int{},
	}, nil
}
