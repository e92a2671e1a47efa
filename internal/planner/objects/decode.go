package objects

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	strictjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// reading is what an item came to.
type reading struct {
	item
	ref snapshot.Object // of the object that is being read
	// clusterwide is set if objects of its kind have no namespace.
	clusterwide bool
	objects     []object
	problems    []snapshot.Problem
	unknown     []typeMeta
	// nothing is set for what is no object of Kubernetes.
	nothing bool
}

// object is one that was read.
type object struct {
	ref    snapshot.Object
	origin snapshot.Origin
	row    any
}

// named is what every object has.
type named interface {
	GetName() string
	GetNamespace() string
	SetNamespace(string)
}

// decodeItem reads an item. It depends on nothing but its arguments.
func (k *knowledge) decodeItem(it item) *reading {
	r := &reading{item: it}
	if it.Kind != "" && !it.isList() {
		if _, how, _ := k.treat(it.typeMeta); how == treatSilently || how == treatUnknown {
			k.object(r, it.typeMeta, nil)
			r.raw = nil
			return r
		}
	}
	raw := it.raw
	if it.yaml {
		var err error
		if raw, err = k.toJSON(it); err != nil {
			r.broken(err)
			r.raw = nil
			return r
		}
	}
	k.value(r, it.typeMeta, raw, 0)
	r.raw = nil
	return r
}

// toJSON converts an item, as far as it is read: not all of a pod is.
func (k *knowledge) toJSON(it item) ([]byte, error) {
	if it.Kind == "Pod" {
		if small := prune(it.raw, k.podFields); len(small) < len(it.raw) {
			if raw, err := yamlToJSON(small, it.line, k.limit); err == nil {
				return raw, nil
			}
		}
	}
	return yamlToJSON(it.raw, it.line, k.limit)
}

// maxLists is how deep lists may be nested.
const maxLists = 10

// value reads a JSON value: an object, or a list of values.
func (k *knowledge) value(r *reading, t typeMeta, raw []byte, depth int) {
	t = peekJSON(raw).or(t)
	switch {
	case depth > maxLists:
		r.fatal("", fmt.Sprintf("it is in more than %d lists, one in the other", maxLists))
	case raw[0] == '[':
		var elements []json.RawMessage
		if r.decodeJSON(raw, &elements) {
			k.values(r, typeMeta{}, elements, depth)
		}
	case raw[0] != '{':
		r.nothing = string(raw) != "null"
	case t.isList():
		var list struct {
			Items []json.RawMessage `json:"items"`
		}
		if r.decodeJSON(raw, &list) {
			k.values(r, t.element(), list.Items, depth)
		}
	default:
		k.object(r, t, raw)
	}
}

func (k *knowledge) values(r *reading, t typeMeta, elements []json.RawMessage, depth int) {
	single := r.origin.Item == 0
	for i, e := range elements {
		if single && depth == 0 {
			r.origin.Item = i + 1
		}
		k.value(r, t, e, depth+1)
	}
}

// object reads one object of a type.
func (k *knowledge) object(r *reading, t typeMeta, raw []byte) {
	r.typeMeta, r.ref = t, snapshot.Object{Kind: t.Kind}
	if t.Kind == "" {
		if t.APIVersion != "" {
			r.fatal("kind", "it is missing")
		} else {
			r.nothing = true
		}
		return
	}
	reader, how, why := k.treat(t)
	switch how {
	case treatSilently:
	case treatUnknown:
		r.unknown = append(r.unknown, t)
	case treatRefuse:
		r.nameFrom(raw)
		r.fatal("apiVersion", why)
	case treatRead:
		r.clusterwide = reader.clusterwide
		reader.read(r, raw)
	}
}

// defaultNamespace is where kubectl puts what does not say where.
const defaultNamespace = "default"

