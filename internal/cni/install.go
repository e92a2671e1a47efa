package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// binaryMode is the mode of the installed plugin.
const binaryMode = 0o755

// InstallBinary copies the file src into the folder dstDir, which it makes when
// there is none, under src's name and with mode 0755. A copy with the same
// content and mode is left alone. The new file is renamed into place, so that
// it can replace a plugin that is being executed.
func InstallBinary(src, dstDir string) error {
	dst := filepath.Join(dstDir, filepath.Base(src))
	same, err := sameBinary(src, dst)
	if err != nil {
		return fmt.Errorf("compare %s with %s: %w", src, dst, err)
	}
	if same {
		return nil
	}
	if err = os.MkdirAll(dstDir, 0o755); err != nil {
		return fmt.Errorf("make the folder of CNI plugins: %w", err)
	}
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("install %s: %w", dst, err)
	}
	defer func() { _ = in.Close() }()
	out, err := renameio.NewPendingFile(dst, renameio.WithTempDir(dstDir), renameio.WithStaticPermissions(binaryMode))
	if err != nil {
		return fmt.Errorf("install %s: %w", dst, err)
	}
	defer func() { _ = out.Cleanup() }()
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("install %s: %w", dst, err)
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("install %s: %w", dst, err)
	}
	return nil
}

// sameBinary tells whether dst is a regular file with the content of src and
// the mode of an installed plugin.
func sameBinary(src, dst string) (bool, error) {
	info, err := os.Lstat(dst)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm() != binaryMode {
		return false, nil
	}
	want, err := os.ReadFile(src)
	if err != nil {
		return false, err
	}
	got, err := os.ReadFile(dst)
	if err != nil {
		return false, err
	}
	return bytes.Equal(want, got), nil
}
