package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/placid-net/placid/internal/reconcile"
)

// ErrNoDevice is returned when a program should run on a device that is not there.
var ErrNoDevice = errors.New("no such device")

// LinkKey names one attachment.
type LinkKey struct {
	Device  string // name of the network device
	Program string
}

// pin is the file name of the link's pin. Neither a device's name nor a file of
// the BPF file system's may hold what the other may: a dot here, a colon there.
func (k LinkKey) pin() string { return strings.ReplaceAll(k.Device, ".", "%") + ":" + k.Program }

// keyOfPin is the inverse of pin.
func keyOfPin(name string) LinkKey {
	device, program, _ := strings.Cut(name, ":")
	return LinkKey{Device: strings.ReplaceAll(device, "%", "."), Program: program}
}

// Links keeps programs attached to devices and to the node's cgroup: through
// pinned links, but to_pod as a filter of the device's clsact queue, which goes
// with the device and is attached without waiting for the kernel. It implements
// reconcile.Ops; the value of a row is the index of its device, or the cgroup's
// id, so that a device which was made anew under its old name is seen as another
// one.
type Links struct{ l *Loader }

// Links returns the operations on the loader's links.
func (l *Loader) Links() Links { return Links{l} }

func (o Links) path(k LinkKey) string { return filepath.Join(o.l.root, "links", k.pin()) }

// Update makes the current program run on the device: it updates the pinned
// link when there is one (atomic, about 2 µs) and attaches otherwise (about
// 20 ms, the kernel waits for readers of the old list).
func (o Links) Update(_ context.Context, key LinkKey, ifindex int) error {
	_, err := o.ensure(key, ifindex)
	return err
}

// Delete detaches and unpins. An absent link is success.
func (o Links) Delete(_ context.Context, key LinkKey) error {
	if key.Program == ToPod {
		return removeFilter(key.Device)
	}
	if err := os.Remove(o.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin link %s: %w", key.pin(), err)
	}
	return nil
}

// Prune updates every desired link and unpins the others, except those of pod
// devices that exist: such a pod is being added, and desired is older. A device
// that is nobody's is removed as a whole, and its link ends with it; the name
// that is left of the link then is no damage, and does not count as mended.
func (o Links) Prune(ctx context.Context, desired map[LinkKey]int) (int, error) {
	entries, err := os.ReadDir(filepath.Join(o.l.root, "links"))
	if err != nil {
		return 0, fmt.Errorf("list pinned links: %w", err)
	}
	var errs []error
	repaired := 0
	for _, e := range entries {
		key := keyOfPin(e.Name())
		if _, ok := desired[key]; ok || key.Program == FromPod && o.alive(key) {
			continue
		}
		if err := o.Delete(ctx, key); err != nil {
			errs = append(errs, err)
			continue
		}
		if key.Program != FromPod {
			repaired++
		}
	}
	for key, ifindex := range desired {
		changed, err := o.ensure(key, ifindex)
		if ofPod(key) && errors.Is(err, ErrNoDevice) {
			continue // the pod's sandbox ended: that must not stop the others
		}
		if err != nil {
			errs = append(errs, &reconcile.RowError[LinkKey]{Key: key, Err: err})
		} else if changed {
			repaired++
		}
	}
	return repaired, errors.Join(errs...)
}

func ofPod(key LinkKey) bool { return key.Program == FromPod || key.Program == ToPod }

// alive tells whether the device that the pinned link was made for exists.
func (o Links) alive(key LinkKey) bool {
	pinned, err := link.LoadPinnedLink(o.path(key), nil)
	if err != nil {
		return false
	}
	defer func() { _ = pinned.Close() }()
	info, err := pinned.Info()
	return err == nil && info.TCX() != nil && info.TCX().Ifindex != 0
}

// ensure tells whether it had to change anything.
func (o Links) ensure(key LinkKey, ifindex int) (changed bool, err error) {
	prog := o.l.programs[key.Program]
	if prog == nil {
		return false, fmt.Errorf("link %s: no program %q is loaded", key.pin(), key.Program)
	}
	if key.Program == ToPod {
		return ensureFilter(ifindex, key, prog)
	}
	pinned, err := link.LoadPinnedLink(o.path(key), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return true, o.attach(key, ifindex, prog)
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", key.pin(), err)
	}
	defer func() { _ = pinned.Close() }()
	info, err := pinned.Info()
	if err != nil {
		return false, fmt.Errorf("inspect link %s: %w", key.pin(), err)
	}
	if placeOf(info) != ifindex {
		// Its device is gone; the name belongs to another one now.
		if err = pinned.Unpin(); err != nil {
			return false, fmt.Errorf("unpin stale link %s: %w", key.pin(), err)
		}
		return true, o.attach(key, ifindex, prog)
	}
	current, err := programID(prog)
	if err != nil || current == info.Program {
		return false, err
	}
	if err := pinned.Update(prog); err != nil {
		return false, fmt.Errorf("replace program of link %s: %w", key.pin(), err)
	}
	return true, nil
}

// placeOf returns where the link's program runs, as the value of a row names it;
// 0 when the device or cgroup is gone.
func placeOf(info *link.Info) int {
	if tcx := info.TCX(); tcx != nil {
		return int(tcx.Ifindex)
	}
	if cg := info.Cgroup(); cg != nil {
		return int(cg.CgroupId)
	}
	return 0
}

func (o Links) attach(key LinkKey, ifindex int, prog *ebpf.Program) error {
	var l link.Link
	var err error
	hook, ofSocket := socketHooks()[key.Program]
	if ofSocket {
		l, err = o.l.linkCgroup(prog, hook, ifindex)
	} else {
		l, err = linkDevice(key, ifindex, prog)
	}
	if err != nil {
		if _, devErr := net.InterfaceByIndex(ifindex); devErr != nil && !ofSocket {
			return fmt.Errorf("attach %s to %s (index %d): %w", key.Program, key.Device, ifindex, ErrNoDevice)
		}
		return fmt.Errorf("attach %s to %s: %w", key.Program, key.Device, err)
	}
	defer func() { _ = l.Close() }()
	if err := pinInPlace(l, o.path(key)); err != nil {
		return fmt.Errorf("attach %s to %s: %w", key.Program, key.Device, err)
	}
	return nil
}

func linkDevice(key LinkKey, ifindex int, prog *ebpf.Program) (link.Link, error) {
	attach := ebpf.AttachTCXIngress
	if strings.HasPrefix(key.Program, "to_") {
		attach = ebpf.AttachTCXEgress
	}
	return link.AttachTCX(link.TCXOptions{
		Interface: ifindex, Program: prog, Attach: attach, Anchor: link.Head(),
	})
}

// Count returns the number of attachments of each program.
func (o Links) Count() (map[string]int, error) {
	entries, err := os.ReadDir(filepath.Join(o.l.root, "links"))
	if err != nil {
		return nil, fmt.Errorf("list pinned links: %w", err)
	}
	out := map[string]int{}
	for _, e := range entries {
		key := keyOfPin(e.Name())
		out[key.Program]++
		if key.Program == FromPod && hasFilter(key.Device) {
			out[ToPod]++
		}
	}
	return out, nil
}

func programID(p *ebpf.Program) (ebpf.ProgramID, error) {
	info, err := p.Info()
	if err != nil {
		return 0, fmt.Errorf("inspect program: %w", err)
	}
	id, ok := info.ID()
	if !ok {
		return 0, errors.New("inspect program: the kernel does not tell ids")
	}
	return id, nil
}
