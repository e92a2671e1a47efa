package config

import (
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// WriteConfigMap writes the settings as the YAML of a ConfigMap, which mounted is
// a config directory.
func (r ImportResult) WriteConfigMap(w io.Writer, namespace, name string) error {
	data := make(map[string]string, len(r.Settings))
	for _, s := range r.Settings {
		data[s.Key] = s.Value
	}
	out, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata":   map[string]string{"name": name, "namespace": namespace},
		"data":       data,
	})
	if err != nil {
		return fmt.Errorf("encode ConfigMap: %w", err)
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("write ConfigMap: %w", err)
	}
	return nil
}

// WriteKeyValue writes the settings as lines of key=value.
func (r ImportResult) WriteKeyValue(w io.Writer) error {
	for _, s := range r.Settings {
		if _, err := fmt.Fprintf(w, "%s=%s\n", s.Key, s.Value); err != nil {
			return fmt.Errorf("write settings: %w", err)
		}
	}
	return nil
}
