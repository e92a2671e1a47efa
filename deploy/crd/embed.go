// Package crd carries the custom resource definitions of Placid, so that the
// operator can install them.
//
// Invariant: the YAML files are what controller-gen makes of api/; nobody edits
// them by hand.
package crd

import _ "embed"

//go:embed placid.io_placidnodes.yaml
var placidNodes string

// PlacidNodes returns the CustomResourceDefinition of PlacidNode as YAML.
func PlacidNodes() []byte { return []byte(placidNodes) }
