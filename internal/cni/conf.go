package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

const (
	networkName = "placid"
	pluginType  = "placid-cni"
	// confMode keeps the configuration to root, as CIS benchmarks ask.
	confMode = 0o600
	// backupSuffix marks configurations of others that were set aside.
	backupSuffix = ".placid_bak"
)

// ConfOptions are the values of the network configuration. A zero value leaves
// the key out, and the plugin takes its default.
type ConfOptions struct {
	// SocketPath is the agent's unix socket, absolute.
	SocketPath string
	// PendingDir holds the DELs that the agent was not there for, absolute.
	PendingDir string
	// MTU of pod interfaces in bytes; 0 takes the node's.
	MTU int
	// LogFile is where the plugin logs, absolute; empty logs nothing.
	LogFile string
	// LogLevel is debug, info, warn or error.
	LogLevel string
	// WithoutHostPorts leaves out the capability portMappings: nobody serves host
	// ports, or another plugin of the chain does.
	WithoutHostPorts bool
	// Exclusive sets the other configurations in the folder aside, by renaming
	// them to NAME.placid_bak, so that container runtimes use this one only.
	Exclusive bool
}

// confList is the file's content.
type confList struct {
	CNIVersion string       `json:"cniVersion"`
	Name       string       `json:"name"`
	Plugins    []confPlugin `json:"plugins"`
}

type confPlugin struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities,omitempty"`
	SocketPath   string          `json:"socketPath,omitempty"`
	PendingDir   string          `json:"pendingDir,omitempty"`
	MTU          int             `json:"mtu,omitempty"`
	LogFile      string          `json:"logFile,omitempty"`
	LogLevel     string          `json:"logLevel,omitempty"`
}

// WriteConf puts the network configuration at path, making the folder when
// there is none. A file that has the right content already is left alone, so
// that container runtimes, which watch the folder, do not load it again. With
// opts.Exclusive others are set aside only after the file is there: a runtime
// never finds the folder empty. Values that the plugin would refuse are errors.
func WriteConf(path string, opts ConfOptions) error {
	if ext := filepath.Ext(path); ext != ".conflist" {
		return fmt.Errorf("CNI configuration %q must end in .conflist: container runtimes read a list from no other name", path)
	}
	list := confList{CNIVersion: version110, Name: networkName, Plugins: []confPlugin{{
		Type:         pluginType,
		Capabilities: capabilities(opts),
		SocketPath:   opts.SocketPath,
		PendingDir:   opts.PendingDir,
		MTU:          opts.MTU,
		LogFile:      opts.LogFile,
		LogLevel:     opts.LogLevel,
	}}}
	check := netConf{SocketPath: opts.SocketPath, PendingDir: opts.PendingDir, MTU: opts.MTU, LogFile: opts.LogFile, LogLevel: opts.LogLevel}
	if err := check.validate(); err != nil {
		return fmt.Errorf("write CNI configuration %s: %w", path, err)
	}
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("encode CNI configuration %s: %w", path, err)
	}
	b = append(b, '\n')
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of CNI configurations: %w", err)
	}
	if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, b) {
		if err := renameio.WriteFile(path, b, confMode, renameio.WithTempDir(dir)); err != nil {
			return fmt.Errorf("write CNI configuration %s: %w", path, err)
		}
	}
	if !opts.Exclusive {
		return nil
	}
	return setAside(dir, filepath.Base(path))
}

// capabilities are what the runtime passes the plugin values of.
func capabilities(opts ConfOptions) map[string]bool {
	out := map[string]bool{"bandwidth": true}
	if !opts.WithoutHostPorts {
		out["portMappings"] = true
	}
	return out
}

// RemoveConf removes the network configuration; removing what is absent is
// success.
func RemoveConf(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove CNI configuration: %w", err)
	}
	return nil
}

// setAside renames every configuration in dir but keep to NAME.placid_bak. One
// that WriteConf wrote under another name is removed instead: RestoreConfs
// would bring it back on a node that Placid has left.
func setAside(dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list CNI configurations: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() || e.Name() == keep || !isConfName(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if isOwnConf(path) {
			errs = append(errs, RemoveConf(path))
			continue
		}
		if err := os.Rename(path, path+backupSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("set CNI configuration aside: %w", err))
		}
	}
	return errors.Join(errs...)
}

// RestoreConfs gives every configuration in dir that WriteConf set aside its
// name back. Where a newer file has taken the name, that one stays and the
// older is removed. A folder that is absent is success.
func RestoreConfs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list CNI configurations: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() || filepath.Ext(e.Name()) != backupSuffix {
			continue
		}
		backup := filepath.Join(dir, e.Name())
		path := backup[:len(backup)-len(backupSuffix)]
		if _, err := os.Lstat(path); err == nil {
			errs = append(errs, RemoveConf(backup))
			continue
		}
		if err := os.Rename(backup, path); err != nil {
			errs = append(errs, fmt.Errorf("restore CNI configuration: %w", err))
		}
	}
	return errors.Join(errs...)
}

// isConfName tells whether container runtimes read a file of that name.
func isConfName(name string) bool {
	return slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(name))
}

// isOwnConf tells whether WriteConf wrote the file.
func isOwnConf(path string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	var list confList
	if err := json.Unmarshal(b, &list); err != nil {
		return false
	}
	return list.Name == networkName && len(list.Plugins) == 1 && list.Plugins[0].Type == pluginType
}
