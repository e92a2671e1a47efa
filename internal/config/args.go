package config

import (
	"fmt"
	"strings"
	"unicode"
)

// arg is one flag of a command line: --key, --key=value or --key value.
type arg struct {
	key, value string
	hasValue   bool
}

// parseArgs splits a command line into its flags, in order, and the words before
// the first flag, which belong to none. Words that follow a flag and do not start
// with "--" are its value, joined by one space. Quotes of both kinds keep a word
// together; a backslash is an ordinary character unless a space or a quote follows
// it, since the values are often regular expressions. The error is an open quote.
func parseArgs(line string) (flags []arg, stray []string, err error) {
	words, err := splitWords(line)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range words {
		name, isFlag := strings.CutPrefix(w, "--")
		if isFlag && name != "" {
			key, value, hasValue := strings.Cut(name, "=")
			flags = append(flags, arg{key: key, value: value, hasValue: hasValue})
			continue
		}
		if len(flags) == 0 || w == "--" {
			stray = append(stray, w)
			continue
		}
		last := &flags[len(flags)-1]
		if last.hasValue {
			last.value += " "
		}
		last.value += w
		last.hasValue = true
	}
	return flags, stray, nil
}

// splitWords splits line at white space outside of quotes.
func splitWords(line string) ([]string, error) {
	var w wordSplitter
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		if runes[i] == '\\' && i+1 < len(runes) && isEscaped(runes[i+1], w.open) {
			i++
			w.add(runes[i])
			continue
		}
		w.next(runes[i])
	}
	if w.open != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", w.open)
	}
	w.end()
	return w.words, nil
}

// wordSplitter is the state of splitWords.
type wordSplitter struct {
	words  []string
	word   strings.Builder
	inWord bool
	open   rune // the quote that is open, 0 if none
}

// next takes a rune that is not escaped.
func (w *wordSplitter) next(c rune) {
	switch {
	case w.open != 0 && c == w.open:
		w.open = 0
	case w.open == 0 && (c == '"' || c == '\''):
		w.open, w.inWord = c, true
	case w.open == 0 && unicode.IsSpace(c):
		w.end()
	default:
		w.add(c)
	}
}

func (w *wordSplitter) add(c rune) {
	w.word.WriteRune(c)
	w.inWord = true
}

func (w *wordSplitter) end() {
	if w.inWord {
		w.words = append(w.words, w.word.String())
	}
	w.word.Reset()
	w.inWord = false
}

// isEscaped tells whether a backslash before c is an escape: never between single
// quotes, only before the quote itself between double quotes.
func isEscaped(c, open rune) bool {
	switch open {
	case '\'':
		return false
	case '"':
		return c == '"'
	}
	return c == '"' || c == '\'' || unicode.IsSpace(c)
}
