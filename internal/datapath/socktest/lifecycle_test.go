package socktest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/testutil"
)

// agentEnv makes the test binary an agent process: it holds the BPF file system and
// the cgroup, separated by a colon.
const agentEnv = "PLACID_SOCKTEST_AGENT"

const attached = "attached\n"

// runAgent attaches the programs, says so, and waits for the end of its input.
func runAgent() error {
	bpffs, cgroup, _ := strings.Cut(os.Getenv(agentEnv), ":")
	l, err := openLoader(bpffs, cgroup, rejecting())
	if err != nil {
		return err
	}
	if err = attach(l); err != nil {
		return err
	}
	if _, err = io.WriteString(os.Stdout, attached); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// runAndKill has an agent attach the programs, and ends it with SIGKILL.
func (w *world) runAndKill(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), agentEnv+"="+w.bpffs+":"+w.cgroup)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if said != attached {
		t.Fatalf("the agent said %q, %v", said, err)
	}
}

// links gives the pinned links of sockets: link and program ids.
func (w *world) links(t *testing.T) (links map[string]link.ID, programs map[string]uint32) {
	t.Helper()
	links, programs = map[string]link.ID{}, map[string]uint32{}
	paths, err := filepath.Glob(filepath.Join(w.bpffs, loader.Folder, "links", loader.CgroupDevice+":*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := l.Info()
		_ = l.Close()
		if err != nil {
			t.Fatal(err)
		}
		links[filepath.Base(path)], programs[filepath.Base(path)] = info.ID, uint32(info.Program)
	}
	return links, programs
}

// An agent that is killed leaves everything at work; the next one replaces the
// programs in place, and sockets keep what they are told.
func TestKilledAndUpgraded(t *testing.T) {
	w := newNode(t)
	w.runAndKill(t)
	before, oldPrograms := w.links(t)
	if len(before) != 8 {
		t.Fatalf("pinned links: %v", before)
	}

	cfg := rejecting()
	cfg.Reject = 0
	w.open(t, cfg)
	if !w.loader.Adopted("frontend_map") || !w.loader.Adopted("sock_map") || !w.loader.Running() {
		t.Error("the maps are not those of the killed agent")
	}
	open, want := map[string]socket{}, map[string]netip.AddrPort{}
	for _, v6 := range []bool{false, true} {
		answer(t, w.ns, backend(v6, 0))
	}
	for _, f := range forms() {
		for _, p := range protos() {
			to := w.newVIP(f.v6)
			w.serve(t, to, p.number, 0, backend(f.v6, 0))
			s := w.socket(t, f, p)
			s.ask(t, to)
			open[f.name+p.name], want[f.name+p.name] = s, to
		}
	}
	gone := refusals(t, w)
	for _, to := range gone {
		checkCalls(t, w, to, unix.ECONNREFUSED) // by the old programs
	}

	w.attach(t)
	after, newPrograms := w.links(t)
	for name, id := range before {
		if after[name] != id || newPrograms[name] == oldPrograms[name] {
			t.Errorf("%s: link %d with program %d became link %d with program %d", name, id, oldPrograms[name], after[name], newPrograms[name])
		}
	}
	for _, to := range gone {
		checkCalls(t, w, to, unix.ENETUNREACH)
	}
	for name, s := range open {
		if got := s.askAgain(t); got != backend(s.f.v6, 0) {
			t.Errorf("%s: %s answers", name, got)
		}
		if got := s.peer(t); got != want[name] {
			t.Errorf("%s: getpeername gives %s, want %s", name, got, want[name])
		}
	}
}

// The audit mends what somebody took away, and is quiet when all is as it should be.
func testAudit(t *testing.T, w *world) {
	desired := w.loader.SocketLinks()
	prune := func(want int) {
		t.Helper()
		if n, err := w.loader.Links().Prune(t.Context(), desired); n != want || err != nil {
			t.Fatalf("the audit mended %d links, want %d: %v", n, want, err)
		}
	}
	prune(0)
	key := loader.LinkKey{Device: loader.CgroupDevice, Program: loader.SockConnect4}
	if err := w.loader.Links().Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	prune(1)
	prune(0)
	checkCalls(t, w, refusals(t, w)[0], unix.ECONNREFUSED)
}

// With another cgroup than before, the links move.
func testAnotherCgroup(t *testing.T, w *world) {
	old := *w
	to := refusals(t, w)[0]
	checkCalls(t, w, to, unix.ECONNREFUSED)
	w.cgroup = testutil.NewCgroup(t)
	checkCalls(t, w, to, unix.ENETUNREACH)
	if err := w.loader.OpenCgroup(w.cgroup); err != nil {
		t.Fatal(err)
	}
	if n, err := w.loader.Links().Prune(t.Context(), w.loader.SocketLinks()); n != len(w.loader.SocketLinks()) || err != nil {
		t.Errorf("the audit mended %d links: %v", n, err)
	}
	checkCalls(t, w, to, unix.ECONNREFUSED)
	old.waitOff(t, to)
}

// waitOff waits until the address is not refused any more: the kernel ends a link
// some time after its last pin is gone.
func (w *world) waitOff(t *testing.T, to netip.AddrPort) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if err := w.socket(t, forms()[0], protos()[0]).connect(to); !errors.Is(err, unix.ECONNREFUSED) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	checkCalls(t, w, to, unix.ENETUNREACH)
}

// Off means removed: without rows nothing is attached, and a socket is on its own.
// So is it after all is removed.
func TestOff(t *testing.T) {
	w := newWorld(t, rejecting())
	to := refusals(t, w)[0]
	checkCalls(t, w, to, unix.ECONNREFUSED)
	if n, err := w.loader.Links().Prune(t.Context(), nil); n != 8 || err != nil {
		t.Errorf("the audit removed %d links: %v", n, err)
	}
	if links, _ := w.links(t); len(links) != 0 {
		t.Errorf("left: %v", links)
	}
	w.waitOff(t, to)

	if n, err := w.loader.Links().Prune(t.Context(), w.loader.SocketLinks()); n != 8 || err != nil {
		t.Errorf("the audit made %d links: %v", n, err)
	}
	checkCalls(t, w, to, unix.ECONNREFUSED)
	if err := loader.RemoveAll(w.bpffs); err != nil {
		t.Fatal(err)
	}
	w.waitOff(t, to)
}

func netnsCookie(t testing.TB, ns *testutil.Netns) uint64 {
	t.Helper()
	var cookie uint64
	ns.Do(t, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
			t.Fatal(err)
		}
	})
	return cookie
}

// putCookie fills the first half of an address.
func putCookie(a *abi.CAddr, cookie uint64) { binary.NativeEndian.PutUint64(a.B[:8], cookie) }
