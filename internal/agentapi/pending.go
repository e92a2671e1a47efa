package agentapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/placid-net/placid/internal/state"
)

const (
	pendingSuffix = ".json"
	junkSuffix    = ".junk"
	// pendingNameMax bounds each readable part of a file name.
	pendingNameMax = 100
	// abandonedAfter is how old a temporary file is before its writer counts
	// as dead.
	abandonedAfter = time.Minute
)

// PendingDir is the folder in which the CNI plugin leaves the DEL requests that
// the agent was not there to answer, one file an attachment. It need not exist.
//
// What makes it safe is the order of things. The plugin writes the file first
// and then asks the agent once more; the agent first answers DELs, then drains
// the folder (List, carry out, Remove), and answers ADDs with CodeNotReady
// until that is done. So a DEL is either in the folder when the agent drains it
// or is answered by the second question, and an ADD that reuses the attachment
// of a queued DEL can never be undone by it: it waits for the drain, and the
// plugin carries the DEL out itself before it asks for the ADD.
type PendingDir string

// Put queues req, replacing a request of the same attachment. The file is on
// disk when it returns nil.
func (d PendingDir) Put(req CNIRequest) error {
	b, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode the pending DEL of %s: %w", req.Attachment, err)
	}
	if err = os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("make the folder of pending DELs: %w", err)
	}
	err = renameio.WriteFile(d.path(req.Attachment), b, 0o600, renameio.WithTempDir(string(d)))
	if err != nil {
		return fmt.Errorf("queue the DEL of %s: %w", req.Attachment, err)
	}
	dir, err := os.Open(string(d))
	if err != nil {
		return fmt.Errorf("queue the DEL of %s: %w", req.Attachment, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("queue the DEL of %s: %w", req.Attachment, err)
	}
	return nil
}

// Has tells whether a DEL of the attachment is queued.
func (d PendingDir) Has(a state.AttachmentID) (bool, error) {
	_, err := os.Lstat(d.path(a))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a pending DEL of %s: %w", a, err)
	}
	return true, nil
}

// Remove takes the request of the attachment out of the queue; removing what is
// absent is success.
func (d PendingDir) Remove(a state.AttachmentID) error {
	if err := os.Remove(d.path(a)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the pending DEL of %s: %w", a, err)
	}
	return nil
}

// List returns the queued requests in the order of their file names. What is no
// request is renamed to NAME.junk, so that it is reported once, and described
// in junk; the requests beside it are returned all the same. Temporary files of
// writers that died are removed.
func (d PendingDir) List() (reqs []CNIRequest, junk []error, err error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list the pending DELs: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(string(d), e.Name())
		switch {
		case strings.HasSuffix(e.Name(), junkSuffix):
		case strings.HasPrefix(e.Name(), "."):
			if err := removeAbandoned(path, e); err != nil {
				junk = append(junk, err)
			}
		default:
			req, err := d.read(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // taken out meanwhile
			}
			if err != nil {
				junk = append(junk, fmt.Errorf("set aside %s, which is no pending DEL: %w", path, err))
				if err := os.Rename(path, path+junkSuffix); err != nil {
					junk = append(junk, fmt.Errorf("set aside junk: %w", err))
				}
				continue
			}
			reqs = append(reqs, req)
		}
	}
	return reqs, junk, nil
}

// read decodes one file and checks that it is the one that Remove would remove.
func (d PendingDir) read(path string) (CNIRequest, error) {
	var req CNIRequest
	info, err := os.Lstat(path)
	if err != nil {
		return req, err
	}
	if !info.Mode().IsRegular() {
		return req, fmt.Errorf("it is no regular file (%v)", info.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return req, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, MaxRequestBody+1))
	if err != nil {
		return req, err
	}
	if len(b) > MaxRequestBody {
		return req, fmt.Errorf("it is over %d bytes", MaxRequestBody)
	}
	if err := json.Unmarshal(b, &req); err != nil {
		return req, err
	}
	if err := req.validate(); err != nil {
		return req, err
	}
	if want := d.path(req.Attachment); want != path {
		return req, fmt.Errorf("its content is the DEL of %s and belongs into %s", req.Attachment, filepath.Base(want))
	}
	return req, nil
}

func removeAbandoned(path string, e fs.DirEntry) error {
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at a temporary file: %w", err)
	}
	if time.Since(info.ModTime()) < abandonedAfter {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an abandoned temporary file: %w", err)
	}
	return nil
}

// path is containerID-ifName-HASH.json with the readable parts made safe and
// short, and the hash to tell apart what that made equal.
func (d PendingDir) path(a state.AttachmentID) string {
	sum := sha256.Sum256([]byte(a.ContainerID + "/" + a.IfName))
	name := safePart(a.ContainerID) + "-" + safePart(a.IfName) + "-" + hex.EncodeToString(sum[:8]) + pendingSuffix
	return filepath.Join(string(d), name)
}

func safePart(s string) string {
	if len(s) > pendingNameMax {
		s = s[:pendingNameMax]
	}
	safe := func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		default:
			return '_'
		}
	}
	return strings.Map(safe, s)
}
