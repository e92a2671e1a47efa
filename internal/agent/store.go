package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/state"
)

// store keeps what must outlive the agent, but not a reboot, as files: one an
// endpoint, and one an address that was given back lately.
type store struct {
	endpoints string // folder of ID.json
	released  string // folder of files named by the address, with the time inside
}

func openStore(dir string) (store, error) {
	s := store{endpoints: filepath.Join(dir, "endpoints"), released: filepath.Join(dir, "released")}
	for _, d := range []string{s.endpoints, s.released} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return store{}, fmt.Errorf("key state-dir: %w", err)
		}
	}
	return s, nil
}

func (s store) endpointPath(id uint32) string {
	return filepath.Join(s.endpoints, strconv.Itoa(int(id))+".json")
}

// putEndpoint writes the endpoint's file in one step.
func (s store) putEndpoint(ep state.Endpoint) error {
	data, err := json.MarshalIndent(ep, "", "  ")
	if err != nil {
		return fmt.Errorf("encode endpoint %d: %w", ep.ID, err)
	}
	return replaceFile(s.endpointPath(ep.ID), data)
}

// deleteEndpoint removes the file; success when there is none.
func (s store) deleteEndpoint(id uint32) error { return removeFile(s.endpointPath(id)) }

// loadEndpoints reads every endpoint. A file that makes no sense is set aside
// under another name and reported; it does not stop the others.
func (s store) loadEndpoints() (eps []state.Endpoint, junk []error, err error) {
	entries, err := os.ReadDir(s.endpoints)
	if err != nil {
		return nil, nil, fmt.Errorf("read endpoints: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		path := filepath.Join(s.endpoints, e.Name())
		ep, err := readEndpoint(path)
		if err != nil {
			junk = append(junk, errors.Join(err, os.Rename(path, path+".bad")))
			continue
		}
		eps = append(eps, ep)
	}
	return eps, junk, nil
}

func readEndpoint(path string) (state.Endpoint, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return state.Endpoint{}, fmt.Errorf("read endpoint: %w", err)
	}
	var ep state.Endpoint
	if err := json.Unmarshal(data, &ep); err != nil {
		return state.Endpoint{}, fmt.Errorf("read endpoint %s: %w", path, err)
	}
	if ep.ID == 0 || ep.HostIfName == "" || ep.Attachment.ContainerID == "" || len(ep.Addrs()) == 0 {
		return state.Endpoint{}, fmt.Errorf("read endpoint %s: id, host device, container or addresses are missing", path)
	}
	return ep, nil
}

// putReleased remembers when an address was given back.
func (s store) putReleased(addr netip.Addr, at time.Time) error {
	return replaceFile(filepath.Join(s.released, addr.String()), []byte(at.UTC().Format(time.RFC3339Nano)))
}

func (s store) deleteReleased(addr netip.Addr) error {
	return removeFile(filepath.Join(s.released, addr.String()))
}

// loadReleased returns the addresses and when each was given back. Files that
// make no sense are removed: they only say that somebody waits.
func (s store) loadReleased() (map[netip.Addr]time.Time, error) {
	entries, err := os.ReadDir(s.released)
	if err != nil {
		return nil, fmt.Errorf("read released addresses: %w", err)
	}
	out := map[netip.Addr]time.Time{}
	for _, e := range entries {
		path := filepath.Join(s.released, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read released address: %w", err)
		}
		addr, addrErr := netip.ParseAddr(e.Name())
		at, timeErr := time.Parse(time.RFC3339Nano, string(data))
		if addrErr != nil || timeErr != nil {
			if err := removeFile(path); err != nil {
				return nil, err
			}
			continue
		}
		out[addr] = at
	}
	return out, nil
}

// replaceFile writes beside path and renames. The folder is on a tmpfs, which a
// crash of the machine empties anyway, so nothing is synced.
func replaceFile(path string, data []byte) error {
	next := path + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// removeState removes the folder and all that is in it. A folder that is a mount
// point, as in the agent's own pod, cannot go; it is left empty.
func removeState(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("key state-dir: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.EBUSY) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
