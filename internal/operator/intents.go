package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	intentsName = "placid-operator-intents"
	intentsKey  = "intents.json"
)

// intents are pod CIDRs that were carved and may not be in a PlacidNode yet, by
// node.
type intents map[string]intent

// intent is what one Node object, not just one of that name, is to have.
type intent struct {
	NodeUID types.UID      `json:"nodeUID"`
	CIDRs   []netip.Prefix `json:"cidrs"`
}

// intentStore keeps the intents in a ConfigMap. Every carve goes through write,
// which succeeds only if nobody else wrote since read: whoever carves has seen
// all that was carved before.
type intentStore struct {
	client    client.Client
	live      client.Reader
	namespace string
	// stored is the object as it was read or written last; its resource version
	// is empty when there was none.
	stored *corev1.ConfigMap
}

// read fetches the intents; none when the ConfigMap does not exist.
func (s *intentStore) read(ctx context.Context) (intents, error) {
	cm := &corev1.ConfigMap{}
	err := s.live.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: intentsName}, cm)
	if apierrors.IsNotFound(err) {
		s.stored = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: intentsName}}
		return intents{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", s.namespace, intentsName, err)
	}
	out := intents{}
	if text := cm.Data[intentsKey]; text != "" {
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			return nil, fmt.Errorf("read key %s of ConfigMap %s/%s: %w (stop all operators before you delete it)",
				intentsKey, s.namespace, intentsName, err)
		}
	}
	s.stored = cm
	return out, nil
}

// write replaces the intents. The error is a Kubernetes conflict, or already
// exists, when somebody wrote since the last read or write; after any error the
// caller must read again.
func (s *intentStore) write(ctx context.Context, in intents) error {
	text, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode intents: %w", err)
	}
	cm := s.stored.DeepCopy()
	cm.Data = map[string]string{intentsKey: string(text)}
	if cm.ResourceVersion == "" {
		err = s.client.Create(ctx, cm)
	} else {
		err = s.client.Update(ctx, cm)
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", s.namespace, intentsName, err)
	}
	s.stored = cm
	return nil
}
