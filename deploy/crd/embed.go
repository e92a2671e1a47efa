// Package crd carries the custom resource definitions of Placid, and those of
// Cilium's objects that it reads, so that the operator can install them.
//
// Invariant: the YAML files are what controller-gen makes of api/; nobody edits
// them by hand.
package crd

import (
	"embed"
	"fmt"
	"path"
)

//go:embed *.yaml
var files embed.FS

// All returns every CustomResourceDefinition of Placid's own as YAML, ordered by
// name. The error is one of the embedded files.
func All() ([][]byte, error) { return group("placid.io") }

// Cilium returns those of Cilium's objects, as All does.
func Cilium() ([][]byte, error) { return group("cilium.io") }

func group(name string) ([][]byte, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list the definitions: %w", err)
	}
	var out [][]byte
	for _, e := range entries {
		if ok, err := path.Match(name+"_*.yaml", e.Name()); err != nil || !ok {
			continue
		}
		text, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read a definition: %w", err)
		}
		out = append(out, text)
	}
	return out, nil
}
