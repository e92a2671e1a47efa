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
	// headersLen is what bench.bpf.c restores, padded.
	headersLen   = 56
	restoredLen  = 54
	sampleRuns   = 6000 // about a millisecond
	warmRuns     = 300
	verifiedRuns = 1000
)

// skb is the part of struct __sk_buff that is given with a packet.
type skb struct {
	_       [10]uint32
	IfIndex uint32
}

// runner runs one program on one packet, or on several that differ in their
// headers, in turn.
type runner struct {
	restore *ebpf.Program
	frame   []byte
	context skb
	close   func()
}

// target is a program to run, or one of bench.bpf.c by its name.
type target struct {
	program *ebpf.Program
	own     string
	attach  ebpf.AttachType
	vni     uint32 // the packet came out of a tunnel; 0 for none
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
	}
	err = errors.Join(
		spec.Variables[bpf.BenchVarHeaders].Set(headers),
		spec.Variables[bpf.BenchVarHeadersCount].Set(uint32(len(frames))),
		spec.Variables[bpf.BenchVarTunnelVni].Set(t.vni),
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
	key := [2]uint64{1, 1}
	err = errors.Join(
		coll.Maps[bpf.BenchMapTargetMap].Put(uint32(0), program),
		coll.Maps[bpf.BenchMapHashMap].Put(key, key),
	)
	if err != nil {
		coll.Close()
		return nil, fmt.Errorf("put the program behind the restoring one: %w", err)
	}
	return &runner{
		restore: coll.Programs[bpf.BenchProgRestore], frame: frames[0],
		context: skb{IfIndex: uint32(ifindex)}, close: coll.Close,
	}, nil
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
