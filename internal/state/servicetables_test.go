package state

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// other gives v another value than the one it has, whatever its type is.
func other(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *netip.Addr:
		*x = netip.MustParseAddr("192.0.2.77")
		return
	case *netip.Prefix:
		*x = netip.MustParsePrefix("192.0.2.0/25")
		return
	case *time.Time:
		*x = x.Add(time.Nanosecond)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(v.Uint() + 1)
	case reflect.Int64:
		v.SetInt(v.Int() + 1)
	default:
		t.Fatalf("a field has the type %s: say here how it differs", v.Type())
	}
}

// eachField calls check with a row in which one field, or one part of a field,
// differs from what fill gives.
func eachField[T any](t *testing.T, fill func() *T, check func(field string, row *T)) {
	t.Helper()
	walk(t, "", reflect.ValueOf(fill()).Elem(), func() reflect.Value { return reflect.ValueOf(fill()).Elem() },
		func(field string, root reflect.Value) { check(field, root.Addr().Interface().(*T)) })
}

// walk visits v, which is a part of what fresh gives, at the path that at follows.
func walk(t *testing.T, path string, v reflect.Value, fresh func() reflect.Value, check func(string, reflect.Value)) {
	t.Helper()
	for i := range v.NumField() {
		field := path + v.Type().Field(i).Name
		row := fresh()
		f := row.Field(i)
		switch {
		case f.Kind() == reflect.Struct && f.Type() == reflect.TypeFor[ServiceRef]():
			for j := range f.NumField() {
				row = fresh()
				other(t, row.Field(i).Field(j))
				check(field+"."+f.Type().Field(j).Name, row)
			}
		case f.Kind() == reflect.Map:
			f.SetMapIndex(reflect.ValueOf("another"), reflect.ValueOf("value"))
			check(field, row)
		case f.Kind() == reflect.Slice:
			if f.Len() == 0 {
				t.Fatalf("%s is empty: fill it", field)
			}
			f.Set(f.Slice(0, f.Len()-1))
			check(field+" shorter", row)
			walkElement(t, field, func() (row, element reflect.Value) {
				row = fresh()
				return row, row.Field(i).Index(0)
			}, check)
		default:
			other(t, f)
			check(field, row)
		}
	}
}

// walkElement is walk for the first element of a list.
func walkElement(t *testing.T, field string, fresh func() (row, element reflect.Value), check func(string, reflect.Value)) {
	t.Helper()
	row, element := fresh()
	switch element.Type() {
	case reflect.TypeFor[ServicePort](), reflect.TypeFor[SlicePort](), reflect.TypeFor[SliceEndpoint]():
	default:
		other(t, element)
		check(field+"[0]", row)
		return
	}
	for i := range element.NumField() {
		row, element := fresh()
		f := element.Field(i)
		name := field + "[0]." + element.Type().Field(i).Name
		if f.Kind() == reflect.Slice {
			f = f.Index(0)
		} else if f.Kind() == reflect.Map {
			t.Fatalf("%s is a map", name)
		}
		other(t, f)
		check(name, row)
	}
}

func fullService() *Service {
	addrs := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	return &Service{
		Ref: ServiceRef{Namespace: "n", Name: "s"}, UID: "u", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		ClusterIPs: addrs("10.96.0.1"), ExternalIPs: addrs("198.51.100.1"), LoadBalancers: addrs("fd00::1"),
		Ports:        []ServicePort{{Name: "http", Protocol: ProtocolTCP, Port: 80, NodePort: 30080}},
		SourceRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Affinity: time.Hour, HealthCheckPort: 30000,
		Distribution: DistributeSameNode, Annotations: map[string]string{"service.cilium.io/lb-algorithm": "maglev"},
	}
}

func fullSlice() *EndpointSlice {
	return &EndpointSlice{
		Namespace: "n", Name: "s-1", Service: "s", Ports: []SlicePort{{Name: "http", Protocol: ProtocolTCP, Port: 8080}},
		Backends: []SliceEndpoint{{
			Addr: netip.MustParseAddr("10.0.0.1"), Ready: true, Serving: true, Node: "a", Zone: "z",
			HintZones: []string{"z"}, HintNodes: []string{"a"},
		}},
	}
}

// No field of a row is forgotten when rows are compared, also none that is new.
func TestServiceRowsDiffer(t *testing.T) {
	fields := 0
	eachField(t, fullService, func(field string, row *Service) {
		fields++
		if sameService(fullService(), row) || sameService(row, fullService()) {
			t.Errorf("Services that differ in %s are the same", field)
		}
	})
	eachField(t, fullSlice, func(field string, row *EndpointSlice) {
		fields++
		if sameSlice(fullSlice(), row) || sameSlice(row, fullSlice()) {
			t.Errorf("EndpointSlices that differ in %s are the same", field)
		}
	})
	if fields < 40 {
		t.Errorf("only %d fields were compared", fields)
	}
}

func TestServiceRowsAreTheSame(t *testing.T) {
	a, b := fullService(), fullService()
	b.CreatedAt = a.CreatedAt.In(time.FixedZone("x", 3600))
	if !sameService(a, b) || !sameSlice(fullSlice(), fullSlice()) {
		t.Error("equal rows differ")
	}
	if !sameService(&Service{}, &Service{ClusterIPs: []netip.Addr{}, Annotations: map[string]string{}}) {
		t.Error("an empty list differs from none")
	}
}

// BenchmarkSameSlice measures the comparison of a full slice: Kubernetes puts up to
// 100 endpoints into one.
func BenchmarkSameSlice(b *testing.B) {
	full := func() *EndpointSlice {
		s := fullSlice()
		for i := range 99 {
			e := s.Backends[0]
			e.Addr = netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})
			s.Backends = append(s.Backends, e)
		}
		return s
	}
	x, y := full(), full()
	for b.Loop() {
		if !sameSlice(x, y) {
			b.Fatal("equal slices differ")
		}
	}
}
