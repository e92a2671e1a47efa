package preflight

import "slices"

// The codes of findings. One that is no longer found is not used again.
const (
	Unreadable      = "PLC-P001"
	UnknownField    = "PLC-P002"
	Doubtful        = "PLC-P003"
	UnknownKind     = "PLC-P004"
	NotGiven        = "PLC-P005"
	ForeignPolicy   = "PLC-P006"
	NotValid        = "PLC-P101"
	NotEnforced     = "PLC-P102"
	LeadsNowhere    = "PLC-P103"
	NotFollowed     = "PLC-P104"
	NoSubject       = "PLC-P201"
	NoPeer          = "PLC-P202"
	FilteredPeer    = "PLC-P203"
	FilteredSubject = "PLC-P204"
	NoNamespace     = "PLC-P205"
	OpenToAll       = "PLC-P301"
	AllNamespaces   = "PLC-P302"
	NobodySelected  = "PLC-P303"
	IsolatesAll     = "PLC-P304"
	BlockOfPods     = "PLC-P305"
	BlockHasPods    = "PLC-P306"
	NoSuchPortName  = "PLC-P307"
	NoSuchPort      = "PLC-P308"
	NoDNS           = "PLC-P309"
	OnlyDenies      = "PLC-P310"
	Denied          = "PLC-P401"
	PartlyDenied    = "PLC-P402"
	Duplicate       = "PLC-P403"
	Contained       = "PLC-P404"
	NoEffect        = "PLC-P405"
	NoRoom          = "PLC-P501"
	LittleRoom      = "PLC-P502"
	RoomNotKnown    = "PLC-P503"
	UnknownKey      = "PLC-P601"
	OldKey          = "PLC-P602"
	RefusedValue    = "PLC-P603"
	UnusedKey       = "PLC-P604"
	BadSetting      = "PLC-P605"
	NeverEnforced   = "PLC-P606"
	ChangesMeaning  = "PLC-P701"
	NothingChanges  = "PLC-P702"
)

