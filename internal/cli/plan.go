package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/sizing"
)

// defaultRatio is the agent's default of bpf-map-dynamic-size-ratio.
const defaultRatio = 0.0025

const planSizesHelp = `Print how many entries every sized BPF table gets on a machine with so much
memory, and what the tables take there. Needs no agent.

IPv4 and IPv6 share every table. "nominal" counts keys and values, as the ratio
does; "at start" and "full" are what the kernel takes, with bytes an entry as
they were measured: at once for tables whose entries are allocated when they are
made (hash, LRU), as entries come for the others. bpf-nat-global-max is checked
and shown, but is no table: a translated flow has two entries in its conntrack
table.`

func (a *app) planSizesCommand() *cobra.Command {
	var memory string
	var ratio float64
	var set []string
	cmd := &cobra.Command{
		Use:     "sizes --memory SIZE",
		Short:   "Print the sizes of BPF tables and the memory that they take",
		Long:    planSizesHelp,
		Example: "placid plan sizes --memory 16GiB\nplacid plan sizes --memory 16GiB --ratio 0.003 --set bpf-ct-global-tcp-max=500000",
		Args:    cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			in, err := sizesInput(cmd, memory, ratio, set)
			if err != nil {
				return err
			}
			sizes, err := sizing.Plan(in)
			if err != nil {
				return fmt.Errorf("plan sizes: %w", err)
			}
			plan := newSizePlan(in, sizes)
			return a.print(plan, func(out *bytes.Buffer) { plan.text(out) })
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&memory, "memory", "", "memory of the machine, e.g. 16GiB")
	flags.Float64Var(&ratio, "ratio", defaultRatio, sizing.KeyRatio+": share of the memory that the tables get; 0 takes the default sizes")
	flags.StringArrayVar(&set, "set", nil, "KEY=ENTRIES, a size that is set explicitly; may be repeated")
	return cmd
}

// sizesInput reads the flags of `placid plan sizes`.
func sizesInput(cmd *cobra.Command, memory string, ratio float64, set []string) (sizing.Input, error) {
	in := sizing.Input{Ratio: ratio, Explicit: map[string]int{}}
	if memory == "" {
		return in, usagef(cmd, "--memory is missing; say how much the machine has, e.g. --memory 16GiB")
	}
	var err error
	if in.Memory, err = humanize.ParseBytes(memory); err != nil || in.Memory == 0 {
		return in, usagef(cmd, "--memory %q: want a size above 0 such as 16GiB or 7.5GiB", memory)
	}
	for _, s := range set {
		key, value, ok := strings.Cut(s, "=")
		n, err := strconv.Atoi(value)
		if !ok || err != nil {
			return in, usagef(cmd, "--set %q: want KEY=ENTRIES such as %s=500000", s, sizing.KeyTCP)
		}
		if _, twice := in.Explicit[key]; twice {
			return in, usagef(cmd, "--set %s is given twice", key)
		}
		in.Explicit[key] = n
	}
	return in, nil
}

// sizePlan is the JSON form of `placid plan sizes`. All sizes are in bytes.
type sizePlan struct {
	MemoryBytes uint64  `json:"memoryBytes"`
	Ratio       float64 `json:"ratio"`
	// NominalBytes is the ratio's share of the memory; StartBytes and FullBytes are
	// what all tables take without entries and with all of them.
	NominalBytes uint64      `json:"nominalBytes"`
	StartBytes   uint64      `json:"startBytes"`
	FullBytes    uint64      `json:"fullBytes"`
	NAT          sizeOfNAT   `json:"nat"`
	Tables       []tableSize `json:"tables"`
	Warnings     []string    `json:"warnings"`
}

type sizeOfNAT struct {
	Key     string `json:"key"`
	Entries int    `json:"entries"`
	From    string `json:"from"`
}

type tableSize struct {
	Name    string `json:"name"`
	Key     string `json:"key,omitempty"`
	Kind    string `json:"kind"`
	Entries int    `json:"entries"`
	From    string `json:"from"`
	// NominalBytes are keys and values of all entries; EntryBytes is what one
	// really takes.
	NominalBytes uint64 `json:"nominalBytes"`
	EntryBytes   int    `json:"entryBytes"`
	StartBytes   uint64 `json:"startBytes"`
	FullBytes    uint64 `json:"fullBytes"`
}

func newSizePlan(in sizing.Input, s sizing.Sizes) sizePlan {
	out := sizePlan{
		MemoryBytes: in.Memory, Ratio: in.Ratio, NominalBytes: s.Nominal, StartBytes: s.Empty(), FullBytes: s.Full(),
		NAT: sizeOfNAT{sizing.KeyNAT, s.NAT, string(s.NATFrom)}, Warnings: nonNil(s.Warnings),
	}
	for _, t := range s.Tables {
		out.Tables = append(out.Tables, tableSize{
			Name: strings.TrimSuffix(t.Map, "_map"), Key: t.Key, Kind: string(t.Kind), Entries: t.Entries, From: string(t.From),
			NominalBytes: uint64(t.Entries) * uint64(t.Nominal()), EntryBytes: t.Allocated(), StartBytes: t.Empty(), FullBytes: t.Full(),
		})
	}
	return out
}

// maglevBytes is what full Maglev tables take: much, as each Service port that has
// one takes as much as a thousand other entries.
func (p sizePlan) maglevBytes() uint64 {
	i := slices.IndexFunc(p.Tables, func(t tableSize) bool { return t.Name == "maglev" })
	return p.Tables[i].FullBytes
}

func (p sizePlan) text(out *bytes.Buffer) {
	g := newGrid("TABLE", "ENTRIES", "FROM", "KIND", "NOMINAL", "B/ENTRY", "AT START", "FULL", "KEY")
	for _, t := range p.Tables {
		g.add(t.Name, strconv.Itoa(t.Entries), t.From, t.Kind, humanize.IBytes(t.NominalBytes), strconv.Itoa(t.EntryBytes),
			humanize.IBytes(t.StartBytes), humanize.IBytes(t.FullBytes), dash(t.Key))
	}
	g.add("NAT", strconv.Itoa(p.NAT.Entries), p.NAT.From, "in conntrack", "-", "-", "-", "-", p.NAT.Key)
	g.render(out, "")
	share := func(bytes uint64) string {
		return fmt.Sprintf("%s (%.2f %%)", humanize.IBytes(bytes), 100*float64(bytes)/float64(p.MemoryBytes))
	}
	fmt.Fprintf(out, "\nOf %s of memory: %s nominal by the ratio, %s taken at start, %s when every table is full (Maglev tables alone: %s).\n",
		humanize.IBytes(p.MemoryBytes), share(p.NominalBytes), share(p.StartBytes), share(p.FullBytes), humanize.IBytes(p.maglevBytes()))
	for _, w := range p.Warnings {
		fmt.Fprintf(out, "Note: %s\n", w)
	}
}
