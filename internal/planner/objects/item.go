package objects

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// maxObject is the largest object that is read, in bytes: far above what an API
// server stores (1.5 MiB), far below what would hurt. Lists may be of any length.
const maxObject = 16 << 20

// typeMeta is what says how an object is to be read.
type typeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// group gives the API group, "" for the core one.
func (t typeMeta) group() string {
	group, _, found := strings.Cut(t.APIVersion, "/")
	if !found {
		return ""
	}
	return group
}

func (t typeMeta) version() string { return t.APIVersion[strings.LastIndexByte(t.APIVersion, '/')+1:] }

// isList tells whether an object of the type holds others in its items.
func (t typeMeta) isList() bool { return strings.HasSuffix(t.Kind, "List") }

// element gives the type of those items of a list that say none themselves: that
// of a typed list, such as PodList.
func (t typeMeta) element() typeMeta {
	kind, isList := strings.CutSuffix(t.Kind, "List")
	if !isList || kind == "" {
		return typeMeta{}
	}
	return typeMeta{APIVersion: t.APIVersion, Kind: kind}
}

// or fills in from other what t does not say. A kind without a version in a typed
// list is of the version of the list.
func (t typeMeta) or(other typeMeta) typeMeta {
	switch {
	case t.Kind == "":
		return other
	case t.APIVersion == "" && t.Kind == other.Kind:
		return other
	}
	return t
}

// item is the text of one object: a document, or an element of a list.
type item struct {
	origin snapshot.Origin
	typeMeta
	raw  []byte
	yaml bool // raw is YAML, not JSON
	line int  // on which raw starts in its file, counted from 1; for YAML alone
}

// peekJSON gives the type of a JSON object, without looking further than it has
// to. Of what is no object it gives none.
func peekJSON(raw []byte) typeMeta {
	var t typeMeta
	dec := json.NewDecoder(bytes.NewReader(raw))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return t
	}
	for (t.Kind == "" || t.APIVersion == "") && dec.More() {
		key, err := dec.Token()
		if err != nil {
			return t
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return t
		}
		switch key {
		case "kind":
			_ = json.Unmarshal(value, &t.Kind) // of what is no text the decoder complains
		case "apiVersion":
			_ = json.Unmarshal(value, &t.APIVersion)
		}
	}
	return t
}

// peekYAML gives the type of a YAML mapping in block style, from the lines of its
// outermost level. Of another style it gives none.
func peekYAML(raw []byte) typeMeta {
	var t typeMeta
	level := -1
	for line := range bytes.Lines(raw) {
		if t.Kind != "" && t.APIVersion != "" {
			break
		}
		at, text := indentation(line)
		if isBlank(text) {
			continue
		}
		if level < 0 {
			level = at
		}
		if at != level {
			continue
		}
		if value, ok := yamlValue(text, "kind"); ok {
			t.Kind = value
		} else if value, ok := yamlValue(text, "apiVersion"); ok {
			t.APIVersion = value
		}
	}
	return t
}

// yamlValue gives the value of a plain "key: value" line, without quotes and
// comment.
func yamlValue(text []byte, key string) (string, bool) {
	rest, ok := bytes.CutPrefix(text, []byte(key))
	if !ok || len(rest) == 0 || rest[0] != ':' {
		return "", false
	}
	value, _, _ := strings.Cut(string(rest[1:]), " #")
	return strings.Trim(strings.TrimSpace(value), `"'`), true
}

// indentation splits a line into the number of spaces that it begins with and the
// rest, without its end.
func indentation(line []byte) (int, []byte) {
	text := bytes.TrimRight(line, "\r\n")
	n := 0
	for n < len(text) && text[n] == ' ' {
		n++
	}
	return n, text[n:]
}

// isBlank tells whether there is nothing on a line but spaces and a comment.
func isBlank(text []byte) bool {
	text = bytes.TrimLeft(text, " \t")
	return len(text) == 0 || text[0] == '#'
}
