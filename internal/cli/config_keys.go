package cli

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/config"
)

const configKeysHelp = `Print the reference of all configuration keys. Needs no agent.

A key is set, the later wins, by a file of the configuration directory that has
the key's name, by an environment variable, or by a flag of the agent.`

// keyReference is the JSON form of one key of `placid config keys`.
type keyReference struct {
	Key     string `json:"key"`
	Type    string `json:"type"`
	Default string `json:"default"`
	Allowed string `json:"allowed"`
	Env     string `json:"env"`
	// Later names the part of Placid that will use the key; empty if one does.
	Later string `json:"later,omitempty"`
	Doc   string `json:"doc"`
}

func keyReferences() []keyReference {
	var out []keyReference
	for _, k := range config.Keys() {
		out = append(out, keyReference{
			Key: k.Name, Type: k.Type, Default: k.Default, Allowed: k.Allowed(), Env: k.EnvName(), Later: k.Later, Doc: k.Doc,
		})
	}
	return out
}

func (a *app) configKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keys",
		Short: "Print the reference of all configuration keys, without an agent",
		Long:  configKeysHelp,
		Args:  cobra.NoArgs,
		RunE: a.run(func(*cobra.Command, []string) error {
			keys := keyReferences()
			return a.print(keys, func(out *bytes.Buffer) { keysText(out, keys) })
		}),
	}
}

func keysText(out *bytes.Buffer, keys []keyReference) {
	for i, k := range keys {
		if i > 0 {
			out.WriteByte('\n')
		}
		fmt.Fprintf(out, "%s\n  %s\n", k.Key, k.Doc)
		fmt.Fprintf(out, "  default: %s\n  allowed: %s\n  env:     %s\n", quoteEmpty(k.Default), k.Allowed, k.Env)
		if k.Later != "" {
			fmt.Fprintf(out, "  Checked but not used yet: comes with %s.\n", k.Later)
		}
	}
}
