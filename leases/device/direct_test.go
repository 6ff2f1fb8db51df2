package device

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/tools/need"
)

func plainFile(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lease.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string, o Options) *File {
	t.Helper()
	f, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t *testing.T, d Device, off int64, v byte, n int) {
	t.Helper()
	if err := d.Write(t.Context(), off, filled(v, n)); err != nil {
		t.Fatal(err)
	}
}

func wantRead(t *testing.T, d Device, off int64, v byte, n int) {
	t.Helper()
	b, err := d.Read(t.Context(), off, n)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	if want := bytes.Repeat([]byte{v}, n); !bytes.Equal(b.Bytes(), want) {
		t.Errorf("read at %d+%d: got %x…, want %x", off, n, b.Bytes()[:4], v)
	}
}

func TestPlainFile(t *testing.T) {
	path := plainFile(t, 1<<20)
	f := open(t, path, Options{})
	if got, want := f.Geometry(), (Geometry{Path: path, SectorSize: 512, Size: 1 << 20}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for i, n := range []int{512, 9 << 10, 1 << 19} {
		write(t, f, int64(n), byte(i+1), n)
		wantRead(t, f, int64(n), byte(i+1), n)
	}
	fd := uintptr(f.direct.fd)
	flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("a program that we start inherits the device: %x, %v", flags, err)
	}
	flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil || flags&unix.O_DIRECT == 0 || flags&unix.O_SYNC != unix.O_SYNC {
		t.Errorf("flags %x, %v", flags, err)
	}
}

func TestPlainFileEnds(t *testing.T) {
	path := plainFile(t, 2048+100)
	f := open(t, path, Options{})
	for _, off := range []int64{1536, 2048, 1 << 20} {
		_, err := f.Read(t.Context(), off, 1024)
		if e := opError(t, err); !errors.Is(err, ErrShort) || !e.Started {
			t.Errorf("read at %d: got %v", off, err)
		}
	}
	write(t, f, 4096, 5, 512)
	if st, err := os.Stat(path); err != nil || st.Size() != 4096+512 {
		t.Errorf("a write beyond the end left %v, %v", st.Size(), err)
	}
	wantRead(t, f, 4096, 5, 512)
}

func TestReadOnly(t *testing.T) {
	path := plainFile(t, 4096)
	f := open(t, path, Options{ReadOnly: true})
	wantRead(t, f, 0, 0, 512)
	err := f.Write(t.Context(), 0, NewBuffer(512))
	if !errors.Is(err, ErrReadOnly) || opError(t, err).Started {
		t.Errorf("got %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		want       error
		says       string
	}{
		{"missing", filepath.Join(dir, "nothing"), fs.ErrNotExist, "nothing: no such file or directory"},
		{"below a file", "/proc/self/comm/x", syscall.ENOTDIR, "not a directory"},
		{"directory", dir, ErrNotStorage, "neither a block device nor a regular file"},
		{"fifo", fifo, ErrNotStorage, ""},
		{"character device", "/dev/null", ErrNotStorage, ""},
		{"busy", "/proc/self/exe", syscall.ETXTBSY, ""},
		{"no direct I/O", "/proc/self/comm", ErrNoDirectIO, "use a block device"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "busy" && os.Geteuid() != 0 {
				c.want = fs.ErrPermission // a go test binary may belong to somebody else
				if unix.Access(c.path, unix.W_OK) == nil {
					c.want = syscall.ETXTBSY
				}
			}
			for name, err := range map[string]error{
				"Open":   second(Open(c.path, Options{})),
				"Opener": second(NewOpener(Options{}).Open(c.path)),
			} {
				e := opError(t, err)
				if !errors.Is(err, c.want) || e.Op != "open" || e.Device != c.path || e.Started ||
					!strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: got %v, want %v", name, err, c.want)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestOpenWithoutPermission(t *testing.T) {
	path := plainFile(t, 4096)
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error)
	go func() {
		if os.Geteuid() == 0 {
			// Only this thread becomes somebody else, and it ends with the goroutine.
			runtime.LockOSThread()
			if err := unix.Setfsuid(65534); err != nil {
				t.Error(err)
			}
		}
		_, err := Open(path, Options{})
		opened <- err
	}()
	err := <-opened
	if !errors.Is(err, fs.ErrPermission) || opError(t, err).Op != "open" {
		t.Errorf("got %v", err)
	}
}

func TestCloseGivesTheDescriptorBack(t *testing.T) {
	f, err := Open(plainFile(t, 4096), Options{})
	if err != nil {
		t.Fatal(err)
	}
	fd := f.direct.fd
	f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); !errors.Is(err, unix.EBADF) {
		t.Errorf("descriptor is still open: %v", err)
	}
}

func TestLoopDevice(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		path := need.Loop(t, ss, 4<<20)
		f := open(t, path, Options{})
		want := Geometry{Path: path, SectorSize: ss, Size: 4 << 20, IsBlock: true}
		if got := f.Geometry(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		for i, n := range []int{ss, 3 * ss, 1 << 20} {
			write(t, f, int64(n), byte(i+1), n)
			wantRead(t, f, int64(n), byte(i+1), n)
		}
		for _, off := range []int64{4<<20 - int64(ss), 4 << 20, 8 << 20} {
			if _, err := f.Read(t.Context(), off, 2*ss); !errors.Is(err, ErrShort) {
				t.Errorf("sector size %d: read at %d: %v", ss, off, err)
			}
			if err := f.Write(t.Context(), off, NewBuffer(2*ss)); !errors.Is(err, ErrShort) {
				t.Errorf("sector size %d: write at %d: %v", ss, off, err)
			}
		}
		write(t, f, 4<<20-int64(ss), 9, ss)
		_, err := f.Read(t.Context(), int64(ss)/2, ss)
		_, err2 := f.Read(t.Context(), 0, ss/2)
		if !errors.Is(err, ErrMisaligned) || !errors.Is(err2, ErrMisaligned) || opError(t, err).Started {
			t.Errorf("sector size %d: got %v and %v", ss, err, err2)
		}
		off := 8<<20 + int64(ss)/2
		_, err = f.Read(t.Context(), off, ss)
		if n, kernel := unix.Pread(f.direct.fd, make([]byte, ss), off); !errors.Is(err, ErrShort) || n != 0 || kernel != nil {
			t.Errorf("sector size %d: read at %d: %v; the kernel says %d, %v", ss, off, err, n, kernel)
		}
	}
}

// A file's sectors are 512 bytes to us even where the file system's are 4096; the kernel then refuses, and
// the error must say what to do.
func TestFileOnLargeSectors(t *testing.T) {
	dir, _ := mounted(t, 4096)
	path := filepath.Join(dir, "lease.img")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, path, Options{})
	write(t, f, 4096, 1, 4096)
	wantRead(t, f, 4096, 1, 4096)
	err := f.Write(t.Context(), 512, NewBuffer(512))
	if !errors.Is(err, unix.EINVAL) || !errors.Is(err, ErrMisaligned) ||
		!strings.Contains(err.Error(), "multiples of 4096 bytes") {
		t.Errorf("got %v", err)
	}
}
