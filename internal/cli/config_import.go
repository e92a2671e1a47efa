package cli

import (
	"bytes"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/config"
)

// Name and namespace of the ConfigMap that is mounted as the config directory.
const (
	configMapNamespace = "kube-system"
	configMapName      = "placid-config"
)

const configImportHelp = `Print the Placid configuration that is equivalent to a Terway CNI file.

FILE is 10-terway.conf, a CNI list that holds it, or eni_conf; - reads from the
standard input. What has no equivalent, and what Placid does instead of some
settings, is written to the standard error; read it before using the result.
Nothing is printed when a value is one that Placid refuses. Needs no agent.`

// configImportCommand has an --output of its own, which hides the global one.
func (a *app) configImportCommand() *cobra.Command {
	output := enum{value: outYAML, kind: "format", allowed: []string{outYAML, outJSON, outConfigMap}}
	cmd := &cobra.Command{
		Use:     "import FILE|-",
		Short:   "Print the Placid configuration that is equivalent to a Terway CNI file",
		Long:    configImportHelp,
		Example: "  placid config import /etc/cni/net.d/10-terway.conf\n  placid config import - -o configmap <10-terway.conf | kubectl apply -f -",
		Args:    oneArg,
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			return a.importTerway(args[0], output.value)
		}),
	}
	cmd.Flags().VarP(&output, "output", "o", "output format: "+output.choices())
	return cmd
}

func (a *app) importTerway(path, format string) error {
	in := a.env.Stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("import Terway configuration: %w", err)
		}
		defer func() { _ = file.Close() }() // only read
		in = file
	}
	result, err := config.ImportTerway(in)
	if noteErr := a.importNotes(result); noteErr != nil {
		return noteErr
	}
	if err != nil {
		return fmt.Errorf("import %s: %w", path, err)
	}
	var out bytes.Buffer
	if format == outConfigMap {
		err = result.WriteConfigMap(&out, configMapNamespace, configMapName)
	} else {
		settings := map[string]string{}
		for _, s := range result.Settings {
			settings[s.Key] = s.Value
		}
		err = encode(&out, format, settings)
	}
	if err != nil {
		return err
	}
	return a.write(out.Bytes())
}

// importNotes tells on the standard error what the result does not say.
func (a *app) importNotes(result config.ImportResult) error {
	var notes bytes.Buffer
	for _, n := range result.NotUnderstood {
		fmt.Fprintf(&notes, "not understood: line %d, %s = %s: %s\n", n.Line, n.Field, quoteEmpty(n.Value), n.Why)
	}
	for _, w := range result.Warnings {
		fmt.Fprintf(&notes, "warning: %s\n", w)
	}
	if _, err := a.env.Stderr.Write(notes.Bytes()); err != nil {
		return fmt.Errorf("write notes: %w", err)
	}
	return nil
}
