package interop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/tools/need"
)

// frailDisk is a file on storage that can be made to fail or to hang: a FUSE file system that this process
// serves, with that one file. Its bytes lie in memory, where the test sees them whatever the daemons see.
type frailDisk struct {
	disk
	dev *os.File // /dev/fuse

	mu     sync.Mutex
	bytes  []byte
	state  storage
	opens  storage  // of opens and lookups
	held   [][]byte // requests that hang
	closed bool

	asked atomic.Int64 // transfers
}

type storage int

const (
	works storage = iota
	fails         // with EIO
	hangs
)

// Operations of the FUSE protocol, version 7.31.
const (
	fuseLookup, fuseForget, fuseGetattr, fuseSetattr     = 1, 2, 3, 4
	fuseOpen, fuseRead, fuseWrite, fuseStatfs            = 14, 15, 16, 17
	fuseRelease, fuseFsync, fuseFlush, fuseInit          = 18, 20, 25, 26
	fuseInterrupt, fuseBatchForget                       = 36, 42
	fuseInHead, fuseOutHead                              = 40, 16
	fuseAsyncRead, fuseBigWrites, fuseAsyncDIO, maxPages = 1 << 0, 1 << 5, 1 << 15, 1 << 22
	fuseMaxWrite                                         = 1 << 20
	fuseForever                                          = 1 << 30 // seconds that names and attributes are good for
	fuseFile                                             = 2       // the node; 1 is the root
)

// newFrailDisk mounts such storage and formats a lockspace and leases R1, R2 … of it there.
func newFrailDisk(t testing.TB, space string, leases int) *frailDisk {
	t.Helper()
	sanlock := theirs(t)
	need.Root(t)
	dir := t.TempDir()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		need.Unmet(t, "fuse", "%v", err)
	}
	d := &frailDisk{
		disk: disk{filepath.Join(dir, "disk"), layouts[512]}, bytes: make([]byte, int64(leases+1)<<20),
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("frail", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		need.Unmet(t, "fuse", "%v", err)
	}
	d.dev = os.NewFile(uintptr(fd), "/dev/fuse") // after the mount: what is not mounted cannot be waited for
	var serving sync.WaitGroup
	serving.Go(d.serve)
	t.Cleanup(func() {
		d.abort(t)
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		// Daemons in mount namespaces of their own, of other tests, may have the file system mounted for long.
		if err := d.dev.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	d.init(t, sanlock, "-s", space+":0:"+d.path+":0", "-o", fmt.Sprint(ioTimeout))
	for i := range leases {
		r := d.leaseOf(space, i+1)
		d.init(t, sanlock, "-r", fmt.Sprintf("%s:%s:%s:%d", space, r.name, r.path, r.offset))
	}
	return d
}

// leaseOf is the i-th lease, counted from 1.
func (d *frailDisk) leaseOf(space string, i int) lease {
	r := d.lease(i)
	r.space = space
	return r
}

// become changes how transfers end. What hung before is carried out, or fails, by the new state.
func (d *frailDisk) become(s storage) {
	d.mu.Lock()
	d.state, d.opens = s, works
	held := d.held
	d.held = nil
	d.mu.Unlock()
	for _, p := range held {
		d.answer(p)
	}
}

// hangOpens makes whoever opens the file wait.
func (d *frailDisk) hangOpens() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opens = hangs
}

// abort ends everything that hangs, so that processes can end. It must come before they are waited for.
func (d *frailDisk) abort(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if !closed {
		d.become(fails)
	}
}

// stamp is the last timestamp of a host that has reached the disk.
func (d *frailDisk) stamp(host uint64) uint64 {
	return binary.LittleEndian.Uint64(d.peek(int64(host-1)*d.sector, 512)[152:])
}

func (d *frailDisk) peek(off int64, n int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]byte(nil), d.bytes[off:off+int64(n)]...)
}

// serve answers the kernel until the device is closed.
func (d *frailDisk) serve() {
	p := make([]byte, fuseMaxWrite+1<<16)
	for {
		n, err := d.dev.Read(p)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT):
			continue
		case err != nil || n < fuseInHead:
			return // closed, or ENODEV: nobody has it mounted
		}
		d.answer(append([]byte(nil), p[:n]...))
	}
}

