package packets

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/state"
)

// Opener opens TCP connections between two pods of the node, each a new one, by
// running the programs on the three packets of their handshakes. Nobody gets the
// packets.
type Opener struct {
	talk  talk
	flows flows
	steps [3]*runner
}

// NewOpener returns an opener of IPv4 connections to the ports from target on.
// Close it after use.
func NewOpener(client, server state.Endpoint, target uint16) (*Opener, error) {
	w := world{pods: []state.Endpoint{client, server}}
	o := &Opener{talk: w.inside(0, 1), flows: flows{count: endlessFlows, target: target}}
	reply := o.flows
	reply.reply = true
	for i, step := range []struct {
		side  side
		flows flows
	}{
		{o.talk.there.sending(opening), o.flows}, {o.talk.back.sending(answer), reply}, {o.talk.there.sending(data), o.flows},
	} {
		var err error
		if o.steps[i], err = openStep(step.side, step.flows); err != nil {
			o.Close()
			return nil, err
		}
	}
	return o, nil
}

func openStep(s side, f flows) (*runner, error) {
	t, err := s.target(f)
	if err != nil {
		return nil, err
	}
	defer func() { _ = t.program.Close() }()
	b, err := s.frame.bytes()
	if err != nil {
		return nil, err
	}
	return newRunner(t, s.ifindex, [][]byte{b})
}

// Open opens n more connections.
func (o *Opener) Open(n uint32) error {
	for _, r := range o.steps {
		verdict, _, err := r.run(n)
		if err != nil {
			return err
		}
		if verdict != verdictRedirect {
			return fmt.Errorf("open connections: verdict %d, want %d", int32(verdict), verdictRedirect)
		}
	}
	return nil
}

// Key is that of the connection with this number, from 0 on.
func (o *Opener) Key(number uint32) abi.CCtKey {
	src, dst := flowPorts(o.talk.there.frame.src.Addr(), o.talk.there.frame.dst.Addr(), number, o.flows.target)
	return node.FlowKey(src, dst)
}

// Close unloads the programs.
func (o *Opener) Close() {
	for _, r := range o.steps {
		if r != nil {
			r.close()
		}
	}
}
