package operator

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
)

const (
	// reportEvery is how often the reports on labels are renewed.
	reportEvery = time.Minute
	// churnShown is how many labels have a series of how many identities they
	// make.
	churnShown = 10
	// churnLimit is how many new values an hour make a label worth a warning.
	churnLimit = 100
	// groupsShown is how many groups of pods without labels are named, a series
	// and an event each.
	groupsShown = 100
)

// Reasons of events.
const (
	reasonFilteredLabel = "PolicyUsesFilteredLabel"
	reasonNotUnderstood = "PolicyNotUnderstood"
	reasonNotSupported  = "PolicyNotSupported"
	reasonNoLabels      = "PodsWithoutLabels"
	reasonChurn         = "LabelMakesIdentities"
)

// reports tells people, by name, what the label filter breaks and which labels
// make identities without end: as events, in the log and as metrics. Each thing is
// told once, and again when it has been mended and comes back.
type reports struct {
	filter  identity.Filter
	sets    *labelSets
	events  events.EventRecorder
	metrics *identityMetrics
	logger  *slog.Logger
	now     func() time.Time

	mu       sync.Mutex
	policies map[string]policyReport // by policyObject.key
	groups   map[string]bool         // groups of pods without labels that were told of
	churn    *identity.Churn
	churning map[string]bool // labels that were told of
}

// policyReport is one policy, and the label keys and sentences that were told of.
type policyReport struct {
	uid  types.UID
	told map[string]bool
}

func newReports(filter identity.Filter, sets *labelSets, recorder events.EventRecorder, m *identityMetrics, logger *slog.Logger, now func() time.Time) *reports {
	return &reports{
		filter: filter, sets: sets, events: recorder, metrics: m, logger: logger, now: now,
		policies: map[string]policyReport{}, groups: map[string]bool{}, churn: identity.NewChurn(), churning: map[string]bool{},
	}
}

// run renews the reports until ctx ends.
func (r *reports) run(ctx context.Context) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.update()
		}
	}
}

// setPolicy reports the labels that the policy selects peers by and that no
// identity has, and what of it is not understood or not enforced.
func (r *reports) setPolicy(p policyObject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.policies[p.key()]
	now := policyReport{uid: p.object.GetUID(), told: map[string]bool{}}
	fresh := func(what string) bool {
		now.told[what] = true
		return before.uid != now.uid || !before.told[what]
	}
	r.metrics.forgetPolicy(p.object.GetNamespace(), p.label())
	for _, f := range identity.Unmatchable(r.filter, p.rows) {
		key := f.Key
		if f.Namespace {
			key = identity.NamespaceLabelPrefix + f.Key
		}
		r.metrics.filtered.WithLabelValues(p.object.GetNamespace(), p.label(), key).Set(1)
		if fresh(key) {
			r.logger.Warn("a policy selects peers by a label that identities do not have", "policy", f.Policy, "key", key, "problem", f.Message)
			r.warnPolicy(p, reasonFilteredLabel, "SelectPeers", f.Message)
		}
	}
	for _, part := range []struct {
		reason    string
		sentences func(state.NetworkPolicy) []string
	}{
		{reasonNotUnderstood, func(row state.NetworkPolicy) []string { return row.Problems }},
		{reasonNotSupported, func(row state.NetworkPolicy) []string { return row.Unsupported }},
	} {
		var all []string
		for _, row := range p.rows {
			all = append(all, part.sentences(row)...)
		}
		if text := strings.Join(all, ". "); text != "" && fresh(part.reason+" "+text) {
			r.warnPolicy(p, part.reason, "ReadPolicy", text)
		}
	}
	r.policies[p.key()] = now
}

func (r *reports) warnPolicy(p policyObject, reason, action, text string) {
	r.events.Eventf(p.about(), nil, corev1.EventTypeWarning, reason, action, "%s", clip(text, maxEventNote))
}

// removePolicy forgets a policy and returns how many there are left.
func (r *reports) removePolicy(p policyObject) (left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.metrics.forgetPolicy(p.object.GetNamespace(), p.label())
	delete(r.policies, p.key())
	return len(r.policies)
}

