package objects

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// jsonSplitter takes a stream of JSON values apart.
type jsonSplitter struct {
	*splitter
	in  *boundedReader
	dec *json.Decoder
}

// boundedReader fails when an object has more bytes than it may have; next says
// that another one begins. What is read ahead counts for the one before.
type boundedReader struct {
	r     io.Reader
	limit int // bytes of an object
	left  int
	err   error // of r
}

func (b *boundedReader) next() { b.left = b.limit }

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err // a reader hands io.EOF on as it is
}

func (s *splitter) splitJSON(r io.Reader) error {
	in := &boundedReader{r: r, limit: s.limit}
	j := &jsonSplitter{splitter: s, in: in, dec: json.NewDecoder(in)}
	for {
		in.next()
		first, err := j.dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		s.begin()
		if err == nil {
			err = j.value(first)
		}
		if in.err != nil {
			return in.err
		}
		if err != nil {
			j.broken(err)
			return nil
		}
	}
}

// broken tells where the text stops making sense. Nothing behind that place can be
// read, as JSON has no mark that begins a document.
func (j *jsonSplitter) broken(err error) {
	what := err.Error()
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		what = "it ends in the middle of an object"
	case errors.Is(err, errTooLarge):
		what = "here is " + what
	}
	j.fatal(j.items, fmt.Sprintf("the JSON cannot be read on from byte %d: %s; nothing behind is read", j.dec.InputOffset(), what))
}

// value takes a document, of which the first token is read.
func (j *jsonSplitter) value(first json.Token) error {
	switch first {
	case json.Delim('{'):
		return j.object()
	case json.Delim('['):
		if err := j.elements(); err != nil {
			return err
		}
		j.end(typeMeta{})
		return nil
	}
	j.whole(item{raw: []byte("null")}) // a single word or number
	return nil
}

// object takes an object apart if it has items, and else hands it on.
func (j *jsonSplitter) object() error {
	fields, isList := []byte{'{'}, false
	for j.dec.More() {
		key, err := j.dec.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string) // the keys of an object are strings
		if name == "items" {
			isList = true
			if t := peekJSON(closed(fields)); t.Kind != "" && j.given.Kind == "" {
				j.list = t
			}
			if err := j.itemsOf(); err != nil {
				return err
			}
			continue
		}
		var value json.RawMessage
		if err := j.dec.Decode(&value); err != nil {
			return err
		}
		fields = appendField(fields, name, value)
	}
	if _, err := j.dec.Token(); err != nil {
		return err
	}
	fields = closed(fields)
	if !isList {
		j.whole(item{typeMeta: peekJSON(fields), raw: fields})
		return nil
	}
	j.end(peekJSON(fields))
	if j.header != nil {
		j.header(fields)
	}
	return nil
}

// itemsOf takes the value of "items".
func (j *jsonSplitter) itemsOf() error {
	first, err := j.dec.Token()
	switch {
	case err != nil:
		return err
	case first == json.Delim('['):
		return j.elements()
	case first == nil: // null
		return nil
	}
	return fmt.Errorf("items is no list, but begins with %v", first)
}

// elements takes the elements of an array, of which the bracket is read.
func (j *jsonSplitter) elements() error {
	for j.dec.More() {
		j.in.next()
		var raw json.RawMessage
		if err := j.dec.Decode(&raw); err != nil {
			return err
		}
		j.element(item{typeMeta: peekJSON(raw), raw: raw})
	}
	j.in.next()
	_, err := j.dec.Token()
	return err
}

// closed returns the object of fields with its closing brace, and leaves fields as
// they are.
func closed(fields []byte) []byte { return append(slices.Clip(fields), '}') }

func appendField(object []byte, name string, value []byte) []byte {
	if len(object) > 1 {
		object = append(object, ',')
	}
	key, _ := json.Marshal(name) // a string always can
	return append(append(append(object, key...), ':'), value...)
}
