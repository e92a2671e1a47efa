package objects

import (
	"bytes"
	"slices"
)

// fields are those of a mapping that are read, by name; the value says which of
// theirs, nil for all. Of a list they are those of its elements.
type fields map[string]fields

// podFields are the fields of podObject.
func podFields() fields {
	containers := fields{"ports": nil, "restartPolicy": nil}
	return fields{
		"apiVersion": nil, "kind": nil,
		"metadata": {
			"name": nil, "namespace": nil, "uid": nil, "labels": nil, "creationTimestamp": nil, "ownerReferences": nil,
			"annotations": {"kubernetes.io/config.mirror": nil},
		},
		"spec": {
			"nodeName": nil, "hostNetwork": nil, "serviceAccountName": nil, "containers": containers, "initContainers": containers,
		},
		"status": {"phase": nil, "podIP": nil, "podIPs": nil},
	}
}

// prune leaves out of a YAML mapping in block style what is not read: most of a pod,
// and reading YAML is slow. A text that it does not understand by its lines alone is
// returned as it is: one with scalars or flow collections that go on in the next
// line, anchors, tags, tabs or quoted keys. Lines that are left out are not checked.
func prune(text []byte, read fields) []byte {
	p := pruner{out: make([]byte, 0, len(text)/2), frames: []frame{{read: read, parent: -1, indent: -1, dash: -1}}, region: -1}
	for line := range bytes.Lines(text) {
		at, rest := indentation(line)
		if isBlank(rest) {
			if p.region >= 0 && p.keeps {
				p.out = append(p.out, line...) // it may belong to a scalar
			}
			continue
		}
		if !isSimple(rest) || !p.line(line, at, rest) {
			return text
		}
	}
	return p.out
}

// pruner goes through the lines of a mapping.
type pruner struct {
	out    []byte
	frames []frame
	// region is the indentation of the field whose lines are all kept, or all left
	// out; -1 is none.
	region int
	keeps  bool
}

// frame is a mapping, or a list of them, of which not everything is read.
type frame struct {
	read   fields
	parent int // the indentation of its field
	indent int // of its own fields; -1: not known yet
	dash   int // of the elements, if it is a list; else -1
}

// line takes a line that is not blank; ok is false for one that is not understood.
func (p *pruner) line(line []byte, at int, text []byte) (ok bool) {
	if p.region >= 0 {
		if at > p.region || at == p.region && isDash(text) {
			if p.keeps {
				p.out = append(p.out, line...)
			}
			return true
		}
		p.region = -1
	}
	f := p.enter(at, isDash(text))
	if f == nil {
		return false
	}
	if isDash(text) {
		inner := bytes.TrimLeft(text[1:], " ")
		f.dash, f.indent = at, at+len(text)-len(inner)
		p.out = append(append(p.out, line[:at+1]...), '\n')
		if len(inner) == 0 {
			f.indent = -1
			return true
		}
		if isDash(inner) {
			return false
		}
		line = slices.Concat(bytes.Repeat([]byte{' '}, f.indent), inner, []byte("\n"))
		at, text = f.indent, inner
	}
	return p.field(f, line, at, text)
}

// enter finds the mapping that a line belongs to; nil if there is none.
func (p *pruner) enter(at int, dash bool) *frame {
	for len(p.frames) > 0 {
		f := &p.frames[len(p.frames)-1]
		switch {
		case dash && (at == f.dash || f.dash < 0 && f.indent < 0 && at >= f.parent && f.parent >= 0):
			return f
		case !dash && at == f.indent:
			return f
		case !dash && f.indent < 0 && at > max(f.parent, f.dash):
			f.indent = at
			return f
		}
		p.frames = p.frames[:len(p.frames)-1]
	}
	return nil
}

// field takes the first line of a field.
func (p *pruner) field(f *frame, line []byte, at int, text []byte) (ok bool) {
	name, value, found := bytes.Cut(text, []byte(":"))
	if !found || len(value) > 0 && value[0] != ' ' || !isPlainKey(name) {
		return false
	}
	of, read := f.read[string(name)]
	if read {
		p.out = append(p.out, line...)
	}
	if read && of != nil && isBlank(value) {
		p.frames = append(p.frames, frame{read: of, parent: at, indent: -1, dash: -1})
		return true
	}
	p.region, p.keeps = at, read
	return true
}

// isPlainKey tells whether a key is a name as fields of the API and most labels are.
func isPlainKey(name []byte) bool {
	for _, c := range name {
		isLetter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !isLetter && bytes.IndexByte([]byte("._-/"), c) < 0 {
			return false
		}
	}
	return len(name) > 0
}

// isSimple tells whether what a line opens it closes too: quotes and brackets. What
// it does not, only goes on in lines that are indented more.
func isSimple(text []byte) bool {
	for isDash(text) {
		if text = bytes.TrimLeft(text[1:], " "); len(text) == 0 {
			return true
		}
	}
	if text[0] == '"' || text[0] == '\'' {
		rest, ok := closeQuote(text)
		if !ok {
			return false
		}
		text = rest
		if len(text) == 0 || text[0] != ':' {
			return isBlank(text)
		}
	} else if bytes.IndexByte([]byte("{[&*!?%@`\t"), text[0]) >= 0 {
		return isEmptyFlow(text)
	} else if at := bytes.Index(text, []byte(": ")); at >= 0 {
		text = text[at:]
	} else {
		return true
	}
	value := bytes.TrimLeft(text[1:], " ")
	switch {
	case isBlank(value):
		return true
	case value[0] == '"' || value[0] == '\'':
		rest, ok := closeQuote(value)
		return ok && isBlank(rest)
	case bytes.IndexByte([]byte("{[&*!?%@`\t"), value[0]) >= 0:
		return isEmptyFlow(value)
	}
	return true
}

func isEmptyFlow(text []byte) bool {
	rest, ok := bytes.CutPrefix(text, []byte("{}"))
	if !ok {
		rest, ok = bytes.CutPrefix(text, []byte("[]"))
	}
	return ok && isBlank(rest)
}

// closeQuote gives what follows the quoted scalar that text begins with.
func closeQuote(text []byte) (rest []byte, ok bool) {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && text[0] == '"':
			i++
		case text[i] != text[0]:
		case text[0] == '\'' && i+1 < len(text) && text[i+1] == '\'':
			i++
		default:
			return text[i+1:], true
		}
	}
	return nil, false
}
