package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Output formats.
const (
	outTable     = "table"
	outJSON      = "json"
	outYAML      = "yaml"
	outConfigMap = "configmap"
)

// enum is a flag that takes one of a few words. It implements pflag.Value.
type enum struct {
	value   string
	kind    string // the placeholder that help shows
	allowed []string
}

func newOutput() enum {
	return enum{value: outTable, kind: "format", allowed: []string{outTable, outJSON, outYAML}}
}

func (e *enum) String() string { return e.value }

// Type gives the placeholder that help shows for the flag's value.
func (e *enum) Type() string { return e.kind }

func (e *enum) Set(s string) error {
	if !slices.Contains(e.allowed, s) {
		return fmt.Errorf("want %s", e.choices())
	}
	e.value = s
	return nil
}

// choices gives the allowed words, e.g. "table, json or yaml".
func (e *enum) choices() string {
	last := len(e.allowed) - 1
	return strings.Join(e.allowed[:last], ", ") + " or " + e.allowed[last]
}

// print writes value in the chosen format; text renders the table form.
func (a *app) print(value any, text func(*bytes.Buffer)) error {
	var out bytes.Buffer
	if a.output.value == outTable {
		text(&out)
	} else if err := encode(&out, a.output.value, value); err != nil {
		return err
	}
	return a.write(out.Bytes())
}

func (a *app) write(b []byte) error {
	if _, err := a.env.Stdout.Write(b); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// note tells a person what the output does not say. Where it cannot be written,
// the output is still right.
func (a *app) note(format string, args ...any) {
	_, _ = fmt.Fprintf(a.env.Stderr, "placid: "+format+"\n", args...)
}

// encode appends value as indented JSON or as YAML with the names of its JSON
// fields.
func encode(out *bytes.Buffer, format string, value any) error {
	if format == outYAML {
		b, err := yaml.Marshal(value)
		if err != nil {
			return fmt.Errorf("encode as YAML: %w", err)
		}
		out.Write(b)
		return nil
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("encode as JSON: %w", err)
	}
	return nil
}

// nonNil makes sure that an empty list is written as [] and not as null.
func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
