package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// versionBefore ends the names of the maps that a program finds the one from before
// in (bpf/lib/handover.h). The kernel empties such a map when nobody holds it any
// more, so they are pinned as NAME_v0:ID until Commit: programs whose agent was killed
// go on with what they do.
const versionBefore = "_v0"

func ofVersionBefore(name string) bool { return strings.HasSuffix(name, versionBefore) }

// letWork makes a program let the pinned one of its name do the work, until Commit.
// Where none is pinned, nothing runs that could not see its flows.
func (l *Loader) letWork(name string, before *ebpf.Map) error {
	if before == nil {
		return nil
	}
	l.before = append(l.before, before)
	old, err := ebpf.LoadPinnedProgram(filepath.Join(l.root, "programs", name), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(before.Put(uint32(0), old), old.Close())
	}
	if err == nil {
		err = l.hold(name, before)
	}
	if err != nil {
		return fmt.Errorf("let %s of before do the work: %w", name, err)
	}
	return nil
}

func (l *Loader) hold(name string, before *ebpf.Map) error {
	info, err := before.Info()
	if err != nil {
		return err
	}
	id, _ := info.ID()
	return before.Pin(filepath.Join(l.root, "maps", name+versionBefore+":"+strconv.FormatUint(uint64(id), 10)))
}

// takeOver makes all programs do the work themselves, and lets go of the maps of
// agents that did not get so far.
func (l *Loader) takeOver() error {
	for _, m := range l.before {
		if err := m.Delete(uint32(0)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("take over from the programs of before: %w", err)
		}
	}
	pins, err := filepath.Glob(filepath.Join(l.root, "maps", "*"+versionBefore+":*"))
	if err != nil {
		return err
	}
	for _, pin := range pins {
		if err := os.Remove(pin); err != nil {
			return fmt.Errorf("take over from the programs of before: %w", err)
		}
	}
	return nil
}
