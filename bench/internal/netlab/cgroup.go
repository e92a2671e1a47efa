package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// cgroupPrefix begins the names of our cgroups; the id of the process follows.
const cgroupPrefix = "placid-bench-"

// Cgroup is a cgroup of version 2, for programs that are started in it.
type Cgroup struct {
	Path string
	dir  *os.File
}

// NewCgroup makes a cgroup, and removes those of runs that were killed. Remove it.
func NewCgroup() (*Cgroup, error) {
	root, err := cgroupMount()
	if err != nil {
		return nil, err
	}
	if err = sweepCgroups(root); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(root, cgroupPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the cgroup: %w", err), os.Remove(path))
	}
	return &Cgroup{Path: path, dir: dir}, nil
}

// cgroupMount finds the cgroup2 hierarchy where systems mount it.
func cgroupMount() (string, error) {
	for _, path := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var st unix.Statfs_t
		if unix.Statfs(path, &st) == nil && uint32(st.Type) == unix.CGROUP2_SUPER_MAGIC {
			return path, nil
		}
	}
	return "", errors.New("no cgroup2 hierarchy is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
}

// sweepCgroups removes the cgroups of processes that are no more.
func sweepCgroups(root string) error {
	old, err := filepath.Glob(filepath.Join(root, cgroupPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for old cgroups: %w", err)
	}
	for _, path := range old {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), cgroupPrefix), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || unix.Kill(pid, 0) == nil {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove an old cgroup: %w", err)
		}
	}
	return nil
}

// Begin has a program begin in the cgroup.
func (c *Cgroup) Begin(attr *syscall.SysProcAttr) {
	attr.UseCgroupFD, attr.CgroupFD = true, int(c.dir.Fd())
}

// Remove removes the cgroup, whose processes have ended.
func (c *Cgroup) Remove() error { return errors.Join(c.dir.Close(), os.Remove(c.Path)) }
