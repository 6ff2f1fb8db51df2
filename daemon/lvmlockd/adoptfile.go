package lvmlockd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// maxAdopt is how long an adopt file may be, bytes. A line tells of an LV and has some 150.
const maxAdopt = 64 << 20

// readAdopt returns what an earlier daemon left, nil if nothing.
func readAdopt(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err == nil && info.Size() > maxAdopt:
		err = fmt.Errorf("%d bytes are too many", info.Size())
	}
	if err != nil {
		return nil, fmt.Errorf("adopt file %s: %w", path, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("adopt file %s: %w", path, err)
	}
	return text, nil
}

// writeAdopt replaces the file as a whole, so that a crash leaves the old one or the new. It is on a file system in
// memory, as a rule, and of no use after a reboot: nothing is flushed.
func writeAdopt(path string, text []byte) error {
	next := path + ".new"
	err := os.WriteFile(next, text, 0o600)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return fmt.Errorf("adopt file %s: %w", path, err)
	}
	return nil
}
