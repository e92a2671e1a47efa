package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxTerwayFile is the largest file that ImportTerway reads, in bytes; a ConfigMap
// cannot be larger.
const maxTerwayFile = 1 << 20

// Setting is one key of Placid with its value in canonical form.
type Setting struct {
	Key, Value string
	// From says what it was made from, e.g. "field cilium_args, line 5".
	From string
}

// NotUnderstood is one part of an imported file that has no equivalent.
type NotUnderstood struct {
	// Field is its path in the file, e.g. "plugins[0].cilium_args --foo".
	Field string
	// Value is its value as text, hidden if it can be a secret.
	Value string
	// Line is the line it starts on, counted from 1.
	Line int
	// Why says why there is no equivalent.
	Why string
}

// ImportResult is the equivalent of a Terway file in Placid's terms.
type ImportResult struct {
	// Settings are the keys to set, sorted by key, each once.
	Settings []Setting
	// Warnings tell what Placid does instead of something in the file, sorted.
	Warnings []string
	// NotUnderstood lists the rest, in the order of the file.
	NotUnderstood []NotUnderstood
}

// ImportTerway translates a Terway configuration, the JSON of 10-terway.conf
// (a plugin or a list with "plugins") or of eni_conf, to Placid's keys.
//
// JSON that is not well formed gives an error with line and column and no result.
// A value that Placid's checks refuse gives an error that names the field, beside
// the result without it; then the result must not be used as it is.
func ImportTerway(r io.Reader) (ImportResult, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTerwayFile+1))
	if err != nil {
		return ImportResult{}, fmt.Errorf("read Terway configuration: %w", err)
	}
	if len(data) > maxTerwayFile {
		return ImportResult{}, fmt.Errorf("read Terway configuration: more than %d bytes", maxTerwayFile)
	}
	im := &importer{resolver: newResolver(), data: data}
	if err = im.checkSyntax(); err != nil {
		return ImportResult{}, fmt.Errorf("parse Terway configuration: %w", err)
	}
	top, err := im.object(data, 0, "")
	if err != nil {
		return ImportResult{}, fmt.Errorf("parse Terway configuration: %w", err)
	}
	if err := im.file(top); err != nil {
		return ImportResult{}, fmt.Errorf("parse Terway configuration: %w", err)
	}
	im.resolver.finish()
	return im.result(), im.resolver.err()
}

// importer walks one file.
type importer struct {
	resolver      *resolver
	data          []byte
	notes         []string
	notUnderstood []NotUnderstood
}

// jsonField is one member of a JSON object.
type jsonField struct {
	path, name string
	raw        json.RawMessage
	start      int // offset of raw in the file
	line       int // of the name
}

// where gives the field as messages show it.
func (f jsonField) where() string { return fmt.Sprintf("field %s, line %d", f.path, f.line) }

// text gives the value: a string's content, anything else as compact JSON.
func (f jsonField) text() string {
	var s string
	if json.Unmarshal(f.raw, &s) == nil {
		return s
	}
	var b bytes.Buffer
	if json.Compact(&b, f.raw) != nil {
		return string(f.raw)
	}
	return b.String()
}

// file handles the outermost object: a list of plugins, a plugin or eni_conf.
func (im *importer) file(top []jsonField) error {
	at := slices.IndexFunc(top, func(f jsonField) bool { return f.name == "plugins" })
	if at < 0 {
		return im.plugin(top)
	}
	for _, f := range top {
		switch f.name {
		case "plugins", "name", "cniVersion":
		default:
			im.reject(f, "a list of CNI plugins has no such field in Terway")
		}
	}
	plugins, err := im.array(top[at])
	if err != nil {
		return err
	}
	for _, p := range plugins {
		fields, err := im.object(p.raw, p.start, p.path+".")
		if err != nil {
			return err
		}
		kind := "terway"
		for _, f := range fields {
			if f.name == "type" {
				kind = f.text()
			}
		}
		switch kind {
		case "terway":
			if err := im.plugin(fields); err != nil {
				return err
			}
		case "cilium-cni":
			im.note("the chained plugin cilium-cni is replaced by placid-cni")
		case "portmap":
			im.note("the chained plugin portmap is replaced: Placid serves host ports itself")
		default:
			p.raw = json.RawMessage(fmt.Sprintf("%q", kind))
			im.reject(p, "a chained plugin of another maker: add it to the CNI configuration yourself if it is still wanted")
		}
	}
	return nil
}

