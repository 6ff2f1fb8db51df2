package device

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/tools/need"
)

func TestOpenerSharesOneFile(t *testing.T) {
	path := plainFile(t, 1<<20)
	alias := filepath.Join(t.TempDir(), "alias")
	if err := os.Symlink(path, alias); err != nil {
		t.Fatal(err)
	}
	o := NewOpener(Options{})
	var mu sync.Mutex
	var all []*handle
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			d, err := o.Open([]string{path, alias}[i%2])
			if err != nil {
				t.Error(err)
				return
			}
			if got := d.Geometry().Path; got != []string{path, alias}[i%2] {
				t.Errorf("opened as %s", got)
			}
			mu.Lock()
			defer mu.Unlock()
			if h, ok := d.(*handle); ok {
				all = append(all, h)
			}
		})
	}
	wg.Wait()
	if got := o.Stats(); len(got) != 1 || len(all) != 200 {
		t.Fatalf("%d users share %d files", len(all), len(got))
	}
	if err := os.Truncate(path, 2<<20); err != nil {
		t.Fatal(err)
	}
	late, err := o.Open(path)
	if err != nil || late.Geometry().Size != 2<<20 {
		t.Errorf("after growing: %+v, %v", late.Geometry(), err)
	}
	late.Close()
	late.Close() // a second close must not count
	fd := all[0].file.direct.fd
	for i, h := range all {
		if h.file != all[0].file {
			t.Fatal("not shared")
		}
		write(t, h, int64(i)*512, byte(i+1), 512)
		h.Close()
		if _, err := h.Read(t.Context(), 0, 512); !errors.Is(err, ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if err := h.Write(t.Context(), 0, NewBuffer(512)); !errors.Is(err, ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); !errors.Is(err, unix.EBADF) {
		t.Errorf("the last close left the descriptor: %v", err)
	}
	if got := o.Stats(); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

func TestOpenerFollowsThePath(t *testing.T) {
	path := plainFile(t, 4096)
	o := NewOpener(Options{})
	a, err := o.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := o.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	write(t, a, 0, 1, 512)
	wantRead(t, b, 0, 0, 512)
	if got := o.Stats(); len(got) != 2 {
		t.Errorf("two files under one name are %d", len(got))
	}
}

func TestOpenerSharesOneDeviceUnderTwoNames(t *testing.T) {
	path := need.Loop(t, 512, 1<<20)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "node")
	if err := unix.Mknod(other, unix.S_IFBLK|0o600, int(st.Rdev)); err != nil {
		need.Unmet(t, "root", "mknod: %v", err)
	}
	o := NewOpener(Options{})
	for _, p := range []string{path, other} {
		d, err := o.Open(p)
		if errors.Is(err, unix.EACCES) {
			need.Unmet(t, "root", "device nodes do not work in %s", t.TempDir())
		}
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
	}
	if got := o.Stats(); len(got) != 1 {
		t.Errorf("one device is %d files", len(got))
	}
}

// A device that was closed with a write in the kernel and is opened again must still keep the order.
func TestReopenedFileRemembersLateWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		o := NewOpener(Options{})
		f := o.add(&File{Lanes: NewLanes(s, slowGeometry, Options{}), id: identity{ino: 1}})
		a := &handle{opener: o, file: f}
		if e := opError(t, a.Write(within(t, time.Second), 0, filled(1, 512))); e.Late == nil {
			t.Fatal(e)
		}
		a.Close()
		b := &handle{opener: o, file: o.join(identity{ino: 1})}
		if b.file != f {
			t.Fatal("forgotten while a write hangs")
		}
		if e := opError(t, b.Write(within(t, time.Second), 0, filled(2, 512))); e.Started {
			t.Errorf("got %v", e)
		}
		b.Close()
		if s.closed != 0 || len(o.Stats()) != 1 {
			t.Errorf("closed %d times, %d known", s.closed, len(o.Stats()))
		}
		release()
		synctest.Wait()
		if s.closed != 1 || len(o.Stats()) != 0 {
			t.Errorf("closed %d times, %d known", s.closed, len(o.Stats()))
		}
	})
}

// The last transfer may end at the moment when somebody opens the device again: the file stays open then.
func TestReopenedInTimeStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		o := NewOpener(Options{})
		f := o.add(&File{Lanes: NewLanes(s, slowGeometry, Options{}), id: identity{ino: 1}})
		a := &handle{opener: o, file: f}
		_ = a.Write(within(t, time.Second), 0, filled(1, 512))
		a.Close()
		b := &handle{opener: o, file: o.join(identity{ino: 1})}
		release()
		synctest.Wait()
		if s.closed != 0 {
			t.Fatal("closed under its new user")
		}
		write(t, b, 0, 2, 512)
		b.Close()
		if s.closed != 1 || len(o.Stats()) != 0 {
			t.Errorf("closed %d times, %d known", s.closed, len(o.Stats()))
		}
	})
}
