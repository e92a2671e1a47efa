package objects

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

var (
	// errBinary is a file that holds no text.
	errBinary = errors.New("it is no text")
	// errTooLarge is an object of more than maxObject bytes.
	errTooLarge = errors.New("an object of more than 16 MiB, which no API server stores")
)

// sniffed is how much of a file decides what it is, in bytes.
const sniffed = 4096

// splitter takes a text apart into its objects: documents, and the elements of
// lists.
//
// The type of a typed list may stand behind its items, which then say nothing of
// theirs. Such items are left out at first, and late says afterwards for which
// documents; a second splitter with those types hands them on, and nothing else.
type splitter struct {
	file    string
	limit   int // bytes of an object
	emit    func(item)
	problem func(snapshot.Problem)
	// header gets the fields of a JSON list other than its items; nil for nobody.
	header func(fields []byte)

	plausible bool // the text begins as objects do

	given typeMeta         // of the lists, whatever the text says
	types map[int]typeMeta // of the lists by document; nil the first time
	late  map[int]typeMeta

	document int
	items    int      // so far in the document
	list     typeMeta // of the document, as far as it is known
	waiting  int      // items that were left out
}

// split reads to the end. The error is errBinary, or one of r.
func (s *splitter) split(r io.Reader) error {
	in := bufio.NewReaderSize(r, 1<<16)
	start, err := in.Peek(sniffed)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if bom := []byte("\uFEFF"); bytes.HasPrefix(start, bom) {
		_, _ = in.Discard(len(bom)) // it is buffered
		start = start[len(bom):]
	}
	if isBinary(start) {
		return errBinary
	}
	s.plausible = bytes.Contains(start, []byte("kind"))
	text := bytes.TrimLeft(start, " \t\r\n")
	if len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		return s.splitJSON(in)
	}
	return s.splitYAML(in)
}

// isBinary tells whether the start of a file is none of a text.
func isBinary(start []byte) bool {
	if bytes.IndexByte(start, 0) >= 0 {
		return true
	}
	for cut := 0; cut < utf8.UTFMax && cut < len(start); cut++ { // it may end within a character
		if utf8.Valid(start[:len(start)-cut]) {
			return false
		}
	}
	return len(start) > 0
}

func (s *splitter) at(item int) snapshot.Origin {
	return snapshot.Origin{File: s.file, Document: s.document, Item: item}
}

// fatal tells of an object that cannot be read.
func (s *splitter) fatal(item int, message string) {
	if s.types == nil {
		s.problem(snapshot.Problem{Severity: snapshot.Fatal, Origin: s.at(item), Message: message})
	}
}

// begin starts a document.
func (s *splitter) begin() {
	s.document++
	s.items, s.waiting, s.list = 0, 0, s.given
	if s.types != nil {
		s.list = s.types[s.document]
	}
}

// whole hands on a document that is one object.
func (s *splitter) whole(it item) {
	if s.types == nil {
		it.origin = s.at(0)
		s.emit(it)
	}
}

// element hands on an element of a list.
func (s *splitter) element(it item) {
	s.items++
	it.origin = s.at(s.items)
	saysNothing := it.Kind == ""
	switch {
	case s.types != nil && !saysNothing:
		return
	case saysNothing && s.list.Kind == "":
		s.waiting++
		return
	}
	it.typeMeta = it.or(s.list.element())
	s.emit(it)
}

// end finishes a document that was a list, now that its type is known.
func (s *splitter) end(list typeMeta) {
	switch {
	case s.waiting == 0 || s.types != nil:
	case list.element().Kind == "":
		s.fatal(0, "items of the list have no kind, and the list does not say it either")
	default:
		if s.late == nil {
			s.late = map[int]typeMeta{}
		}
		s.late[s.document] = list
	}
}
