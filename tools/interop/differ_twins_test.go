package interop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two daemons, Debian's and ours, are told the same things. Each has a directory of its own for its current
// one with disks of its own under the same relative names, so that every request is the same bytes for both.

const (
	differIO       = 1 // io_timeout, seconds
	differID       = 1 // host id of both: they are the same host in two worlds
	differPatience = 40 * time.Second
	settleWait     = 12 * time.Second // a background release, a renewal and its neighbour's
	envProcess     = "TENURE_DIFFER_PROCESS"
)

// plate is one disk of each twin.
type plate struct {
	name   string
	sector int64
	align  int64
	areas  int64
	file   bool // a regular file instead of a block device
}

var plates = []plate{
	{"a", 512, 1 << 20, 8, false},
	{"b", 4096, 8 << 20, 4, false},
	{"c", 4096, 1 << 20, 6, false},
	{"f", 512, 1 << 20, 3, true},
	{indexName, 512, 1 << 20, 2 + indexEntries, true},
}

// side is one daemon with its disks.
type side struct {
	*node
	dir    string
	images [][]byte // the bytes of each plate, as they are at any moment
}

// newSide makes the disks and starts the daemon beside them.
func newSide(t *testing.T, k kind) *side {
	t.Helper()
	return newSideIn(t, memoryDir(t), k)
}

func newSideIn(t *testing.T, dir string, k kind) *side {
	t.Helper()
	w := &side{dir: dir}
	for _, p := range plates {
		backing := filepath.Join(w.dir, p.name)
		if p.file {
			if err := os.WriteFile(backing, make([]byte, p.align*p.areas), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			dev := newLoop(t, int(p.sector), p.align*p.areas)
			if err := os.Symlink(dev, backing); err != nil {
				t.Fatal(err)
			}
			of, err := os.ReadFile("/sys/block/" + filepath.Base(dev) + "/loop/backing_file")
			if err != nil {
				t.Fatal(err)
			}
			backing = strings.TrimSpace(string(of))
		}
		w.images = append(w.images, mapped(t, backing))
	}
	w.node = startIn(t, w.dir, k, differID)
	return w
}

// mapped shows a file's bytes for as long as the test runs.
func mapped(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(p); err != nil {
			t.Error(err)
		}
	})
	return p
}

// process is a process of its own that has connected to a daemon and handed the connection to the test: the
// daemon takes it for the client. When it ends its connection is closed, as if it had kept it for itself.
type process struct {
	pid  int
	conn *conn
	cmd  *exec.Cmd
	hold io.Closer // closed: the process ends

	mu   sync.Mutex
	fate string // "" while it runs
	done chan struct{}
}

// connectAndWait is what the test's binary does when it is run as such a process.
func connectAndWait(runDir string) int {
	c, err := dial(runDir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	f, err := c.c.(*net.UnixConn).File()
	if err == nil {
		err = unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test lets go or ends
	return 0
}

// spawn starts a process that is connected to the daemon but not registered.
func spawn(runDir string) (*process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(pair[0]) }()
	theirs := os.NewFile(uintptr(pair[1]), "pair")
	p := &process{cmd: exec.Command("/proc/self/exe"), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), envProcess+"="+runDir)
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if p.hold, err = p.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	if err := errors.Join(p.cmd.Start(), theirs.Close()); err != nil {
		return nil, err
	}
	p.pid = p.cmd.Process.Pid
	f, err := receiveFile(pair[0])
	if err != nil {
		return nil, fmt.Errorf("no connection from process %d: %w", p.pid, err)
	}
	c, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	p.conn = &conn{c}
	go p.wait()
	return p, nil
}

func receiveFile(fd int) (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return nil, fmt.Errorf("no file was sent: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "connection"), nil
}

func (p *process) wait() {
	err := p.cmd.Wait()
	fate := "exited"
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		fate = exit.String()
	}
	p.mu.Lock()
	p.fate = fate
	p.mu.Unlock()
	_ = p.conn.Close() // it may have been closed before
	close(p.done)
}

func (p *process) ended() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fate
}

// end lets the process go and waits for it.
func (p *process) end() {
	_ = p.hold.Close()
	<-p.done
}

// order is one request, the same for both twins but for the pid that it may name.
type order struct {
	cmd, flags, data, data2 uint32
	version, magic, seq     uint32
	length                  int // 0: what the body says
	body                    []byte
	closes                  bool // the daemon hangs up after the answer
	unanswered              bool // REGISTER, SHUTDOWN and what is dropped
	last                    bool // nothing may be sent after it on this connection
}

func (m order) bytes() []byte {
	if m.length == 0 {
		m.length = 32 + len(m.body)
	}
	var b bytes.Buffer
	h := header{m.magic, m.version, m.cmd, m.flags, uint32(m.length), m.seq, m.data, m.data2}
	for _, v := range []any{h, m.body} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err) // not possible in memory
		}
	}
	return b.Bytes()
}

// answer is all that came back, up to the answer to the VERSION request that is sent behind every message
// to find out where its answer ends.
type answer struct {
	header
	body []byte
	err  string
}

// announcesNothing: a failed GET_LVB for so many bytes announces them in stock's answer, though they do not come
// (COMPATIBILITY.md).
func (h header) announcesNothing() bool { return h.Cmd == cmdGetLVB && int32(h.Data) < 0 }

func fence() (ask, reply []byte) {
	m := order{cmd: 28, magic: wireMagic, version: 1}
	ask = m.bytes()
	m.data2 = 0x03080500
	return ask, m.bytes()
}

// exchange sends a message and reads what it causes.
func (c *conn) exchange(m order) (a answer) {
	failed := func(what string, err error) answer {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errors.New("nothing came")
		}
		a.err = fmt.Sprintf("%s: %v", what, err)
		return a
	}
	_ = c.c.SetDeadline(time.Now().Add(differPatience))
	if _, err := c.c.Write(m.bytes()); err != nil {
		return failed("send", errors.New("cannot be sent"))
	}
	if !m.unanswered {
		if err := binary.Read(c.c, binary.LittleEndian, &a.header); err != nil {
			return failed("answer", err)
		}
		if m.closes {
			body, err := io.ReadAll(c.c)
			if a.body = body; err != nil {
				return failed("rest", err)
			}
			return a
		}
		if n := int64(a.Length) - 32; n > 0 && !a.announcesNothing() {
			a.body = make([]byte, min(n, 1<<20))
			if _, err := io.ReadFull(c.c, a.body); err != nil {
				return failed("body", err)
			}
		}
	}
	if m.last {
		return a
	}
	ask, want := fence()
	got := make([]byte, len(want))
	if _, err := c.c.Write(ask); err != nil {
		return failed("send behind it", errors.New("cannot be sent"))
	}
	if _, err := io.ReadFull(c.c, got); err != nil {
		return failed("the end of the answer", err)
	}
	if !bytes.Equal(got, want) {
		return failed("the end of the answer", fmt.Errorf("% x", got))
	}
	return a
}
