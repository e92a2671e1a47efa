// Package crd carries the custom resource definitions of Placid, so that the
// operator can install them.
//
// Invariant: the YAML files are what controller-gen makes of api/; nobody edits
// them by hand.
package crd

import (
	"embed"
	"fmt"
)

//go:embed placid.io_*.yaml
var files embed.FS

// All returns every CustomResourceDefinition as YAML, ordered by name. The error
// is one of the embedded files.
func All() ([][]byte, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list the definitions: %w", err)
	}
	var out [][]byte
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read a definition: %w", err)
		}
		out = append(out, text)
	}
	return out, nil
}
