package objects

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// stdinName is the path that stands for standard input, and what it is called.
const stdinPath, stdinName = "-", "standard input"

// source is one text to read.
type source struct {
	name string
	// found tells that the path was not given, but found in a directory: then it may
	// be something else than objects.
	found bool
	open  func() (io.ReadCloser, error)
	// once tells that it cannot be opened again.
	once bool
}

// sources are what paths lead to.
type sources struct {
	list     []source
	skipped  int // files that are not looked into
	problems []snapshot.Problem
	seen     map[string]bool // files and directories, without symbolic links
}

// findSources follows the paths. The error is a path that does not lead anywhere.
func findSources(paths []string, stdin io.Reader) (*sources, error) {
	s := &sources{seen: map[string]bool{}}
	for _, path := range paths {
		if path == stdinPath {
			if stdin == nil {
				return nil, fmt.Errorf("read %s: there is none", stdinName)
			}
			s.list = append(s.list, source{name: stdinName, once: true, open: func() (io.ReadCloser, error) { return io.NopCloser(stdin), nil }})
			continue
		}
		if err := s.path(path); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// path takes a path that was given.
func (s *sources) path(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("follow %s: %w", path, err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	switch {
	case info.IsDir():
		if err := s.directory(path, real); err != nil {
			return fmt.Errorf("read directory %s: %w", path, err)
		}
		return nil
	case info.Mode().IsRegular(), info.Mode()&fs.ModeNamedPipe != 0, info.Mode()&fs.ModeCharDevice != 0:
		if s.visit(real) {
			s.add(path, false, !info.Mode().IsRegular())
		}
		return nil
	}
	return fmt.Errorf("read %s: it is neither a file nor a directory", path)
}

func (s *sources) visit(real string) bool {
	if s.seen[real] {
		return false
	}
	s.seen[real] = true
	return true
}

func (s *sources) add(path string, found, once bool) {
	s.list = append(s.list, source{name: path, found: found, once: once, open: func() (io.ReadCloser, error) { return os.Open(path) }})
}

// directory takes the files below path, in the order of their names. Names that
// begin with a dot are left out, and so is what was there before, by whatever
// symbolic link.
func (s *sources) directory(path, real string) error {
	if !s.visit(real) {
		return nil
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			s.entry(filepath.Join(path, e.Name()))
		}
	}
	return nil
}

// entry takes what a directory has.
func (s *sources) entry(path string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		s.unreadable(path, err)
		return
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		s.unreadable(path, err)
	case info.IsDir():
		if err := s.directory(path, real); err != nil {
			s.unreadable(path, err)
		}
	case !info.Mode().IsRegular() || !hasObjects(path):
		s.skipped++
	case s.visit(real):
		s.add(path, true, false)
	}
}

// hasObjects tells by its name whether a file in a directory may hold objects.
func hasObjects(path string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(path)))
}

func (s *sources) unreadable(path string, err error) {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	s.problems = append(s.problems, snapshot.Problem{
		Severity: snapshot.Fatal, Origin: snapshot.Origin{File: path}, Message: fmt.Sprintf("it cannot be read: %v", err),
	})
}
