package sanlockd

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/config"
)

// queuesDir has a directory for every block device, by its numbers.
const queuesDir = "/sys/dev/block"

// widestKB is what stock falls back to when the device cannot do more: one transfer for an area of 1 MiB.
const widestKB = 1024

// setMaxSectors lets the device of a lockspace do an area in one transfer, as far as its hardware can, and
// returns the KB per transfer that it has then, or 0 when they are left alone. Nothing depends on it but
// speed (spec ondisk 6.5), so that what goes wrong is no error.
func setMaxSectors(dir, path string, want config.MaxSectors, align int) int {
	kb := want.KB
	if want.Align {
		kb = align >> 10
	}
	info, err := os.Stat(path)
	if want.Ignore || err != nil || info.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		return 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	numbers := fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	return setQueue(filepath.Join(dir, numbers, "queue"), kb)
}

func setQueue(queue string, kb int) int {
	limit, err := readKB(filepath.Join(queue, "max_hw_sectors_kb"))
	if err != nil {
		return 0
	}
	if kb > limit {
		kb = widestKB
	}
	if kb > limit {
		return 0
	}
	file := filepath.Join(queue, "max_sectors_kb")
	if now, err := readKB(file); err == nil && now == kb {
		return kb
	}
	if err := os.WriteFile(file, strconv.AppendInt(nil, int64(kb), 10), 0); err != nil {
		return 0
	}
	return kb
}

func readKB(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