// Code describes a kind of finding.
type Code struct {
	Name string `json:"code"`
	// Severity is that of its findings, where nothing makes them lighter.
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`
	// Explanation says what it means, and what to do.
	Explanation string `json:"explanation"`
}

// Explain finds a code by its name.
func Explain(name string) (Code, bool) {
	all := Codes()
	i := slices.IndexFunc(all, func(c Code) bool { return c.Name == name })
	if i < 0 {
		return Code{}, false
	}
	return all[i], true
}

// severityOf gives the severity of a code.
func severityOf(name string) Severity {
	c, _ := Explain(name)
	return c.Severity
}

// Codes returns the registry, ordered by name.
func Codes() []Code {
	return slices.Concat(inputCodes(), policyCodes(), selectorCodes(), ruleCodes(), pairCodes(), clusterCodes())
}

func inputCodes() []Code {
	return []Code{
		{Unreadable, Error, "Object cannot be read", "A text, or an object in it, cannot be read at all, so nothing is said about it, and verdicts that depend on it cannot be told. Correct it as the message says."},
		{UnknownField, Error, "Unknown field", "The object has a field that its kind does not have: a misspelt name, a wrong indentation, or a field of another version. Nobody reads it, so what it asks for does not happen. In a policy that is an error: it may protect less than it seems to."},
		{Doubtful, Warning, "Object was read only in part", "A part of the object could not be used, or the same object was given twice with different contents. The message says what was taken."},
		{UnknownKind, Note, "Kind is not read", "Objects of a kind that is not known here were left out. They are not checked."},
		{NotGiven, Note, "Something was not given", "A check needs objects that the input does not have: selectors can be compared with pods only if there are pods. Give a whole cluster to have everything checked."},
		{ForeignPolicy, Warning, "Policy of another network", "The object is a policy that neither Placid nor Cilium enforces. Whatever it should protect is not protected by it."},
	}
}

func policyCodes() []Code {
	return []Code{
		{NotValid, Error, "Part of a policy is not valid", "The API server may have taken the policy, but a part of it means nothing: a CIDR that is none, peers of two kinds in one rule, a selector without values. The rule that it is in allows nothing, or denies everything if it denies."},
		{NotEnforced, Error, "Part of a policy is not enforced", "The part is well formed, and the network that is meant does not enforce it: rules above layer 4, names of the DNS, authentication, policies of nodes. A rule that allows then allows nothing, one that denies denies everything: it is never wider than it was written."},
		{LeadsNowhere, Warning, "Reference leads nowhere", "The rule names nodes, a Service or a CiliumCIDRGroup that are not there. It selects nobody until they are."},
		{NotFollowed, Note, "Part of a policy is not followed here", "Cilium enforces the part, and this program does not follow it: what other checks say of the policy counts the rule as one that allows nothing."},
	}
}

func selectorCodes() []Code {
	return []Code{
		{NoSubject, Warning, "Policy selects no pod", "No pod that there is now has the labels that the policy selects its pods by, so it protects nobody. Usually a misspelt label, or a workload that is gone. An empty selector in a namespace without pods is a note."},
		{NoPeer, Warning, "Peer selects no pod", "No pod that there is now has the labels that a rule selects its peers by, so that part of the rule does nothing."},
		{FilteredPeer, Error, "Peer is selected by a label that identities lack", "The key labels leaves the label out of identities, and peers are known by their identities alone: the selector does not match the pods that have it. 'placid identity what-if --propose' finds a filter that keeps every verdict."},
		{FilteredSubject, Error, "Policy selects its pods by a label that identities lack", "Cilium selects the pods of a policy by their identities, and the key labels leaves the label out of them: the policy protects nobody, whatever the pods' labels are, and nothing warns of it."},
		{NoNamespace, Warning, "Namespace does not exist", "A policy is in, or a selector names, a namespace that does not exist. Usually a misspelt name."},
	}
}

func ruleCodes() []Code {
	return []Code{
		{OpenToAll, Note, "Rule is open to everybody", "The rule has no peers, which means all of them: every pod, every node and every address outside. In a NetworkPolicy an empty list (from: []) means the same as no list. Without ports it opens the whole direction."},
		{AllNamespaces, Note, "Every pod of every namespace", "An empty namespaceSelector selects all namespaces. Without a podSelector, or with an empty one, all pods of the cluster are meant."},
		{NobodySelected, Note, "Rule selects nobody", "A rule without peers and ports of a Cilium policy, or one with an empty list of peers, is about no traffic. The policy isolates the direction all the same, which is how Cilium's policies deny by default; beside other rules it does nothing."},
		{IsolatesAll, Note, "Policy isolates every pod of the cluster", "A clusterwide policy with an empty endpointSelector isolates the pods of all namespaces, those of kube-system too: all that they need must be allowed."},
		{BlockOfPods, Warning, "CIDR of pods selects no pods", "Cilium's CIDR rules never match pods or nodes, whatever their addresses are. A CIDR that lies inside the range of pods or is a node's address selects nobody: use selectors or entities."},
		{BlockHasPods, Note, "CIDR has addresses of pods or nodes in it", "Kubernetes leaves it to the network whether an ipBlock means pods: with Placid it does, with Cilium it never does. If pods are meant, select them by labels; if not, leave their range out with except."},
		{NoSuchPortName, Warning, "No pod has a port of the name", "The rule names a port that none of the pods it is about has. It allows nothing there."},
		{NoSuchPort, Note, "No pod declares the port", "None of the pods that the rule is about declares the port, and each of them declares some. Containers can listen on ports that they do not declare, so it may be right; often it is the port of a Service, where policies want that of the pods."},
		{NoDNS, Note, "Isolated pods cannot ask the DNS", "The policy isolates pods for egress and no policy lets them ask the cluster's DNS (port 53), so names do not resolve. Allow it, unless the pods need no names."},
		{OnlyDenies, Warning, "Policy that only denies isolates too", "A Cilium policy with rules that deny isolates its pods, as any policy does: what no rule allows is denied. Here no policy allows those pods anything in that direction, so all of it is denied. Set enableDefaultDeny of the direction to false where only the rules should be denied."},
	}
}

func pairCodes() []Code {
	return []Code{
		{Denied, Warning, "Rule is denied as a whole", "Rules that deny take away everything that the rule allows to the pods that there are now. What denies wins, in whatever policy and namespace it is."},
		{PartlyDenied, Note, "Rule is denied in part", "Rules that deny take away a part of what the rule allows. That is what they are for; the message names them, in case it was not meant here."},
		{Duplicate, Warning, "Policy is there twice", "Two policies have the same selectors, rules and default, under two names. Who changes one of them changes nothing."},
		{Contained, Note, "Rule is contained in another", "Another rule is about the same pods, or more, and allows or denies all that this rule does. Without it, nothing would change."},
		{NoEffect, Note, "Policy has no effect", "The policy isolates no direction (enableDefaultDeny is false), and no other policy isolates the pods that it selects: everything is allowed anyway, and its rules do nothing."},
	}
}

func clusterCodes() []Code {
	return []Code{
		{NoRoom, Error, "Does not fit", "A table of a node, or a limit of the cluster, is too small for what there is. The message says what becomes of the rest. 'placid plan' shows all tables."},
		{LittleRoom, Warning, "Little room is left", "A table of a node, or a limit of the cluster, is filled to more than nine tenths. 'placid plan' shows at what growth it is full."},
		{RoomNotKnown, Warning, "Room cannot be told", "The settings do not allow to tell how large the tables are. The message says why."},
		{UnknownKey, Warning, "Unknown key", "The ConfigMap has a key that neither Cilium nor Placid knows: probably a misspelt name. Nobody reads it."},
		{OldKey, Warning, "Key or value of an older version", "The key, or its value, is no longer read by current versions. The message says what takes its place."},
		{RefusedValue, Error, "Value is refused by Placid", "Placid would refuse to start with the value: ignoring it would weaken security, or break what pods rely on."},
		{UnusedKey, Note, "Keys that Placid does without", "Placid takes the keys, does not use them, and does instead what the message says."},
		{BadSetting, Error, "Setting is not valid", "The value of the key is not one that it can have. The message says which are."},
		{NeverEnforced, Warning, "Policies are not enforced", "enable-policy is never, so no policy has any effect."},
		{ChangesMeaning, Warning, "Means something else in the version to come", "The object, or the cluster, means something else from the version that --target-version names on. The message says what, since which version, and where that is written."},
		{NothingChanges, Note, "No change of meaning is known", "No change of what policies mean is known up to the version that --target-version names, or none that concerns this cluster."},
	}
}
