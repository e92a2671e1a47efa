package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxValueFile is the largest file of a config directory, in bytes: far above any
// value, far below what would hurt.
const maxValueFile = 64 << 10

// readDir gives the settings of a config directory, one file a key, in the order
// of their names. Names that start with "." are left out: Kubernetes keeps its
// versions of a mounted ConfigMap there. where says what named the directory.
func readDir(dir, where string) ([]setting, []error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, []error{fmt.Errorf("config-dir=%s (%s): %w", quote(dir), where, err)}
	}
	var out []setting
	var problems []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		value, err := readValueFile(path)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s (file %s): %w", quote(e.Name()), path, err))
			continue
		}
		out = append(out, setting{key: e.Name(), value: value, source: path, where: "file " + path})
	}
	return out, problems
}

// readValueFile gives the content of a regular file less one newline at its end.
// It follows symbolic links, as a mounted ConfigMap is made of them.
func readValueFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("look at it: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("is no regular file but %s; a config directory holds one file a key", kindOf(info.Mode()))
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open it: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxValueFile+1))
	if err != nil {
		return "", fmt.Errorf("read it: %w", err)
	}
	if len(data) > maxValueFile {
		return "", fmt.Errorf("has %d bytes; at most %d are allowed", max(info.Size(), int64(len(data))), maxValueFile)
	}
	text, found := strings.CutSuffix(string(data), "\n")
	if found {
		text = strings.TrimSuffix(text, "\r")
	}
	return text, nil
}

func kindOf(mode os.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&os.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&os.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}
