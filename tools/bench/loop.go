package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// loop is a loop device over a sparse file.
type loop struct{ path string }

func (b *bench) newLoop(name string, size int64) (*loop, error) {
	image := filepath.Join(b.dir, name)
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(image, size); err != nil {
		return nil, err
	}
	out, err := exec.Command("losetup", "--find", "--show", "--direct-io=on", image).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("losetup: %w: %s", err, out)
	}
	return &loop{strings.TrimSpace(string(out))}, nil
}

func (l *loop) close(err *error) {
	if out, e := exec.Command("losetup", "--detach", l.path).CombinedOutput(); e != nil {
		*err = errors.Join(*err, fmt.Errorf("losetup --detach %s: %w: %s", l.path, e, out))
	}
}

// traffic is what a block device has done: requests as the device saw them, after splitting and merging, and
// sectors of 512 bytes.
type traffic struct{ reads, sectorsRead, writes, sectorsWritten float64 }

// stat reads the counters (Documentation/block/stat.rst).
func (l *loop) stat() (traffic, error) {
	p, err := os.ReadFile("/sys/block/" + filepath.Base(l.path) + "/stat")
	if err != nil {
		return traffic{}, err
	}
	f := strings.Fields(string(p))
	var n [7]float64
	for i := range n {
		if n[i], err = strconv.ParseFloat(f[i], 64); err != nil {
			return traffic{}, err
		}
	}
	return traffic{n[0], n[2], n[4], n[6]}, nil
}

func (t traffic) since(o traffic, ops int) traffic {
	d := float64(ops)
	return traffic{
		(t.reads - o.reads) / d, (t.sectorsRead - o.sectorsRead) / d,
		(t.writes - o.writes) / d, (t.sectorsWritten - o.sectorsWritten) / d,
	}
}

// init formats with Debian's program, so that both find the same thing.
func (b *bench) init(args ...string) error {
	out, err := exec.Command(b.stock, append([]string{"direct", "init"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("sanlock direct init %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
