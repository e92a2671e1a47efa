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
	var words []string
	var word strings.Builder
	var open rune // the quote that is open, 0 if none
	inWord := false
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		c := runes[i]
		switch {
		case c == '\\' && i+1 < len(runes) && isEscaped(runes[i+1], open):
			i++
			word.WriteRune(runes[i])
			inWord = true
		case open != 0 && c == open:
			open = 0
		case open == 0 && (c == '"' || c == '\''):
			open, inWord = c, true
		case open == 0 && unicode.IsSpace(c):
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if open != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", open)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
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
