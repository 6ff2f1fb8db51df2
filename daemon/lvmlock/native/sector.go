package native

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sysBlock has a directory for each block device, by its number.
const sysBlock = "/sys/dev/block"

// layoutFor chooses the layout of a new lock LV by the sector sizes of its device: 512 only if all of them
// are, and 512 in a file (spec lvmlockd 4.2).
func layoutFor(path string, alignMB int64) (layout, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return layout{}, fmt.Errorf("size of the sectors of %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		return choose(512, alignMB)
	}
	sector := int64(0)
	for _, name := range []string{"physical_block_size", "logical_block_size"} {
		size, err := queueNumber(st.Rdev, name)
		if err != nil {
			return layout{}, fmt.Errorf("size of the sectors of %s: %w", path, err)
		}
		if size == 512 && sector == 0 || size == 4096 {
			sector = size
		}
	}
	if sector == 0 {
		return layout{}, fmt.Errorf("%s has sectors of neither 512 nor 4096 bytes", path)
	}
	return choose(sector, alignMB)
}

// queueNumber reads one of the numbers that the kernel tells of a block device's queue. A partition has that
// of its disk.
func queueNumber(device uint64, name string) (int64, error) {
	dir := filepath.Join(sysBlock, fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device)))
	text, err := os.ReadFile(filepath.Join(dir, "queue", name))
	if os.IsNotExist(err) {
		if dir, err = filepath.EvalSymlinks(dir); err == nil {
			text, err = os.ReadFile(filepath.Join(filepath.Dir(dir), "queue", name))
		}
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
