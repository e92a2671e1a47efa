package capacity

import (
	"fmt"
	"strconv"
	"strings"
)

// Instance is what one machine of a type can have of its cloud.
type Instance struct {
	Interfaces int `json:"interfaces"`
	// Addresses are the IPv4 addresses of one interface, its own included.
	Addresses int `json:"addresses"`
}

// sizesOf gives instances by the size that follows the family's name.
type sizesOf map[string]Instance

// knownInstance gives what AWS allows a machine of common families: interfaces and
// addresses of each, of the table "IP addresses per network interface per instance
// type" of the EC2 user guide, checked against eni-max-pods.txt of
// amazon-vpc-cni-k8s (interfaces × (addresses - 1) + 2 pods).
func knownInstance(name string) (Instance, bool) {
	family, size, ok := strings.Cut(name, ".")
	if !ok {
		return Instance{}, false
	}
	small := sizesOf{
		"large": {3, 10}, "xlarge": {4, 15}, "2xlarge": {4, 15}, "4xlarge": {8, 30},
		"8xlarge": {8, 30}, "12xlarge": {8, 30}, "16xlarge": {15, 50}, "24xlarge": {15, 50},
	}
	if family == "c5" { // its sizes are others
		small = sizesOf{
			"large": {3, 10}, "xlarge": {4, 15}, "2xlarge": {4, 15}, "4xlarge": {8, 30},
			"9xlarge": {8, 30}, "12xlarge": {8, 30}, "18xlarge": {15, 50}, "24xlarge": {15, 50},
		}
	}
	switch family {
	case "m5", "m5a", "m5d", "m6a", "m6i", "m6id", "m7a", "m7i", "c5", "c5a", "c6a", "c6i", "c6id", "c7a", "c7i",
		"r5", "r5a", "r5d", "r6a", "r6i", "r6id", "m6g", "c6g", "r6g", "m7g", "c7g":
		i, known := small[size]
		if strings.HasSuffix(family, "g") && size == "24xlarge" { // there is none
			return Instance{}, false
		}
		return i, known
	case "t3", "t3a":
		i, known := sizesOf{"micro": {2, 2}, "small": {3, 4}, "medium": {3, 6}, "large": {3, 12}, "xlarge": {4, 15}, "2xlarge": {4, 15}}[size]
		return i, known
	}
	return Instance{}, false
}

// ParseInstances reads "m5.large" or "ecs.g7.2xlarge=4x15,…": the type of nodes that
// do not say theirs, and how many interfaces and IPv4 addresses of each a machine
// of a type has. The error wraps ErrArgument and names the part.
func ParseInstances(text string) (known map[string]Instance, otherwise string, err error) {
	known = map[string]Instance{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, defines := strings.Cut(strings.TrimSpace(part), "=")
		if name == "" {
			return nil, "", fmt.Errorf("%w: instance type %q: want TYPE or TYPE=INTERFACESxADDRESSES", ErrArgument, part)
		}
		if !defines {
			if otherwise != "" {
				return nil, "", fmt.Errorf("%w: instance types %s and %s: nodes without a label can be of one", ErrArgument, otherwise, name)
			}
			otherwise = name
			continue
		}
		n, each, _ := strings.Cut(value, "x")
		interfaces, err1 := strconv.ParseUint(n, 10, 10)
		addresses, err2 := strconv.ParseUint(each, 10, 10)
		if err1 != nil || err2 != nil || interfaces == 0 || addresses == 0 {
			return nil, "", fmt.Errorf("%w: instance type %q: want INTERFACESxADDRESSES such as 4x15", ErrArgument, part)
		}
		known[name] = Instance{int(interfaces), int(addresses)}
	}
	if otherwise != "" && known[otherwise] == (Instance{}) {
		if _, ok := knownInstance(otherwise); !ok {
			return nil, "", fmt.Errorf("%w: instance type %s is not known: say what it has, e.g. %s=4x15", ErrArgument, otherwise, otherwise)
		}
	}
	return known, otherwise, nil
}
