package services

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/timing"
)

// settleDelay is how long after a write people are told what became of it: a
// burst of changes is one, and none of them waits for it.
const settleDelay = 100 * time.Millisecond

// refusedPoll is how often it is looked whether there is room for what did not
// fit: the datapath tries by itself, and tells nobody.
const refusedPoll = time.Second

// maxSentences is how many problems of one Service an event names.
const maxSentences = 4

// Reasons of events.
const (
	reasonRefused = "ServiceRefused" // there is no room for a port
	reasonProblem = "ServiceProblem" // it cannot be served as it is written
)

// notice is what an event is about. What does not fit is told once, whatever the
// room that is left.
type notice struct {
	topic topic
	what  string
}

// settleSoon has told what became of a change: also of one that is not written,
// because it only makes or solves a problem.
func (r *Runner) settleSoon() {
	if r.settleAt.IsZero() {
		r.settleAt = time.Now().Add(settleDelay)
	}
}

// settle tells what became of the writes, when it is time, and when to come
// again; zero is never.
func (r *Runner) settle() time.Time {
	now := time.Now()
	if due := timing.Earliest(r.settleAt, r.health.retryAt); due.IsZero() || now.Before(due) {
		return due
	}
	r.settleAt = time.Time{}
	r.mu.Lock()
	problems, ports := r.engine.Problems(), r.engine.Health()
	r.mu.Unlock()
	var health []healthState
	if r.cfg.HealthChecks {
		health = r.health.set(ports)
	}
	for _, h := range health {
		if h.err != nil {
			problems = append(problems, loadbalance.Problem{
				Service: h.Service, Message: fmt.Sprintf("spec.healthCheckNodePort: on node %s: %v", r.cfg.NodeName, h.err),
			})
		}
	}
	refused := r.cfg.Datapath.RefusedServices()
	r.mu.Lock()
	r.state.health, r.state.problems, r.state.refused = health, problems, refused
	r.mu.Unlock()
	r.tell(problems, refused)
	if len(refused) > 0 {
		r.settleAt = now.Add(refusedPoll)
	}
	return timing.Earliest(r.settleAt, r.health.retryAt)
}

// topic is what one event can be about: Kubernetes sends few of the same object
// and reason.
type topic struct {
	owner  owner
	reason string
}

// remark is what there is to say about a topic.
type remark struct {
	news      bool // some of it was not said before
	sentences []string
}

// tell posts an event about each topic with news, and forgets what is solved.
func (r *Runner) tell(problems []loadbalance.Problem, refused []loadbalance.Refusal) {
	told, topics := map[notice]bool{}, map[topic]*remark{}
	add := func(n notice, sentence string) {
		s := topics[n.topic]
		if s == nil {
			s = &remark{}
			topics[n.topic] = s
		}
		s.news = s.news || !r.told[n]
		s.sentences = append(s.sentences, sentence)
		told[n] = true
	}
	for _, p := range problems {
		add(notice{topic{owner{p.Service, p.HostPort}, reasonProblem}, p.Message}, p.Message)
	}
	for _, f := range refused {
		add(notice{topic{ownerOf(f.Key), reasonRefused}, portName(f.Key) + " " + f.Table}, refusal(f))
	}
	r.told = told
	for _, t := range slices.SortedFunc(maps.Keys(topics), compareTopics) {
		if s := topics[t]; s.news {
			r.post(t, s.sentences)
		}
	}
}

func compareTopics(a, b topic) int {
	x, y := a.owner.ref, b.owner.ref
	return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), cmp.Compare(a.reason, b.reason))
}

func (r *Runner) post(t topic, sentences []string) {
	message := strings.Join(sentences[:min(len(sentences), maxSentences)], "; ")
	if more := len(sentences) - maxSentences; more > 0 {
		message += fmt.Sprintf("; and %d more, see 'placid service get %s'", more, t.owner.ref)
	}
	r.cfg.Log.Warn("service is not served as it should be", "service", t.owner.ref.String(), "hostPort", t.owner.hostPort, "reason", t.reason, "message", message)
	if t.reason == reasonRefused {
		message = "node " + r.cfg.NodeName + ": " + message
	}
	if t.owner.hostPort {
		r.cfg.Cluster.Event(state.PodRef{Namespace: t.owner.ref.Namespace, Name: t.owner.ref.Name}, k8s.EventWarning, t.reason, message)
	} else {
		r.cfg.Cluster.EventService(t.owner.ref, k8s.EventWarning, t.reason, message)
	}
}

// refusal is one sentence for people, without the name of the Service.
func refusal(f loadbalance.Refusal) string {
	return fmt.Sprintf("port %s does not fit: it needs %d entries of table %s and %d are free; make the table larger (%s) or remove Services",
		portName(f.Key), f.Needs, tableName(f.Table), f.Free, sizeKey(f.Table))
}

// sizeKey is the configuration key that sets the size of a table.
func sizeKey(table string) string {
	for word, key := range map[string]string{
		"frontend": "bpf-lb-service-map-max", "backend": "bpf-lb-service-backend-map-max",
		"maglev": "bpf-lb-maglev-map-max", "source": "bpf-lb-source-range-map-max",
	} {
		if strings.Contains(table, word) {
			return "key " + key
		}
	}
	return "key bpf-lb-map-max"
}

// portName names a port in one family, e.g. "http 80/TCP (IPv6)".
func portName(k loadbalance.PortKey) string {
	family := "IPv4"
	if k.IPv6 {
		family = "IPv6"
	}
	return strings.TrimPrefix(fmt.Sprintf("%s %d/%s (%s)", k.Name, k.Port, k.Protocol, family), " ")
}