// observe takes note of an identity that was made for a pod that came.
func (r *reports) observe(labels map[string]string, namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.churn.Observe(r.now(), labels, namespace)
}

// update renews the reports on pods without labels and on labels that make
// identities.
func (r *reports) update() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.updateGroupsLocked(identity.Unlabelled(r.filter, r.sets.unlabelled()))
	r.updateChurnLocked(r.churn.Top(r.now(), churnShown))
}

// updateGroupsLocked reports groups of pods that the filter leaves no label.
func (r *reports) updateGroupsLocked(groups []identity.Group) {
	perNamespace, told := map[string]int{}, map[string]bool{}
	for i, g := range groups {
		perNamespace[g.Namespace] += len(g.Pods)
		id := g.Namespace + "\x00" + labelText(g.Labels) + "\x00" + strings.Join(g.Varying, ",")
		if i >= groupsShown && !r.groups[id] {
			continue
		}
		told[id] = true
		if r.groups[id] {
			continue
		}
		example := g.Pods[0].String()
		r.logger.Warn("the label filter leaves pods no label of their own, so that policies cannot tell them apart",
			"namespace", g.Namespace, "pods", len(g.Pods), "example", example, "labels", g.Labels, "varying", g.Varying)
		text := fmt.Sprintf("The key labels leaves none of the labels of %d pods such as %s (%s): policies can tell them apart by namespace and "+
			"service account only; keep one of their labels", len(g.Pods), example, strings.Join(slices.Concat(slices.Sorted(maps.Keys(g.Labels)), g.Varying), ", "))
		r.events.Eventf(r.sets.namespace(g.Namespace), nil, corev1.EventTypeWarning, reasonNoLabels, "FilterLabels", "%s", clip(text, maxEventNote))
	}
	r.groups = told
	r.metrics.unlabelled.Reset()
	names := slices.SortedFunc(maps.Keys(perNamespace), func(a, b string) int {
		return cmp.Or(cmp.Compare(perNamespace[b], perNamespace[a]), cmp.Compare(a, b))
	})
	for _, ns := range names[:min(len(names), groupsShown)] {
		r.metrics.unlabelled.WithLabelValues(ns).Set(float64(perNamespace[ns]))
	}
}

// updateChurnLocked reports the labels that make most identities.
func (r *reports) updateChurnLocked(top []identity.ChurnLabel) {
	r.metrics.churn.Reset()
	told := map[string]bool{}
	for _, l := range top {
		r.metrics.churn.WithLabelValues(l.Namespace, l.Key).Set(l.PerHour)
		id := l.Namespace + "\x00" + l.Key
		if r.churning[id] && l.PerHour > churnLimit/2 {
			told[id] = true // it has not been mended
			continue
		}
		if l.PerHour <= churnLimit {
			continue
		}
		told[id] = true
		r.logger.Warn("a label makes ever new identities", "namespace", l.Namespace, "label", l.Key, "perHour", int(l.PerHour), "lastHour", l.Values)
		_, key, _ := strings.Cut(l.Key, ":")
		text := fmt.Sprintf("The label %s had %d values in new identities within the last hour: each costs every node a policy update; "+
			"leave the label out of identities with labels=!%s", l.Key, l.Values, regexpKey(key))
		r.events.Eventf(r.sets.namespace(l.Namespace), nil, corev1.EventTypeWarning, reasonChurn, "AllocateIdentity", "%s", clip(text, maxEventNote))
	}
	r.churning = told
}

// regexpKey writes a label key as an item of the key labels that matches it alone.
func regexpKey(key string) string { return strings.ReplaceAll(key, ".", `\.`) + "$" }

// labelText gives labels as "key=value" sorted.
func labelText(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, k+"="+labels[k])
	}
	return strings.Join(out, ",")
}

// unlabelled returns the pods that have labels of their own of which the filter
// keeps none; none at all while identities are not needed.
func (s *labelSets) unlabelled() []state.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []state.Pod
	if !s.needed {
		return nil
	}
	for _, ns := range s.namespaces {
		for name, sh := range ns.pods {
			if sh.bare {
				pod := sh.pod
				pod.Ref = state.PodRef{Namespace: pod.Ref.Namespace, Name: name}
				out = append(out, pod)
			}
		}
	}
	return out
}
