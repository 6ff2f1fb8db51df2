package lvmlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ActiveUUIDs returns the UUIDs of all device-mapper devices, as sysfs (mounted at the given directory) has
// them. It is what Config.Active is made of. LVM's begin with "LVM-", those of the VG and the LV follow,
// without dashes.
func ActiveUUIDs(sysfs string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(sysfs, "block", "dm-*", "dm", "uuid"))
	if err != nil {
		return nil, fmt.Errorf("lvmlock: find device-mapper devices in %s: %w", sysfs, err)
	}
	var all []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it went away meanwhile
		case err != nil:
			return nil, fmt.Errorf("lvmlock: read the UUID of a device: %w", err)
		default:
			all = append(all, strings.TrimSpace(string(text)))
		}
	}
	return all, nil
}
