package objects

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth is how deep an object may be nested; objects of the API have less than
// 50 levels.
const maxDepth = 500

// yamlToJSON converts one YAML document to JSON as sigs.k8s.io/yaml does, and so
// kubectl: with YAML 1.1's yes, no, on and off. What aliases stand for is written
// out up to limit bytes. A key that stands twice is an error. line is the
// number of the text's first line, for errors.
func yamlToJSON(text []byte, line, limit int) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, shiftLines(err, line-1)
	}
	if len(root.Content) == 0 {
		return []byte("null"), nil
	}
	c := converter{out: make([]byte, 0, len(text)), shift: line - 1, limit: limit}
	if err := c.node(root.Content[0], 0); err != nil {
		return nil, err
	}
	return c.out, nil
}

// shiftLines makes the numbers of lines in an error of the parser those of the
// file.
func shiftLines(err error, by int) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	return errors.New(regexp.MustCompile(`\bline (\d+)`).ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.Atoi(strings.TrimPrefix(s, "line ")) // the expression matches digits
		return "line " + strconv.Itoa(n+by)
	}))
}

// converter writes nodes as JSON.
type converter struct {
	out   []byte
	shift int          // to the lines of the file
	limit int          // bytes
	steps int          // nodes so far, as often as they are written
	open  []*yaml.Node // that aliases lead into
}

func (c *converter) errorf(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", n.Line+c.shift, fmt.Sprintf(format, args...))
}

// bound ends what aliases or nesting blow up.
func (c *converter) bound(n *yaml.Node, depth int) error {
	c.steps++
	switch {
	case depth > maxDepth:
		return c.errorf(n, "it is nested more than %d levels deep", maxDepth)
	case len(c.out) > c.limit || c.steps > c.limit:
		return c.errorf(n, "with its aliases it is %v", errTooLarge)
	}
	return nil
}

func (c *converter) node(n *yaml.Node, depth int) error {
	if err := c.bound(n, depth); err != nil {
		return err
	}
	switch n.Kind {
	case yaml.MappingNode:
		return c.mapping(n, depth)
	case yaml.SequenceNode:
		c.out = append(c.out, '[')
		for i, e := range n.Content {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			if err := c.node(e, depth+1); err != nil {
				return err
			}
		}
		c.out = append(c.out, ']')
		return nil
	case yaml.AliasNode:
		return c.alias(n, func(target *yaml.Node) error { return c.node(target, depth+1) })
	default: // there are no documents in a document
		return c.scalar(n)
	}
}

// alias follows an alias, unless it leads into itself.
func (c *converter) alias(n *yaml.Node, follow func(*yaml.Node) error) error {
	if slices.Contains(c.open, n.Alias) {
		return c.errorf(n, "the anchor %q contains itself", n.Value)
	}
	c.open = append(c.open, n.Alias)
	err := follow(n.Alias)
	c.open = c.open[:len(c.open)-1]
	return err
}

// mapping writes the pairs of a mapping, and then those of the mappings that it
// merges in ("<<") under other keys.
func (c *converter) mapping(n *yaml.Node, depth int) error {
	c.out = append(c.out, '{')
	if err := c.pairs(n, map[string]bool{}, depth); err != nil {
		return err
	}
	c.out = append(c.out, '}')
	return nil
}

func (c *converter) pairs(n *yaml.Node, seen map[string]bool, depth int) error {
	own := map[string]bool{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			merged = append(merged, n.Content[i+1])
			continue
		}
		key, err := c.key(n.Content[i])
		if err != nil {
			return err
		}
		if own[key] {
			return c.errorf(n.Content[i], "the key %q stands twice", key)
		}
		own[key] = true
		if seen[key] {
			continue
		}
		seen[key] = true
		if c.out[len(c.out)-1] != '{' {
			c.out = append(c.out, ',')
		}
		c.out = appendString(c.out, key)
		c.out = append(c.out, ':')
		if err := c.node(n.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	for _, m := range merged {
		if err := c.merge(m, seen, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func isMerge(key *yaml.Node) bool {
	return key.Kind == yaml.ScalarNode && key.Value == "<<" && (key.Tag == "" || key.Tag == "!" || key.ShortTag() == "!!merge")
}

// merge writes the pairs of a mapping, or of a list of mappings of which the first
// has precedence.
func (c *converter) merge(n *yaml.Node, seen map[string]bool, depth int) error {
	if err := c.bound(n, depth); err != nil {
		return err
	}
	switch n.Kind {
	case yaml.MappingNode:
		return c.pairs(n, seen, depth)
	case yaml.AliasNode:
		return c.alias(n, func(target *yaml.Node) error { return c.merge(target, seen, depth+1) })
	case yaml.SequenceNode:
		for _, e := range n.Content {
			if err := c.merge(e, seen, depth+1); err != nil {
				return err
			}
		}
		return nil
	default:
		return c.errorf(n, "what is merged in with << is no mapping")
	}
}

// key gives the text of a key: JSON has no others.
func (c *converter) key(n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return "", c.errorf(n, "a key is a list or a mapping")
	}
	before := len(c.out)
	err := c.scalar(n)
	text := string(c.out[before:])
	c.out = c.out[:before]
	switch {
	case err != nil:
		return "", err
	case text == "null":
		return "", c.errorf(n, "a key is null")
	case text[0] != '"':
		return text, nil
	}
	return scalarText(n)
}

func scalarText(n *yaml.Node) (string, error) {
	if n.ShortTag() != "!!binary" {
		return n.Value, nil
	}
	text, err := base64.StdEncoding.DecodeString(n.Value)
	return string(text), err
}

// scalar writes a scalar.
func (c *converter) scalar(n *yaml.Node) error {
	quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if quoted && n.Style&yaml.TaggedStyle == 0 {
		c.out = appendString(c.out, n.Value)
		return nil
	}
	switch n.ShortTag() {
	case "!!null":
		c.out = append(c.out, "null"...)
		return nil
	case "!!bool", "!!int", "!!float":
		return c.number(n)
	}
	if on, ok := oldBool(n.Value); ok && n.Style == 0 {
		c.out = strconv.AppendBool(c.out, on)
		return nil
	}
	text, err := scalarText(n)
	if err != nil {
		return c.errorf(n, "%v", err)
	}
	c.out = appendString(c.out, text)
	return nil
}

func (c *converter) number(n *yaml.Node) error {
	var v any
	if err := n.Decode(&v); err != nil {
		return c.errorf(n, "%v", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return c.errorf(n, "%s is no number that JSON has", n.Value)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return c.errorf(n, "%v", err)
	}
	c.out = append(c.out, text...)
	return nil
}

// oldBool knows the words that are booleans in YAML 1.1 alone.
func oldBool(s string) (on, ok bool) {
	switch s {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

// appendString writes a JSON string. Most need no escape.
func appendString(out []byte, s string) []byte {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == '"' || s[i] == '\\' || s[i] >= 0x7f {
			text, _ := json.Marshal(s) // a string always can
			return append(out, text...)
		}
	}
	return append(append(append(out, '"'), s...), '"')
}
