package resize

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	benchbpf "github.com/placid-net/placid/bench/internal/bpf"
	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/state"
)

const (
	verdictRedirect = 7 // as linux/pkt_cls.h has it
	headersMax      = 128
	headersLen      = 80 // of struct headers of bench.bpf.c
	frameLen        = 64
)

// stream is what a runner's packets are: TCP over IPv4 from the first pod to the
// second, each of the next one of so many flows.
type stream struct {
	flows   uint32
	port    uint16 // the first target port
	opening bool   // SYNs
}

// runner runs one program on the packets of a stream.
type runner struct {
	restore *ebpf.Program
	frame   []byte
	context skb
	close   func()
}

// skb is the part of struct __sk_buff that is given with a packet.
type skb struct {
	_       [10]uint32
	IfIndex uint32
}

// newRunner puts the program of bench.bpf.c that makes the packets in front of
// another one; of an empty one where that is nil. Close it after use.
func newRunner(program *ebpf.Program, pods []state.Endpoint, s stream) (*runner, error) {
	frame, err := s.frame(pods[0], pods[1])
	if err != nil {
		return nil, err
	}
	spec, err := benchbpf.LoadBench()
	if err != nil {
		return nil, fmt.Errorf("read compiled object: %w", err)
	}
	// The kernel tail-calls only between programs of one attach type.
	for _, p := range spec.Programs {
		p.AttachType = ebpf.AttachTCXIngress
	}
	var headers [headersMax][headersLen]byte
	copy(headers[0][:], frame)
	err = errors.Join(
		spec.Variables[benchbpf.BenchVarHeaders].Set(headers),
		spec.Variables[benchbpf.BenchVarFlowCount].Set(s.flows),
		spec.Variables[benchbpf.BenchVarFlowTarget].Set(s.port),
	)
	if err != nil {
		return nil, fmt.Errorf("set the headers: %w", err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the program that makes packets: %w", err)
	}
	if program == nil {
		program = coll.Programs[benchbpf.BenchProgEmpty]
	}
	if err := coll.Maps[benchbpf.BenchMapTargetMap].Put(uint32(0), program); err != nil {
		coll.Close()
		return nil, fmt.Errorf("put the program behind the one that makes packets: %w", err)
	}
	return &runner{
		restore: coll.Programs[benchbpf.BenchProgRestore], frame: frame,
		context: skb{IfIndex: uint32(pods[0].HostIndex)}, close: coll.Close,
	}, nil
}

// frame is one packet in its wire form; its ports do not matter.
func (s stream) frame(from, to state.Endpoint) ([]byte, error) {
	router := pair.RouterMAC()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr(from.MAC[:]), DstMAC: router[:], EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{
		Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.IPv4.AsSlice(), DstIP: to.IPv4.AsSlice(),
	}
	tcp := &layers.TCP{Seq: 1, Ack: 1, SYN: s.opening, ACK: !s.opening, Window: 512}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, fmt.Errorf("build a frame: %w", err)
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, eth, ip, tcp, gopacket.Payload(make([]byte, frameLen-14-20-20))); err != nil {
		return nil, fmt.Errorf("build a frame: %w", err)
	}
	return buf.Bytes(), nil
}

// run runs the program so often and returns its last verdict and the nanoseconds
// that one run took.
func (r *runner) run(times int) (verdict uint32, each float64, err error) {
	opts := &ebpf.RunOptions{Data: r.frame, Context: r.context, Repeat: uint32(times)}
	began := time.Now()
	verdict, err = r.restore.Run(opts)
	took := time.Since(began)
	if err != nil {
		return 0, 0, fmt.Errorf("test run: %w", err)
	}
	return verdict, float64(took.Nanoseconds()) / float64(times), nil
}
