package config

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// dirKey is the flag, and in the environment the key, that names the config
// directory.
const dirKey = "config-dir"

// BindFlags registers every key as a flag, the keys that Placid does without as
// hidden flags, and --config-dir. Parsing the flags checks no value: Load does, so
// that it can report all problems at once. BindFlags must be called before other
// flags of the same names exist; use FlagError to improve what Parse returns.
func BindFlags(fs *pflag.FlagSet) {
	for _, k := range Keys() {
		usage := fmt.Sprintf("%s (%s)", k.Doc, k.Allowed())
		f := fs.VarPF(&flagValue{text: k.Default, kind: k.Type, list: k.isList()}, k.Name, "", usage)
		if k.Type == typeBool {
			f.NoOptDefVal = "true"
		}
	}
	for _, k := range ForeignKeys() {
		f := fs.VarPF(&flagValue{kind: typeString}, k.Name, "", "not used: "+k.Instead)
		f.Hidden = true
		if k.isSwitch() {
			f.NoOptDefVal = "true"
		}
	}
	fs.Var(&flagValue{kind: typeString}, dirKey, "directory with one file a key, as a mounted ConfigMap is")
}

// FlagError adds what was probably meant to the error that pflag gives for an
// unknown flag, and returns any other error as it is. Hand it to cobra's
// SetFlagErrorFunc.
func FlagError(err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	return fmt.Errorf("unknown flag --%s: %s", unknown.GetSpecifiedName(), didYouMean(suggest(unknown.GetSpecifiedName(), allNames())))
}

// readFlags gives the settings that BindFlags registered and that were set.
func readFlags(fs *pflag.FlagSet) []setting {
	if fs == nil {
		return nil
	}
	var out []setting
	fs.Visit(func(f *pflag.Flag) {
		v, ok := f.Value.(*flagValue)
		if !ok {
			return // not one of ours
		}
		out = append(out, setting{key: f.Name, value: v.text, source: "flag", where: "flag --" + f.Name})
	})
	return out
}

// allNames gives the names of all keys, those that Placid does without last.
func allNames() []string {
	var out []string
	for _, k := range Keys() {
		out = append(out, k.Name)
	}
	out = append(out, dirKey)
	for _, k := range ForeignKeys() {
		out = append(out, k.Name)
	}
	return out
}

// flagValue implements pflag.Value: it keeps the text and checks nothing.
type flagValue struct {
	text, kind string
	list, set  bool
}

// String implements pflag.Value.
func (v *flagValue) String() string { return v.text }

// Type implements pflag.Value.
func (v *flagValue) Type() string { return v.kind }

// Set implements pflag.Value. A list that is given several times adds up.
func (v *flagValue) Set(text string) error {
	if v.list && v.set {
		text = v.text + "," + text
	}
	v.text, v.set = text, true
	return nil
}