// plugin handles the fields of a plugin or of eni_conf; their names do not clash.
// The agent's flags come last, so that they win as they do in Terway.
func (im *importer) plugin(fields []jsonField) error {
	isFlags := func(f jsonField) int {
		if f.name == "cilium_args" {
			return 1
		}
		return 0
	}
	ordered := slices.SortedStableFunc(slices.Values(fields), func(a, b jsonField) int { return isFlags(a) - isFlags(b) })
	for _, f := range ordered {
		if err := im.field(f); err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) note(text string) {
	if !slices.Contains(im.notes, text) {
		im.notes = append(im.notes, text)
	}
}

// reject lists a field as not understood.
func (im *importer) reject(f jsonField, why string) {
	value := f.text()
	if isSecret(f.name) {
		value = "(hidden)"
	}
	im.notUnderstood = append(im.notUnderstood, NotUnderstood{Field: f.path, Value: value, Line: f.line, Why: why})
}

// set hands a value to the same checks that Load uses.
func (im *importer) set(key, value string, f jsonField) {
	s := setting{key: key, value: value, source: f.where(), where: f.where()}
	if before, ok := im.resolver.from[key]; ok && before.value != value {
		im.note(fmt.Sprintf("%s is used, not %s", s, before))
	}
	im.resolver.apply(s)
}

func (im *importer) result() ImportResult {
	out := ImportResult{NotUnderstood: im.notUnderstood}
	slices.SortStableFunc(out.NotUnderstood, func(a, b NotUnderstood) int { return a.Line - b.Line })
	for _, k := range Keys() {
		if _, set := im.resolver.from[k.Name]; set {
			s := im.resolver.effective(k.Name)
			out.Settings = append(out.Settings, Setting{Key: s.key, Value: s.value, From: s.source})
		}
	}
	out.Warnings = slices.Concat(im.notes, im.resolver.warningList())
	slices.Sort(out.Warnings)
	return out
}

// isSecret tells whether a field's value must not be shown.
func isSecret(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"secret", "access_key", "accesskey", "password", "token"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// checkSyntax parses the file once for its syntax alone.
func (im *importer) checkSyntax() error {
	var v json.RawMessage
	err := json.Unmarshal(im.data, &v)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line, column := im.position(int(syntax.Offset) - 1)
		return fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	return err
}

// position gives line and column, both counted from 1 and the column in bytes, of
// an offset in the file.
func (im *importer) position(offset int) (line, column int) {
	before := im.data[:min(max(offset, 0), len(im.data))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// object splits a JSON object that starts at offset start of the file into its
// fields, in order.
func (im *importer) object(raw []byte, start int, prefix string) ([]jsonField, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		line, column := im.position(start)
		return nil, fmt.Errorf("line %d, column %d: %s is not a JSON object", line, column, quote(string(raw)))
	}
	var out []jsonField
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("read a field name: %w", err)
		}
		name, _ := t.(string) // the names of a JSON object are strings
		line, _ := im.position(start + int(dec.InputOffset()) - 1)
		f := jsonField{path: prefix + name, name: name, line: line}
		if err := dec.Decode(&f.raw); err != nil {
			return nil, fmt.Errorf("read field %s: %w", f.path, err)
		}
		f.start = start + int(dec.InputOffset()) - len(f.raw)
		for _, other := range out {
			if other.name == name {
				return nil, fmt.Errorf("field %s stands twice, on lines %d and %d", f.path, other.line, f.line)
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// array splits a JSON array into its elements.
func (im *importer) array(f jsonField) ([]jsonField, error) {
	dec := json.NewDecoder(bytes.NewReader(f.raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("%s: %s is not a JSON array", f.where(), quote(string(f.raw)))
	}
	var out []jsonField
	for i := 0; dec.More(); i++ {
		e := jsonField{path: fmt.Sprintf("%s[%d]", f.path, i)}
		e.name = e.path
		if err := dec.Decode(&e.raw); err != nil {
			return nil, fmt.Errorf("read %s: %w", e.path, err)
		}
		e.start = f.start + int(dec.InputOffset()) - len(e.raw)
		e.line, _ = im.position(e.start)
		out = append(out, e)
	}
	return out, nil
}
