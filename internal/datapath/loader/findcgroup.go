package loader

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// procInit is the node's first process, as the agent sees it.
const procInit = "/proc/1"

// ciliumCgroup is where Cilium mounts the hierarchy for itself. Its own
// ConfigMaps have the path on nodes where nobody has mounted anything there.
const ciliumCgroup = "/run/cilium/cgroupv2"

// FindCgroup returns a path by which this process can open the cgroup that holds
// all processes and pods of the node. configured is a path on the node, of the
// whole hierarchy or of a part; one of this process's own file system is taken
// too. Empty finds the root of the hierarchy as the node's first process has it
// mounted: a node that is itself a container gets its own part, and nothing is
// mounted. The error says what is missing and what to do about it.
func FindCgroup(configured string) (string, error) {
	if configured != "" {
		path, err := namedCgroup(procInit, configured)
		if err == nil || configured != ciliumCgroup {
			return path, err
		}
	}
	if os.Getpid() == 1 {
		return "", errors.New("cgroup-root: the node's cgroups cannot be told from those of the agent's own container: give its pod hostPID: true, or set the key")
	}
	return mountedCgroup(procInit)
}

// namedCgroup takes a path as the process that proc is of sees it, or as this one does.
func namedCgroup(proc, configured string) (string, error) {
	var err error
	for _, path := range []string{filepath.Join(proc, "root", configured), configured} {
		if err = checkCgroup(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("cgroup-root: %w: name a mounted cgroup2 hierarchy of the node, or leave the key empty", err)
}

// mountedCgroup finds the hierarchy that the process has mounted. Where this one is
// in the same mount namespace, it needs no right to look into the other.
func mountedCgroup(proc string) (string, error) {
	theirs, err := readMounts(proc)
	if err != nil {
		return "", err
	}
	own, err := readMounts("/proc/self")
	if err != nil {
		return "", err
	}
	for _, m := range theirs {
		path := filepath.Join(proc, "root", m.point)
		if slices.Contains(own, m) {
			path = m.point
		}
		err := checkCgroup(path)
		if err == nil {
			return path, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("cgroup-root: %w: run the agent as root, in a pod with hostPID and securityContext.privileged", err)
		}
	}
	return "", errors.New("cgroup-root: no cgroup2 hierarchy is mounted on the node: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
}

func readMounts(proc string) ([]cgroupMount, error) {
	text, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("cgroup-root: read mounts: %w: run the agent as root, in a pod with hostPID and securityContext.privileged", err)
	}
	return cgroupMounts(string(text)), nil
}

func checkCgroup(path string) error {
	c, err := openCgroup(path)
	if err != nil {
		return err
	}
	return c.close()
}

// cgroupMount is where a whole hierarchy is mounted. The kernel gives no two mounts
// one id, in whatever namespace they are.
type cgroupMount struct {
	id, point string
	above     int // levels above the reader's own root
}

// cgroupMounts are those in the text of a mountinfo file, the most comprehensive
// first. The kernel names the cgroup that is mounted relative to the reader's own
// root: "/" is that one, "/.." above it.
func cgroupMounts(mountinfo string) []cgroupMount {
	var mounts []cgroupMount
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		fields := strings.Fields(left)
		if !ok || !strings.HasPrefix(right, "cgroup2 ") || len(fields) < 6 {
			continue
		}
		if above, ok := levelsAbove(fields[3]); ok {
			mounts = append(mounts, cgroupMount{id: fields[0], point: unescape(fields[4]), above: above})
		}
	}
	slices.SortStableFunc(mounts, func(a, b cgroupMount) int { return cmp.Compare(b.above, a.above) })
	return mounts
}

// levelsAbove counts the levels of "/", "/..", "/../.." and so on. Any other path
// is a part of a hierarchy.
func levelsAbove(root string) (levels int, ok bool) {
	rest := strings.TrimSuffix(root, "/")
	levels = strings.Count(rest, "/..")
	return levels, strings.Repeat("/..", levels) == rest
}

// unescape undoes what the kernel does to blanks and backslashes in a path: three
// octal digits after a backslash.
func unescape(path string) string {
	var out strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+3 < len(path) {
			if c, err := strconv.ParseUint(path[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		out.WriteByte(path[i])
	}
	return out.String()
}
