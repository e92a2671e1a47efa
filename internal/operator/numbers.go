package operator

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/state"
)

const (
	// passedAnnotation of a PlacidIdentity says which label sets found their
	// first number taken by it and went on to another: a JSON object of the
	// digest of a label set to the time.
	passedAnnotation = "placid.io/passed-by"
	// passRest is how long after it was passed an identity stays at least.
	passRest = 24 * time.Hour
	// maxProbes is the most numbers that one search looks at. With half of the
	// numbers taken a search needs two or three.
	maxProbes = 64
	// maxSearches is how often a search begins anew because it was overtaken.
	maxSearches = 16
)

// errNumbersTaken: every number that the search looked at belongs to other label
// sets.
var errNumbersTaken = errors.New("no free identity number found")

// errOvertaken: somebody took, passed or deleted what a search had seen.
var errOvertaken = errors.New("another operator changed the identities meanwhile")

// numbers gives numbers to label sets, and takes them back. Any number of them
// may work on one API server at the same time, see docs/adr/0005-identities.md:
//
//   - The name of a PlacidIdentity is its number, so to create it is to take the
//     number.
//   - A label set's search always begins at the same number and goes up. Before it
//     goes past an identity of other labels, it writes that into the identity.
//   - An identity that was passed stays while a label set that passed it has a
//     number further on. So nobody finds a gap before that number and takes it for
//     the same labels.
type numbers struct {
	client client.Client // writes
	live   client.Reader // reads from the API server
	first  uint32
	last   uint32
	now    func() time.Time
}

// allocate returns the identity of a label set, creating it when there is none.
// The error is errNumbersTaken, or one of the API server; it may be repeated.
// The context should end long before passRest.
func (n *numbers) allocate(ctx context.Context, labels map[string]string, ports []state.NamedPort) (id *v1alpha1.PlacidIdentity, created bool, err error) {
	key := identity.Key(labels, ports)
	for range maxSearches {
		id, created, err = n.search(ctx, key, labels, ports)
		if !errors.Is(err, errOvertaken) {
			break
		}
	}
	return id, created, err
}

// search goes through the numbers of a label set until one is its own or free.
func (n *numbers) search(ctx context.Context, key string, labels map[string]string, ports []state.NamedPort) (id *v1alpha1.PlacidIdentity, created bool, err error) {
	start, space := n.start(key), n.last-n.first+1
	var others []*v1alpha1.PlacidIdentity
	for i := range min(maxProbes, space) {
		want := newIdentity(n.first+(start+i)%space, labels, ports)
		if i == 0 {
			err := n.client.Create(ctx, want) // as a rule the number is free
			if err == nil {
				return want, true, nil
			}
			if !apierrors.IsAlreadyExists(err) {
				return nil, false, fmt.Errorf("create PlacidIdentity %s: %w", want.Name, err)
			}
		}
		there, err := get(ctx, n.live, want.Name, &v1alpha1.PlacidIdentity{})
		if err != nil {
			return nil, false, err
		}
		if there == nil {
			return n.createBehind(ctx, others, key, want)
		}
		if _, other, rowErr := rowOf(there); rowErr == nil && other == key {
			return there, false, nil
		}
		others = append(others, there)
	}
	return nil, false, fmt.Errorf("%w: looked at %d of %d, from %d on; choose a narrower label filter (key labels)",
		errNumbersTaken, len(others), space, n.first+start)
}

// start is how far from the first number the search for a label set begins.
func (n *numbers) start(key string) uint32 {
	sum := sha256.Sum256([]byte(key))
	return uint32(binary.BigEndian.Uint64(sum[:]) % uint64(n.last-n.first+1))
}

