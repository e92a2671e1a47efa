package cli

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/placid-net/placid/internal/config"
)

const (
	docsDir = "../../docs"
	// generatedNote opens every generated document.
	generatedNote = "<!-- Generated: go test ./internal/cli -run TestDocs -update -->\n\n"
)

// TestDocs keeps docs/cli.md and docs/configuration.md equal to the program.
func TestDocs(t *testing.T) {
	compareGolden(t, filepath.Join(docsDir, "cli.md"), cliDoc())
	compareGolden(t, filepath.Join(docsDir, "configuration.md"), configurationDoc())
}

// TestCommandsDocumented checks that every command says what it does.
func TestCommandsDocumented(t *testing.T) {
	for _, cmd := range commands(testRoot()) {
		if cmd.Short == "" || cmd.Args == nil || cmd.RunE == nil {
			t.Errorf("%s: Short, Args or RunE is missing", cmd.CommandPath())
		}
	}
}

func testRoot() *cobra.Command {
	return (&app{env: Env{
		Stdin: strings.NewReader(""), Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer),
		Getenv: func(string) string { return "" },
	}}).rootCommand()
}

// commands lists cmd and all below it, in the order of the help.
func commands(cmd *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		out = append(out, commands(sub)...)
	}
	return out
}

func cliDoc() string {
	root := testRoot()
	var out strings.Builder
	out.WriteString(generatedNote + "# The command line `placid`\n\n```\n" + root.Long + "\n```\n\n")
	out.WriteString("`placid completion bash|zsh|fish|powershell` prints a completion script for the shell.\n\n## Global flags\n\n")
	writeFlags(&out, root.PersistentFlags())
	for _, cmd := range commands(root)[1:] {
		if cmd.HasSubCommands() && cmd.Long == "" {
			continue // only holds others, which follow
		}
		writeCommand(&out, cmd)
	}
	return out.String()
}

func writeCommand(out *strings.Builder, cmd *cobra.Command) {
	use := cmd.UseLine()
	fmt.Fprintf(out, "\n## %s\n\n```\n%s\n```\n\n", cmd.CommandPath(), use)
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	out.WriteString(text + "\n")
	if cmd.Example != "" {
		fmt.Fprintf(out, "\n```\n%s\n```\n", cmd.Example)
	}
	if cmd.LocalNonPersistentFlags().HasFlags() {
		out.WriteByte('\n')
		writeFlags(out, cmd.LocalNonPersistentFlags())
	}
}

func writeFlags(out *strings.Builder, flags *pflag.FlagSet) {
	out.WriteString("| Flag | Default | Meaning |\n|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		defaultText := "none"
		if f.DefValue != "" {
			defaultText = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(out, "| %s | %s | %s |\n", name, defaultText, cell(f.Usage))
	})
}

// cell makes text safe inside a table of Markdown.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

func configurationDoc() string {
	var out strings.Builder
	out.WriteString(generatedNote + `# Configuration

Every key of the agent and the operator. A key is set, the later wins, by

1. a file of the configuration directory (the mounted ConfigMap) with the key's name,
2. an environment variable: ` + "`PLACID_`" + ` and the key in capitals with ` + "`_`" + ` for ` + "`-`" + `,
3. a flag: ` + "`--`" + ` and the key.

An unknown key, a wrong type, a value out of range or two settings that contradict
each other stop the start with an error. ` + "`placid config`" + ` shows the values in effect
and where they came from; ` + "`placid config keys`" + ` prints this reference.

| Key | Type | Default | Allowed | Meaning |
|---|---|---|---|---|
`)
	for _, k := range keyReferences() {
		meaning := k.Doc
		if k.Later != "" {
			meaning += ". *Checked but not used yet: comes with " + k.Later + ".*"
		}
		defaultText := "empty"
		if k.Default != "" {
			defaultText = "`" + k.Default + "`"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", k.Key, k.Type, defaultText, cell(k.Allowed), cell(meaning))
	}
	writeForeignKeys(&out)
	return out.String()
}

// writeForeignKeys lists Cilium's keys that Placid does without; those that
// share what is accepted and what happens instead share a row.
func writeForeignKeys(out *strings.Builder) {
	out.WriteString(`
## Keys of Cilium that Placid does without

They are accepted, with a warning that says what happens instead, so that an
existing ConfigMap can be kept. Where ignoring a value would weaken security or
break what pods rely on, only the values listed are accepted.

| Keys | Accepted values | Instead |
|---|---|---|
`)
	type rule struct{ accepted, instead string }
	names := map[rule][]string{}
	var order []rule
	for _, k := range config.ForeignKeys() {
		r := rule{"any", k.Instead}
		if len(k.Accept) > 0 {
			r.accepted = strings.ReplaceAll("`"+strings.Join(k.Accept, "`, `")+"`", "``", "empty")
		}
		if names[r] == nil {
			order = append(order, r)
		}
		names[r] = append(names[r], "`"+k.Name+"`")
	}
	for _, r := range order {
		fmt.Fprintf(out, "| %s | %s | %s |\n", strings.Join(names[r], ", "), cell(r.accepted), cell(r.instead))
	}
}
