// Package resolve replaces what policies name in other objects by what it stands
// for: nodes and the API server by their addresses, Services by the pods that they
// select or the addresses that they have, groups of CIDRs by those.
//
// Invariants: it is pure, and its results do not depend on the order in which it
// was told things. A reference that leads nowhere selects nothing, in rules that
// deny too. One that is not understood as a whole stays as it is where it denies,
// which is everybody. Rules keep their places.
package resolve