// createBehind creates an identity after it has passed the others.
func (n *numbers) createBehind(ctx context.Context, others []*v1alpha1.PlacidIdentity, key string, want *v1alpha1.PlacidIdentity) (*v1alpha1.PlacidIdentity, bool, error) {
	for _, other := range others {
		err := n.pass(ctx, other, key)
		switch {
		case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
			return nil, false, fmt.Errorf("pass PlacidIdentity %s: %w: %w", other.Name, errOvertaken, err)
		case err != nil:
			return nil, false, fmt.Errorf("pass PlacidIdentity %s: %w", other.Name, err)
		}
	}
	err := n.client.Create(ctx, want)
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil, false, fmt.Errorf("create PlacidIdentity %s: %w: %w", want.Name, errOvertaken, err)
	case err != nil:
		return nil, false, fmt.Errorf("create PlacidIdentity %s: %w", want.Name, err)
	}
	return want, true, nil
}

// pass records in the identity that the label set goes past it, also when that is
// recorded already: whoever was about to delete it meets a conflict.
func (n *numbers) pass(ctx context.Context, id *v1alpha1.PlacidIdentity, key string) error {
	passed := passedBy(id)
	passed[digest(key)] = n.now().UTC().Truncate(time.Microsecond)
	text, err := json.Marshal(passed)
	if err != nil {
		return fmt.Errorf("encode annotation %s: %w", passedAnnotation, err)
	}
	id = id.DeepCopy()
	metav1.SetMetaDataAnnotation(&id.ObjectMeta, passedAnnotation, string(text))
	return n.client.Update(ctx, id)
}

// remove deletes an identity, unless a label set that has passed it may need it.
// It deletes the very object that is given, in that version. Deleting what is
// absent is success.
func (n *numbers) remove(ctx context.Context, id *v1alpha1.PlacidIdentity) (removed bool, err error) {
	if passed := passedBy(id); len(passed) > 0 {
		if free, forgottenErr := n.forgotten(ctx, passed); forgottenErr != nil || !free {
			return false, forgottenErr
		}
	}
	err = n.client.Delete(ctx, id, client.Preconditions{UID: &id.UID, ResourceVersion: &id.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("delete PlacidIdentity %s: %w", id.Name, err)
	}
	return true, nil
}

// forgotten says whether none of the label sets has a number, or may be on the
// way to one.
func (n *numbers) forgotten(ctx context.Context, passed map[string]time.Time) (bool, error) {
	for _, at := range passed {
		if n.now().Sub(at) < passRest {
			return false, nil
		}
	}
	var list v1alpha1.PlacidIdentityList
	if err := n.live.List(ctx, &list); err != nil {
		return false, fmt.Errorf("list PlacidIdentities: %w", err)
	}
	return !slices.ContainsFunc(list.Items, func(id v1alpha1.PlacidIdentity) bool {
		_, key, err := rowOf(&id)
		return err == nil && !passed[digest(key)].IsZero()
	}), nil
}

// passedBy returns what the annotation says. One that cannot be read counts as
// passed by nobody: this operator wrote none such.
func passedBy(id *v1alpha1.PlacidIdentity) map[string]time.Time {
	out := map[string]time.Time{}
	if err := json.Unmarshal([]byte(id.Annotations[passedAnnotation]), &out); err != nil {
		clear(out)
	}
	return out
}

// digest stands for a label set in the annotation.
func digest(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

func newIdentity(number uint32, labels map[string]string, ports []state.NamedPort) *v1alpha1.PlacidIdentity {
	id := &v1alpha1.PlacidIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: strconv.FormatUint(uint64(number), 10)},
		Labels:     maps.Clone(labels),
	}
	if id.Labels == nil {
		id.Labels = map[string]string{} // the API wants the field
	}
	for _, p := range ports {
		id.NamedPorts = append(id.NamedPorts, v1alpha1.NamedPort{Name: p.Name, Protocol: p.Protocol.String(), Port: int32(p.Port)})
	}
	return id
}

// rowOf returns the number, labels and ports of an identity; the error says what
// of it makes no sense.
func rowOf(id *v1alpha1.PlacidIdentity) (row state.Identity, key string, err error) {
	row, err = k8s.IdentityRow(id)
	if err != nil {
		return row, "", fmt.Errorf("PlacidIdentity %s: %w", id.Name, err)
	}
	return row, identity.Key(row.Labels, row.NamedPorts), nil
}