// nameFrom takes the name of an object that cannot be read, as far as it can be
// told.
func (r *reading) nameFrom(raw []byte) {
	var o struct {
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	_ = utiljson.Unmarshal(raw, &o) // the reader of the kind complains
	r.ref.Name, r.ref.Namespace = o.Metadata.Name, o.Metadata.Namespace
}

// broken tells of a text that cannot be read.
func (r *reading) broken(err error) {
	r.ref = snapshot.Object{Kind: r.Kind}
	r.fatal("", "the YAML cannot be read: "+err.Error())
}

func (r *reading) fatal(field, message string) { r.problem(snapshot.Fatal, field, message) }

func (r *reading) doubt(field, message string) { r.problem(snapshot.Doubt, field, message) }

func (r *reading) problem(severity snapshot.Severity, field, message string) {
	r.problems = append(r.problems, snapshot.Problem{
		Severity: severity, Origin: r.origin, Object: r.ref, Field: field, Message: message,
	})
}

// doubts tells of what a conversion to a row left out: a sentence each that begins
// with the field.
func (r *reading) doubts(sentences []string) {
	for _, s := range sentences {
		field, message, found := strings.Cut(s, ": ")
		if !found {
			field, message = "", s
		}
		r.doubt(field, message)
	}
}

// keep takes a row as what the object is.
func (r *reading) keep(row any) {
	r.objects = append(r.objects, object{ref: r.ref, origin: r.origin, row: row})
}

// decode fills in obj, and tells whether it is usable. Of the types of the API the
// fields that are not known are told, but for those in the status, which say nothing
// about what was asked for; the types of this package have few fields.
func (r *reading) decode(raw []byte, obj named) bool {
	var unknown []error
	var err error
	if o, ok := obj.(runtime.Object); ok {
		unknown, err = decodeStrictly(raw, o)
	} else {
		err = utiljson.Unmarshal(raw, obj)
	}
	if err != nil {
		r.nameFrom(raw)
		r.wrong(err)
		return false
	}
	r.ref.Name, r.ref.Namespace = obj.GetName(), obj.GetNamespace()
	switch {
	case r.ref.Name == "":
		r.ref.Namespace = ""
		r.fatal("metadata.name", "it is missing")
		return false
	case r.clusterwide:
		r.ref.Namespace = ""
	case r.ref.Namespace == "":
		r.ref.Namespace = defaultNamespace
		r.doubt("metadata.namespace", "it is missing; "+defaultNamespace+" is taken for it, as kubectl does")
	}
	obj.SetNamespace(r.ref.Namespace)
	usable := true
	for _, e := range unknown {
		usable = r.strange(e) && usable
	}
	return usable
}

// decodeStrictly fills in obj. The list has the fields that are not known, or stand
// twice.
func decodeStrictly(raw []byte, obj runtime.Object) ([]error, error) {
	none := runtime.NewScheme() // the type is known from obj
	s := strictjson.NewSerializerWithOptions(strictjson.DefaultMetaFactory, none, none, strictjson.SerializerOptions{Strict: true})
	_, _, err := s.Decode(raw, nil, obj)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		return strict.Errors(), nil
	}
	return nil, err
}

// strange tells of a field that is not known, or that stands twice; then the object
// is not usable.
func (r *reading) strange(err error) (usable bool) {
	field := ""
	if f, ok := errors.AsType[interface {
		error
		FieldPath() string
	}](err); ok {
		field = f.FieldPath()
	}
	switch {
	case strings.HasPrefix(err.Error(), "duplicate field"):
		r.fatal(field, "it stands twice")
		return false
	case !strings.HasPrefix(field, "status."):
		r.doubt(field, "no such field is known; it is not read")
	}
	return true
}

// decodeJSON is for what is no object.
func (r *reading) decodeJSON(raw []byte, v any) bool {
	if err := utiljson.Unmarshal(raw, v); err != nil {
		r.wrong(err)
		return false
	}
	return true
}

// wrong tells of a value that does not fit.
func (r *reading) wrong(err error) {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		r.fatal(strings.TrimPrefix(e.Field, "meta."), fmt.Sprintf("it is of the type %s, where %s belongs", e.Value, typeText(e.Type)))
		return
	}
	r.fatal("", "the object cannot be read: "+strings.TrimPrefix(err.Error(), "json: "))
}

func typeText(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.Pointer:
		return typeText(t.Elem())
	default:
		return "a number"
	}
}
