package packets

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/bench/internal/bpf"
)

// Verdicts of a program, as linux/pkt_cls.h has them.
const (
	verdictContinue = 1<<32 - 1 // TC_ACT_UNSPEC
	verdictDrop     = 2
	verdictRedirect = 7
)

const (
	headersMax = 128 // as bench.bpf.c has it
	// headersLen is the size of struct headers of bench.bpf.c: restoredLen bytes that
	// it restores of every packet, a pad, and at tcpAt a TCP header over IPv6.
	headersLen   = 80
	restoredLen  = 54
	tcpAt        = 56
	tcpLen       = 20
	sampleRuns   = 6000 // about a millisecond
	warmRuns     = 300
	ethernetLen  = 14
	verifiedRuns = 1000
	strayPackets = 10 // the node's own, which may pass meanwhile: neighbours ask for each other
)

// skb is the part of struct __sk_buff that is given with a packet.
type skb struct {
	_       [10]uint32
	IfIndex uint32
}

// runner runs one program on one packet, or on several that differ in their
// headers or ports, in turn.
type runner struct {
	restore *ebpf.Program // or the measured program itself
	frame   []byte
	context skb
	close   func()
}

// flows makes each packet that of another flow: see bench.bpf.c. None when count
// is 0.
type flows struct {
	count  uint32
	target uint16 // first target port
	reply  bool   // packets come from the target port
	// addrs, when it is not 0, is how many addresses that follow each other flows go
	// to in turn. addr is the lower half of the first.
	addrs uint32
	addr  uint16
}

// target is a program to run, or one of bench.bpf.c by its name.
type target struct {
	program *ebpf.Program
	own     string
	attach  ebpf.AttachType
	vni     uint32 // the packet came out of a tunnel; 0 for none
	flows   flows
	bare    bool // run it alone, without restoring the packet
}

// newRunner loads the restoring program in front of the target. Frames have the
// same length; there are 1 to 128 of them.
func newRunner(t target, ifindex int, frames [][]byte) (*runner, error) {
	if len(frames) == 0 || len(frames) > headersMax {
		return nil, fmt.Errorf("%d frames, want 1 to %d", len(frames), headersMax)
	}
	spec, err := bpf.LoadBench()
	if err != nil {
		return nil, fmt.Errorf("read compiled object: %w", err)
	}
	// The kernel tail-calls only between programs of one attach type.
	for _, p := range spec.Programs {
		p.AttachType = t.attach
	}
	var headers [headersMax][headersLen]byte
	for i, f := range frames {
		copy(headers[i][:restoredLen], f)
		if len(f) >= restoredLen+tcpLen {
			copy(headers[i][tcpAt:], f[restoredLen:restoredLen+tcpLen])
		}
	}
	err = errors.Join(
		spec.Variables[bpf.BenchVarHeaders].Set(headers),
		spec.Variables[bpf.BenchVarHeadersCount].Set(uint32(len(frames))),
		spec.Variables[bpf.BenchVarTunnelVni].Set(t.vni),
		t.flows.set(spec, len(frames[0]) > ethernetLen && frames[0][ethernetLen]>>4 == 6),
	)
	if err != nil {
		return nil, fmt.Errorf("set the headers: %w", err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the restoring program: %w", err)
	}
	program := t.program
	if program == nil {
		program = coll.Programs[t.own]
	}
	if err := fillMaps(coll, program); err != nil {
		coll.Close()
		return nil, fmt.Errorf("put the program behind the restoring one: %w", err)
	}
	r := &runner{
		restore: coll.Programs[bpf.BenchProgRestore], frame: frames[0],
		context: skb{IfIndex: uint32(ifindex)}, close: coll.Close,
	}
	if t.bare {
		r.restore = program
	}
	return r, nil
}

func (f flows) set(spec *ebpf.CollectionSpec, is6 bool) error {
	return errors.Join(
		spec.Variables[bpf.BenchVarFlowCount].Set(f.count),
		spec.Variables[bpf.BenchVarFlowTarget].Set(f.target),
		spec.Variables[bpf.BenchVarFlowReply].Set(asByte(f.reply)),
		spec.Variables[bpf.BenchVarFlowIp6].Set(asByte(is6)),
		spec.Variables[bpf.BenchVarFlowAddrs].Set(f.addrs),
		spec.Variables[bpf.BenchVarFlowAddr].Set(f.addr),
	)
}

func asByte(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// prefixKey is struct prefix_key of bench.bpf.c.
type prefixKey struct {
	Bits  uint32
	Words [4]uint32
}

// fillMaps puts the program behind the restoring one, and gives the programs
// that look up what they find.
func fillMaps(coll *ebpf.Collection, program *ebpf.Program) error {
	key := [2]uint64{1, 1}
	return errors.Join(
		coll.Maps[bpf.BenchMapTargetMap].Put(uint32(0), program),
		coll.Maps[bpf.BenchMapHashMap].Put(key, key),
		coll.Maps[bpf.BenchMapLongHashMap].Put([5]uint64{1, 1, 1, 1, 1}, key),
		fillPrefixes(coll.Maps[bpf.BenchMapLpmMap]),
	)
}

// prefixes are how many the look-up chooses from.
const prefixes = 200

// fillPrefixes puts in the address that is looked up, ranges that hold it, and
// others.
func fillPrefixes(m *ebpf.Map) error {
	keys := []prefixKey{{}, {Bits: 64, Words: [4]uint32{1, 1}}, {Bits: 120, Words: [4]uint32{1, 1, 1, 1}}}
	for i := range uint32(prefixes - len(keys)) {
		keys = append(keys, prefixKey{Bits: 120, Words: [4]uint32{1, 1, 1, i * 0x01010100}})
	}
	values := make([]uint64, len(keys))
	_, err := m.BatchUpdate(keys, values, nil)
	return err
}

// run runs the program so often and returns its verdict and the nanoseconds
// that one run took.
func (r *runner) run(times uint32) (verdict uint32, each float64, err error) {
	opts := &ebpf.RunOptions{Data: r.frame, Context: r.context, Repeat: times}
	began := time.Now()
	verdict, err = r.restore.Run(opts)
	took := time.Since(began)
	if err != nil {
		return 0, 0, fmt.Errorf("test run: %w", err)
	}
	return verdict, float64(took.Nanoseconds()) / float64(times), nil
}

// sample returns nanoseconds a run, after a warm-up.
func (r *runner) sample() (float64, error) {
	if _, _, err := r.run(warmRuns); err != nil {
		return 0, err
	}
	_, each, err := r.run(sampleRuns)
	return each, err
}
