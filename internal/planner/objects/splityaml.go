package objects

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// yamlSplitter takes a stream of YAML documents apart by their lines. Of a document
// that is a list, in the form that kubectl writes (a line "items:" without
// indentation, or dashes right away), it takes the elements one by one; any other
// is one object for it, which may turn out to be a list.
//
// It looks at the first column of lines and at dashes alone. A text that is valid
// YAML is cut where YAML has its borders: only flow scalars that go on in the first
// columns of a line could look like one, which no program writes, and such a piece
// then has an open quote and is not read.
type yamlSplitter struct {
	*splitter
	line   int // that is looked at, counted from 1
	state  yamlState
	isList bool
	indent int   // of the dashes
	head   chunk // the document, without the elements of a list
	body   chunk // an element
	last   *chunk
}

type yamlState int

const (
	yamlOutside  yamlState = iota // before a document
	yamlHead                      // in the fields of an object
	yamlPending                   // behind "items:"
	yamlElements                  // in the elements of a list
)

// chunk is some lines of the text.
type chunk struct {
	text     []byte
	line     int // the first one
	tooLarge bool
}

// add adds a line, or a part of one; more than limit bytes are none that are kept.
func (c *chunk) add(text []byte, line, limit int) {
	if c.isEmpty() {
		c.line = line
	}
	if len(c.text)+len(text) > limit {
		c.tooLarge, c.text = true, nil
	}
	if !c.tooLarge {
		c.text = append(c.text, text...)
	}
}

func (c *chunk) isEmpty() bool { return len(c.text) == 0 && !c.tooLarge }

func (s *splitter) splitYAML(in *bufio.Reader) error {
	y := &yamlSplitter{splitter: s}
	y.last = &y.head
	for goesOn := false; ; {
		piece, err := in.ReadSlice('\n')
		switch {
		case goesOn:
			y.last.add(piece, y.line, y.limit)
		case len(piece) > 0:
			y.line++
			y.take(piece)
		}
		goesOn = errors.Is(err, bufio.ErrBufferFull)
		if err == nil || goesOn {
			continue
		}
		y.finish()
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

// take takes a line, or the start of a long one.
func (y *yamlSplitter) take(line []byte) {
	at, text := indentation(line)
	if at == 0 && y.marker(text) {
		return
	}
	if isBlank(text) {
		if !y.last.isEmpty() {
			y.last.add(line, y.line, y.limit)
		}
		return
	}
	dash := isDash(text)
	y.turn(at, dash)
	if y.state == yamlElements {
		y.takeElement(line, at, dash)
		return
	}
	if at == 0 && isItems(text) {
		y.state, y.isList = yamlPending, true
		if t := peekYAML(y.head.text); t.Kind != "" {
			y.list = t
		}
		return
	}
	y.last = &y.head
	y.head.add(line, y.line, y.limit)
}

// turn goes into the elements of a list, or out of them.
func (y *yamlSplitter) turn(at int, dash bool) {
	switch y.state {
	case yamlHead:
	case yamlOutside:
		y.start()
		if dash {
			y.isList = true
			y.startElements(at)
		}
	case yamlPending:
		if dash {
			y.startElements(at)
		} else {
			y.isList, y.state = false, yamlHead
			y.head.add([]byte("items:\n"), y.line-1, y.limit)
		}
	case yamlElements:
		if at < y.indent || at == y.indent && !dash {
			y.endElement()
			y.state = yamlHead
		}
	}
}

// marker takes the lines that stand between documents.
func (y *yamlSplitter) marker(text []byte) bool {
	switch {
	case isMarker(text, "---"):
		y.finish()
		if rest := text[len("---"):]; !isBlank(rest) {
			y.start()
			y.head.add(append(bytes.TrimLeft(rest, " \t"), '\n'), y.line, y.limit)
		}
		return true
	case isMarker(text, "..."):
		y.finish()
		return true
	}
	return y.state == yamlOutside && text != nil && bytes.HasPrefix(text, []byte("%")) // a directive
}

func (y *yamlSplitter) start() {
	y.begin()
	y.state, y.last = yamlHead, &y.head
}

func (y *yamlSplitter) startElements(indent int) {
	y.state, y.indent, y.last = yamlElements, indent, &y.body
}

// takeElement takes a line of the elements.
func (y *yamlSplitter) takeElement(line []byte, at int, dash bool) {
	if at == y.indent && dash {
		y.endElement()
		line = bytes.Clone(line)
		line[at] = ' '
	}
	y.last = &y.body
	y.body.add(line, y.line, y.limit)
}

func (y *yamlSplitter) endElement() {
	c := y.body
	y.body = chunk{}
	switch {
	case c.isEmpty():
	case c.tooLarge:
		y.items++
		y.fatal(y.items, fmt.Sprintf("line %d: %v", c.line, errTooLarge))
	default:
		y.element(yamlItem(c, y.limit))
	}
}

// finish ends a document.
func (y *yamlSplitter) finish() {
	if y.state == yamlOutside {
		return
	}
	y.endElement()
	switch {
	case y.head.tooLarge:
		y.fatal(0, errTooLarge.Error())
	case !y.isList:
		y.whole(yamlItem(y.head, y.limit))
	default:
		if _, err := yamlToJSON(y.head.text, y.head.line, y.limit); err != nil {
			y.fatal(0, fmt.Sprintf("around the items of the list: %v", err))
		}
		y.end(peekYAML(y.head.text))
	}
	y.state, y.isList, y.head = yamlOutside, false, chunk{}
	y.last = &y.head
}

// yamlItem makes an item of lines. What does not show its type is converted to
// JSON at once.
func yamlItem(c chunk, limit int) item {
	it := item{typeMeta: peekYAML(c.text), raw: c.text, yaml: true, line: c.line}
	if it.Kind != "" || !isFlow(c.text) {
		return it
	}
	if raw, err := yamlToJSON(c.text, c.line, limit); err == nil {
		it = item{typeMeta: peekJSON(raw), raw: raw}
	}
	return it
}

// isFlow tells whether a text is not a mapping in block style with plain keys.
func isFlow(text []byte) bool {
	for line := range bytes.Lines(text) {
		if _, rest := indentation(line); !isBlank(rest) {
			return bytes.IndexByte([]byte(`{["'&!*?<`), rest[0]) >= 0
		}
	}
	return false
}

func isDash(text []byte) bool {
	return text[0] == '-' && (len(text) == 1 || text[1] == ' ' || text[1] == '\t')
}

func isItems(text []byte) bool {
	rest, ok := bytes.CutPrefix(text, []byte("items:"))
	return ok && isBlank(rest)
}

func isMarker(text []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(text, []byte(marker))
	return ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t')
}
