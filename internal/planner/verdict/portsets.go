package verdict

// portsID is the number of a set of ports among those of a portSets. Equal sets
// have equal numbers.
type portsID int32

// The numbers that every portSets has.
const (
	noPorts  portsID = 0
	allPorts portsID = 1
)

// portSets gives numbers to sets of ports, and remembers what they have in common.
type portSets struct {
	sets   []Ports
	byKey  map[string]portsID
	common map[[2]portsID]portsID
}

func newPortSets() *portSets {
	p := &portSets{byKey: map[string]portsID{}, common: map[[2]portsID]portsID{}}
	p.id(Ports{})
	p.id(everything())
	return p
}

func (p *portSets) id(s Ports) portsID {
	key := s.key()
	id, known := p.byKey[key]
	if !known {
		id = portsID(len(p.sets))
		p.byKey[key], p.sets = id, append(p.sets, s)
	}
	return id
}

// both gives what is in both sets.
func (p *portSets) both(a, b portsID) portsID {
	switch {
	case a == b || b == allPorts:
		return a
	case a == allPorts:
		return b
	case a == noPorts || b == noPorts:
		return noPorts
	}
	key := [2]portsID{min(a, b), max(a, b)}
	id, known := p.common[key]
	if !known {
		id = p.id(p.sets[a].intersect(p.sets[b]))
		p.common[key] = id
	}
	return id
}
