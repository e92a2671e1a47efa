package k8s

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/placid-net/placid/internal/timing"
)

const (
	// listTimeout ends a list that hangs. Watches have a timeout of their own.
	listTimeout = time.Minute
	// The wait before a broken watch is taken up again, without jitter.
	watchMinWait = 200 * time.Millisecond
	watchMaxWait = 15 * time.Second
)

// errNoAnswer says that a watch was requested and nothing came back.
var errNoAnswer = errors.New("the API server closed the connection or timed out without an answer")

// sink takes the objects of one watch, one call at a time.
type sink[T runtime.Object] interface {
	upsert(obj T) error
	remove(obj T) error
	// replace gives all objects there are: others are to be removed.
	replace(objs []T) error
}

// watchConfig describes one watch.
type watchConfig[T runtime.Object] struct {
	client   rest.Interface
	resource string // plural, as in the URL
	example  T
	fields   fields.Selector
	labels   labels.Selector
	sink     sink[T]
	health   *health
	log      *slog.Logger
	// trim returns what is needed of an object, so that no more is held while
	// the objects are listed; nil keeps all.
	trim func(T) T
	// absent is an empty list for the time that the cluster does not have the kind;
	// nil where it always has.
	absent runtime.Object
}

// missing tells whether the answer is that the cluster does not have the kind.
func (cfg watchConfig[T]) missing(err error) bool {
	return cfg.absent != nil && apierrors.IsNotFound(err)
}

// watch keeps the sink up to date until ctx ends.
func watch[T runtime.Object](ctx context.Context, cfg watchConfig[T]) {
	backoff := wait.Backoff{Duration: watchMinWait, Factor: 2, Jitter: 0.5, Steps: 10, Cap: watchMaxWait}
	// The reflector waits by itself where it can go on with the same watch.
	inner := backoff
	reflector := cache.NewReflectorWithOptions(
		cache.ToListWatcherWithWatchListSemantics(cfg.listWatch(), cfg.client), cfg.example, &store[T]{cfg.sink, cfg.trim},
		cache.ReflectorOptions{Name: cfg.resource, Backoff: &inner})
	outer := backoff
	for {
		start := time.Now()
		// Health has taken note of an error already, once for each outage.
		if err := reflector.ListAndWatchWithContext(ctx); err != nil {
			cfg.log.Debug("list and watch again", "resource", cfg.resource, "err", err)
		}
		if time.Since(start) > watchMaxWait { // it worked for a while
			outer = backoff
		}
		if !timing.Sleep(ctx, outer.Step()) {
			return
		}
	}
}

// listWatch makes the two requests of a watch and tells health how they went.
func (cfg watchConfig[T]) listWatch() *cache.ListWatch {
	request := func(opts *metav1.ListOptions) *rest.Request {
		opts.FieldSelector, opts.LabelSelector = cfg.fields.String(), cfg.labels.String()
		// No retries below the reflector's: they would hide an outage.
		return cfg.client.Get().MaxRetries(0).Resource(cfg.resource).VersionedParams(opts, metav1.ParameterCodec)
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			ctx, cancel := context.WithTimeout(ctx, listTimeout)
			defer cancel()
			list, err := request(&opts).Do(ctx).Get()
			if cfg.missing(err) {
				list, err = cfg.absent.DeepCopyObject(), nil
			}
			cfg.health.observe(ctx, cfg.resource, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (apiwatch.Interface, error) {
			opts.Watch = true
			w, err := request(&opts).Watch(ctx)
			if _, streams := w.(*apiwatch.StreamWatcher); err == nil && !streams {
				err = errNoAnswer // client-go gives an empty watch instead
			}
			// API servers that do not know streamed lists refuse the option;
			// the reflector then lists in the old way.
			refused := opts.SendInitialEvents != nil && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err))
			if !refused && !cfg.missing(err) {
				cfg.health.observe(ctx, cfg.resource, err)
			}
			if err != nil {
				return nil, err
			}
			return w, nil
		},
	}
}

// store passes what the reflector delivers on to a sink.
type store[T runtime.Object] struct {
	sink sink[T]
	trim func(T) T
}

func (s *store[T]) Add(obj any) error    { return with(obj, s.sink.upsert) }
func (s *store[T]) Update(obj any) error { return with(obj, s.sink.upsert) }
func (s *store[T]) Delete(obj any) error { return with(obj, s.sink.remove) }
func (s *store[T]) Resync() error        { return nil }

func (s *store[T]) Replace(list []any, _ string) error {
	objs := make([]T, 0, len(list))
	for _, o := range list {
		if err := with(o, func(obj T) error { objs = append(objs, obj); return nil }); err != nil {
			return err
		}
	}
	return s.sink.replace(objs)
}

// Transformer lets the reflector hold no more of an object than is needed.
func (s *store[T]) Transformer() cache.TransformFunc {
	if s.trim == nil {
		return nil
	}
	return func(obj any) (any, error) {
		if o, ok := obj.(T); ok {
			return s.trim(o), nil
		}
		return obj, nil
	}
}

func with[T runtime.Object](obj any, do func(T) error) error {
	o, ok := obj.(T)
	if !ok {
		var want T
		return fmt.Errorf("watch delivered a %T, want a %T", obj, want)
	}
	return do(o)
}

// once is a channel that is closed at the first call of done.
type once struct {
	ch   chan struct{}
	once sync.Once
}

func newOnce() *once { return &once{ch: make(chan struct{})} }

func (o *once) done() { o.once.Do(func() { close(o.ch) }) }
