package cli

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"k8s.io/apimachinery/pkg/util/duration"
)

// netnsWidth is how much of a network namespace's name a table shows: enough
// to tell containerd's "cni-" names apart.
const netnsWidth = 14

// age gives the time since t in one unit, e.g. "5m" or "2d"; "-" when t is not set.
func (a *app) age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return duration.ShortHumanDuration(a.env.Now().Sub(t))
}

// addr gives the address, or "-" when it is not set.
func addr(ip netip.Addr) string {
	if !ip.IsValid() {
		return "-"
	}
	return ip.String()
}

// dash gives s, or "-" when it is empty, so that no table cell is blank.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shortNetns gives the start of the namespace's file name.
func shortNetns(path string) string {
	if path == "" {
		return "-"
	}
	return text.Snip(filepath.Base(path), netnsWidth, "…")
}

// fill gives how full a map is, e.g. "12.5%". Arrays and ring buffers have no
// fill and give "-".
func fill(mapType string, entries uint64, maxEntries uint32) string {
	kind := strings.ToLower(mapType)
	if maxEntries == 0 || !strings.Contains(kind, "hash") && !strings.Contains(kind, "trie") {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(entries)/float64(maxEntries))
}

// plural gives "1 node", "2 nodes".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// joinAddrs gives the addresses separated by spaces.
func joinAddrs[T fmt.Stringer](in []T) string {
	words := make([]string, len(in))
	for i, v := range in {
		words[i] = v.String()
	}
	return dash(strings.Join(words, " "))
}