// answer answers a request, or keeps it while that hangs.
func (d *frailDisk) answer(p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	state := works
	switch binary.LittleEndian.Uint32(p[4:]) {
	case fuseRead, fuseWrite, fuseFsync:
		d.asked.Add(1)
		state = d.state
	case fuseOpen:
		state = d.opens
	}
	switch state {
	case hangs:
		d.held = append(d.held, p)
	case fails:
		d.reply(p, unix.EIO, nil)
	case works:
		d.carryOut(p)
	}
}

// carryOut does what works does. mu is held.
func (d *frailDisk) carryOut(p []byte) {
	le := binary.LittleEndian
	node, in := le.Uint64(p[16:]), p[fuseInHead:]
	switch le.Uint32(p[4:]) {
	case fuseForget, fuseBatchForget, fuseInterrupt: // have no answer
	case fuseInit:
		out := make([]byte, 64)
		le.PutUint32(out[0:], 7)
		le.PutUint32(out[4:], 31)
		le.PutUint32(out[8:], fuseMaxWrite)
		le.PutUint32(out[12:], fuseAsyncRead|fuseBigWrites|fuseAsyncDIO|maxPages)
		le.PutUint16(out[16:], 4096) // requests under way
		le.PutUint16(out[18:], 4096)
		le.PutUint32(out[20:], fuseMaxWrite)
		le.PutUint32(out[24:], 1)
		le.PutUint16(out[28:], fuseMaxWrite/4096)
		d.reply(p, 0, out)
	case fuseLookup:
		if string(in) != "disk\x00" {
			d.reply(p, unix.ENOENT, nil)
			return
		}
		out := make([]byte, 40)
		le.PutUint64(out[0:], fuseFile)
		le.PutUint64(out[16:], fuseForever)
		le.PutUint64(out[24:], fuseForever)
		d.reply(p, 0, append(out, d.attributes(fuseFile)...))
	case fuseGetattr, fuseSetattr:
		out := make([]byte, 16)
		le.PutUint64(out, fuseForever)
		d.reply(p, 0, append(out, d.attributes(node)...))
	case fuseOpen:
		d.reply(p, 0, make([]byte, 16))
	case fuseRead:
		off := min(le.Uint64(in[8:]), uint64(len(d.bytes)))
		end := min(off+uint64(le.Uint32(in[16:])), uint64(len(d.bytes)))
		d.reply(p, 0, d.bytes[off:end])
	case fuseWrite:
		off, n := le.Uint64(in[8:]), le.Uint32(in[16:])
		if off+uint64(n) > uint64(len(d.bytes)) {
			d.reply(p, unix.ENOSPC, nil)
			return
		}
		copy(d.bytes[off:], in[40:40+n])
		d.reply(p, 0, le.AppendUint64(nil, uint64(n)))
	case fuseStatfs:
		d.reply(p, 0, make([]byte, 80))
	case fuseRelease, fuseFlush, fuseFsync:
		d.reply(p, 0, nil)
	default:
		d.reply(p, unix.ENOSYS, nil)
	}
}

// attributes is a fuse_attr. mu is held.
func (d *frailDisk) attributes(node uint64) []byte {
	out := make([]byte, 88)
	mode := uint32(unix.S_IFDIR | 0o755)
	if node == fuseFile {
		mode = unix.S_IFREG | 0o700 // a program, for who dares to start it
		binary.LittleEndian.PutUint64(out[8:], uint64(len(d.bytes)))
	}
	binary.LittleEndian.PutUint64(out[0:], node)
	binary.LittleEndian.PutUint32(out[60:], mode)
	binary.LittleEndian.PutUint32(out[64:], 1)
	binary.LittleEndian.PutUint32(out[80:], 4096)
	return out
}

func (d *frailDisk) reply(p []byte, errno unix.Errno, body []byte) {
	out := make([]byte, fuseOutHead, fuseOutHead+len(body))
	binary.LittleEndian.PutUint32(out[0:], uint32(fuseOutHead+len(body)))
	binary.LittleEndian.PutUint32(out[4:], uint32(-int32(errno)))
	copy(out[8:16], p[8:16])
	if _, err := d.dev.Write(append(out, body...)); err != nil && !errors.Is(err, unix.ENOENT) &&
		!errors.Is(err, unix.ENODEV) && !errors.Is(err, os.ErrClosed) {
		fmt.Fprintln(os.Stderr, "frail disk: answer:", err) // the daemon will see a hang, and the test fail
	}
}
