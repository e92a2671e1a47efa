package services

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Memory is that of a process, in MiB.
type Memory struct {
	Heap float64 `json:"heap"` // what is in use, after a collection
	RSS  float64 `json:"rss"`
}

const mebi = 1 << 20

// memory collects garbage and looks what is left.
func memory() (m Memory, err error) {
	debug.FreeOSMemory() // collects, too
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.Heap = float64(s.HeapAlloc) / mebi
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m, fmt.Errorf("read the memory of the process: %w", err)
	}
	m.RSS = residentMiB(string(status))
	return m, nil
}

// residentMiB is the value of VmRSS in the text of /proc/PID/status.
func residentMiB(status string) float64 {
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(f[1], 64) // the kernel wrote it
			return kib / 1024
		}
	}
	return 0
}
