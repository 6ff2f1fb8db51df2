package device

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/tools/need"
)

// Numbers of linux/fs.h that x/sys lacks.
const (
	ioctlFreeze = 0xc0045877 // FIFREEZE
	ioctlThaw   = 0xc0045878 // FITHAW
)

// mounted returns a directory with an ext4 on a loop device of its own, and a function that freezes it: writes
// to it hang in the kernel until it is thawed.
func mounted(t *testing.T, sectorSize int) (dir string, freeze func() (thaw func())) {
	t.Helper()
	dev := need.Loop(t, sectorSize, 64<<20)
	mkfs := need.Program(t, "mkfs.ext4")
	if out, err := exec.Command(mkfs, "-q", "-b", "4096", dev).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", mkfs, err, out)
	}
	dir = t.TempDir()
	if err := unix.Mount(dev, dir, "ext4", 0, ""); err != nil {
		need.Unmet(t, "root", "mount of an ext4: %v", err)
	}
	thaw := func() error {
		// Opened anew: a device that closes too much must not leave a frozen file system behind.
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer d.Close()
		return unix.IoctlSetInt(int(d.Fd()), ioctlThaw, 0)
	}
	t.Cleanup(func() {
		if err := thaw(); err == nil {
			t.Error("left frozen")
		}
		// Busy while a late write of a test that failed has yet to end.
		waitFor(t, "the file system to be unmounted", func() bool { return unix.Unmount(dir, 0) == nil })
	})
	return dir, func() func() {
		t.Helper()
		d, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := unix.IoctlSetInt(int(d.Fd()), ioctlFreeze, 0); err != nil {
			t.Fatalf("freeze: %v", err)
		}
		once := sync.OnceFunc(func() {
			if err := thaw(); err != nil {
				t.Errorf("thaw: %v", err)
			}
		})
		t.Cleanup(once)
		return once
	}
}

const hung = 200 * time.Millisecond // deadline of transfers that hang in the kernel

// onDisk reads a file behind the back of the device.
func onDisk(t *testing.T, path string, off int64) byte {
	t.Helper()
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return all[off]
}

// The kernel really hangs here. All promises at once: the deadline, the memory, the order, the stuck count,
// settling, closing.
func TestWritesThatHangInTheKernel(t *testing.T) {
	dir, freeze := mounted(t, 512)
	path := filepath.Join(dir, "lease.img")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, path, Options{Lanes: 2, MaxStuck: 3})
	write(t, f, 0, 1, 4096)
	thaw := freeze()

	first := filled(2, 4096)
	mine := address(first)
	start := time.Now()
	err := f.Write(within(t, hung), 0, first)
	e := opError(t, err)
	if took := time.Since(start); took < hung || took > 10*hung {
		t.Errorf("returned after %v", took)
	}
	if !e.Timeout() || !e.Started || e.Late == nil {
		t.Fatalf("got %v", err)
	}
	if e2 := opError(t, f.Write(within(t, hung), 512, filled(3, 512))); e2.Started || !e2.Timeout() {
		t.Errorf("second write to a sector: %v", e2)
	}
	wantRead(t, f, 0, 1, 4096)
	for range 100 {
		b := filled(0xee, 4096)
		if address(b) == mine {
			t.Error("the memory of a hanging write was handed out")
		}
		defer b.Release()
	}
	if err := f.Settle(within(t, hung), 0, 512); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("settle: %v", err)
	}
	for i := range 2 {
		if e := opError(t, f.Write(within(t, hung), int64(i+1)*8192, filled(4, 512))); !e.Started {
			t.Errorf("write %d to another sector: %v", i, e)
		}
	}
	if err := f.Write(within(t, hung), 1<<19, NewBuffer(512)); !errors.Is(err, ErrStuck) {
		t.Errorf("got %v, want ErrStuck", err)
	}
	if got := f.Stats(); got.Stuck != 3 || got.InFlight != 0 || got.StuckEver != 3 {
		t.Errorf("got %+v", got)
	}
	if got := onDisk(t, path, 0); got != 1 {
		t.Errorf("the file holds %d: it was not frozen", got)
	}
	f.Close()
	thaw()
	if _, err := e.Late.Wait(within(t, time.Minute)); err != nil {
		t.Errorf("late: %v", err)
	}
	if err := f.Settle(within(t, time.Minute), 0, 1<<20); err != nil {
		t.Errorf("settle after the thaw: %v", err)
	}
	for off, want := range map[int64]byte{0: 2, 512: 2, 8192: 4, 16384: 4} {
		if got := onDisk(t, path, off); got != want {
			t.Errorf("at %d: the file holds %d, want %d", off, got, want)
		}
	}
	waitFor(t, "the descriptor to be closed", func() bool {
		var st unix.Stat_t
		return errors.Is(unix.Fstat(f.direct.fd, &st), unix.EBADF)
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// A loop device hangs as a whole, reads behind writes: the answer of a late read must be reapable, and an
// Opener must make the next user wait for the former user's write.
func TestBlockDeviceThatHangs(t *testing.T) {
	dir, freeze := mounted(t, 512)
	image := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	losetup := need.Program(t, "losetup")
	out, err := exec.Command(losetup, "--find", "--show", "--direct-io=on", image).CombinedOutput()
	if err != nil {
		need.Unmet(t, "loop", "losetup: %v: %s", err, out)
	}
	path := string(bytes.TrimSpace(out))
	t.Cleanup(func() {
		if out, err := exec.Command(losetup, "--detach", path).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", path, err, out)
		}
		waitFor(t, "the loop device to let go of its file", func() bool {
			out, err := exec.Command(losetup, "--associated", image).Output()
			return err == nil && len(out) == 0
		})
	})
	o := NewOpener(Options{})
	a, err := o.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, a, 0, 1, 512)
	thaw := freeze()
	lateWrite := opError(t, a.Write(within(t, hung), 0, filled(2, 512)))
	_, err = a.Read(within(t, hung), 512, 512)
	lateRead := opError(t, err)
	if lateWrite.Late == nil || lateRead.Late == nil {
		t.Fatalf("got %v and %v", lateWrite, lateRead)
	}
	a.Close()
	b, err := o.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if e := opError(t, b.Write(within(t, hung), 0, filled(3, 512))); e.Started || !e.Timeout() {
		t.Errorf("the next user's write: %v", e)
	}
	if got := o.Stats(); len(got) != 1 || got[0].Stuck != 2 || got[0].Path != path {
		t.Errorf("got %+v", got)
	}
	thaw()
	if buf, err := lateRead.Late.Wait(within(t, time.Minute)); err != nil || buf.Bytes()[0] != 0 {
		t.Errorf("late read: %v, %v", buf, err)
	} else {
		buf.Release()
	}
	if err := b.Settle(within(t, time.Minute), 0, 512); err != nil {
		t.Error(err)
	}
	wantRead(t, b, 0, 2, 512)
	b.Close()
	if got := o.Stats(); len(got) != 0 {
		t.Errorf("after the last close: %+v", got)
	}
}
