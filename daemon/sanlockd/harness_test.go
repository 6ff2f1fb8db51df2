package sanlockd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/tenurelock/tenure/daemon/config"
	"github.com/tenurelock/tenure/daemon/helper"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
)

func TestMain(m *testing.M) {
	if os.Args[0] == helper.Name {
		os.Exit(helper.Main(os.Args))
	}
	if os.Getenv(daemonEnv) != "" {
		os.Exit(runDaemon())
	}
	if os.Getenv(holderEnv) != "" {
		os.Exit(runHolder())
	}
	goleak.VerifyTestMain(m)
}

const (
	diskPath  = "/dev/lease" // of every test's shared disk
	testIO    = 2            // seconds
	diskAreas = 64           // of 1 MiB
)

var grid = ondisk.Geometry{Sector: 512, Align: ondisk.MiB}

// newDisk returns a disk with lockspace LS in its first area and leases r1, r2, … in the next ones.
func newDisk(leasesOn int) *memdisk.Disk {
	d := memdisk.New(memdisk.Config{SectorSize: 512, Size: diskAreas * ondisk.MiB})
	space := leases.NameOf("LS")
	d.Poke(0, ondisk.FormatLockspace(grid, space, testIO))
	for n := 1; n <= leasesOn; n++ {
		d.Poke(int64(n)*ondisk.MiB, ondisk.FormatResource(grid, space, leases.NameOf(fmt.Sprintf("r%d", n)), 0))
	}
	return d
}

// host is a daemon in memory: its disk, its socket and its clients' processes are the test's.
type host struct {
	t      *testing.T
	s      *Server
	dev    *faulty.Device
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	log    *logText
	asleep atomic.Int64 // nanoseconds

	mu      sync.Mutex
	started []string // killpath programs
}

// logText collects log lines as stock would print them, without their stamp.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	text, err := render(p)
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(&l.b, text)
	return len(p), nil
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Accept, Close and Addr make host a net.Listener.
func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.accept:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *host) Addr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }

// Open gives out the disk under its path. Closing what it gives closes nothing: the disk is shared.
func (h *host) Open(path string) (device.Device, error) {
	if path != diskPath {
		return nil, &device.OpError{Op: "open", Device: path, Err: syscall.ENOENT}
	}
	return shared{h.dev}, nil
}

type shared struct{ device.Device }

func (shared) Close() error { return nil }

// person is the process at the other end of a test's connection.
type person struct {
	number int
	mu     sync.Mutex
	got    []string // signals with the second of their arrival since the test's start
	began  time.Time
	onKill func(syscall.Signal)
}

func (p *person) PID() int     { return p.number }
func (p *person) Close() error { return nil }

func (p *person) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	p.got = append(p.got, fmt.Sprintf("%d@%d", sig, int(time.Since(p.began)/time.Second)))
	act := p.onKill
	p.mu.Unlock()
	if act != nil {
		act(sig)
	}
	return nil
}

func (p *person) signals() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.got...)
}

// pipeEnd is the daemon's end of a connection.
type pipeEnd struct {
	net.Conn
	who *person
}

// startHost starts a daemon for the disk. change may alter its configuration. It is ended with the test.
func startHost(t *testing.T, disk *memdisk.Disk, name string, change func(*Config)) *host {
	t.Helper()
	h := &host{
		t: t, dev: faulty.Wrap(disk.Open(name)), accept: make(chan net.Conn), closed: make(chan struct{}),
		log: &logText{},
	}
	clock := monotime.At(monotime.Instant(1000*time.Second), func() time.Duration {
		return time.Duration(h.asleep.Load())
	})
	cfg := Config{Config: config.Defaults(), Clock: &clock, Log: zerolog.New(h.log), Opener: h}
	cfg.OurHostName, cfg.UseWatchdog, cfg.IOTimeout = name, 0, testIO
	cfg.Random = func() float64 { return 0.5 }
	cfg.Peer = func(c net.Conn) (Process, error) {
		if p, ok := c.(*pipeEnd); ok && p.who != nil {
			return p.who, nil
		}
		return nil, errors.New("nobody")
	}
	cfg.Start = func(path string, args []string) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.started = append(h.started, fmt.Sprint(path, args))
		return nil
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.s = s
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		h.dev.Close()
		if t.Failed() {
			t.Logf("%s:\n%s", name, h.log)
		}
	})
	return h
}

// caller is a test's end of a connection.
type caller struct {
	net.Conn
	t   *testing.T
	who *person
}

var lastPID = struct {
	sync.Mutex
	n int
}{n: 100}

// dial connects as a new process.
func (h *host) dial() *caller {
	lastPID.Lock()
	lastPID.n++
	pid := lastPID.n
	lastPID.Unlock()
	return h.dialAs(&person{number: pid, began: time.Now()})
}

func (h *host) dialAs(who *person) *caller {
	ours, theirs := net.Pipe()
	h.accept <- &pipeEnd{theirs, who}
	p := &caller{Conn: ours, t: h.t, who: who}
	h.t.Cleanup(func() { ours.Close() })
	return p
}

// registered connects and registers.
func (h *host) registered() *caller {
	p := h.dial()
	p.send(sanlockwire.CmdRegister, 0, 0, 0, nil)
	synctest.Wait()
	return p
}

// send writes a request in one piece.
func (p *caller) send(cmd, flags, data, data2 uint32, body []byte) {
	p.t.Helper()
	h := sanlockwire.NewHeader(cmd, flags, len(body), data, data2)
	if _, err := p.Write(append(h.Append(nil), body...)); err != nil {
		p.t.Errorf("send command %d: %v", cmd, err)
	}
}

// answer reads a reply and as much of a body as its header announces.
func (p *caller) answer() (sanlockwire.Header, []byte) {
	p.t.Helper()
	var raw [sanlockwire.HeaderSize]byte
	var h sanlockwire.Header
	if _, err := io.ReadFull(p, raw[:]); err != nil {
		p.t.Errorf("read a reply: %v", err)
		return h, nil
	}
	if err := h.Decode(raw[:]); err != nil {
		p.t.Error(err)
	}
	body := make([]byte, max(0, int(h.Length)-sanlockwire.HeaderSize))
	if _, err := io.ReadFull(p, body); err != nil {
		p.t.Errorf("read the body of a reply: %v", err)
	}
	return h, body
}

// ask sends a request and returns the result.
func (p *caller) ask(cmd, flags, data, data2 uint32, body []byte) int32 {
	p.t.Helper()
	p.send(cmd, flags, data, data2, body)
	h, _ := p.answer()
	if h.Cmd != cmd {
		p.t.Errorf("the answer to command %d is one to %d", cmd, h.Cmd)
	}
	return h.Result()
}

// rest reads to the end of the connection.
func (p *caller) rest() []byte {
	p.t.Helper()
	all, err := io.ReadAll(p)
	if err != nil {
		p.t.Error(err)
	}
	return all
}

const self = sanlockwire.Self

// lease is r1, r2, … as requests name it; options change it.
func lease(n int, flags uint32) sanlockwire.Resource {
	return sanlockwire.Resource{
		Space: leases.NameOf("LS"), Name: leases.NameOf(fmt.Sprintf("r%d", n)), Flags: flags,
		Disks: []sanlockwire.Disk{{Path: diskPath, Offset: uint64(n) * ondisk.MiB}},
	}
}

func acquireBody(rs ...sanlockwire.Resource) []byte {
	var p []byte
	for _, r := range rs {
		p = r.AppendWithDisks(p)
	}
	return sanlockwire.Options{}.Append(p)
}

func (p *caller) acquire(flags uint32, rs ...sanlockwire.Resource) int32 {
	p.t.Helper()
	return p.ask(sanlockwire.CmdAcquire, flags, uint32(len(rs)), self, acquireBody(rs...))
}

func (p *caller) release(rs ...sanlockwire.Resource) int32 {
	p.t.Helper()
	var body []byte
	for _, r := range rs {
		body = r.Append(body)
	}
	return p.ask(sanlockwire.CmdRelease, 0, uint32(len(rs)), self, body)
}

func (p *caller) convert(r sanlockwire.Resource) int32 {
	p.t.Helper()
	return p.ask(sanlockwire.CmdConvert, 0, 0, self, r.Append(nil))
}

// holds returns INQUIRE's answer without its zero.
func (p *caller) holds() string {
	p.t.Helper()
	p.send(sanlockwire.CmdInquire, 0, 0, self, nil)
	_, body := p.answer()
	return string(bytes.TrimSuffix(body, []byte{0}))
}

// spaceAs is the test's lockspace as host id joins it.
func spaceAs(id uint64) sanlockwire.Lockspace {
	return sanlockwire.Lockspace{
		Name: leases.NameOf("LS"), HostID: id, Disk: sanlockwire.Disk{Path: diskPath},
	}
}

// onSpace sends a command about the test's lockspace on a connection of its own.
func (h *host) onSpace(cmd, flags, data uint32, l sanlockwire.Lockspace) int32 {
	h.t.Helper()
	p := h.dial()
	defer synctest.Wait() // so that the connection's slot is free again
	defer p.Close()
	return p.ask(cmd, flags, data, 0, l.Append(nil))
}

func (h *host) join(id uint64) {
	h.t.Helper()
	if got := h.onSpace(sanlockwire.CmdAddLockspace, 0, 0, spaceAs(id)); got != 0 {
		h.t.Fatalf("add_lockspace: %d\n%s", got, h.log)
	}
}

// owner reads a lease's leader from the disk: its owner, 0 if it is free.
func owner(disk *memdisk.Disk, n int) uint64 {
	l, err := ondisk.DecodeLeader(disk.Bytes(int64(n)*ondisk.MiB, 512))
	if err != nil {
		panic(err)
	}
	if l.Timestamp == 0 {
		return 0
	}
	return l.OwnerID
}

// sharing reports whether a host's block of a lease says that it shares it.
func sharing(disk *memdisk.Disk, n int, host uint64) bool {
	b, err := ondisk.DecodeHostBlock(disk.Bytes(int64(n)*ondisk.MiB+grid.BlockOffset(host), 512))
	return err == nil && b.Shared()
}

// settledDown waits until the daemon has nothing on any list but what is held, at most a minute.
func (h *host) settledDown() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if h.s.await(ctx, func() bool {
		for _, l := range h.s.holdings {
			if l.list != held && l.list != orphan || l.home.ops > 0 {
				return false
			}
		}
		for _, c := range h.s.clients {
			if c != nil && c.active != 0 {
				return false
			}
		}
		return true
	}) != nil {
		h.t.Error("leases are still being acquired or released after a minute")
	}
}

// held counts the leases on a list.
func (h *host) count(on list) int {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	return len(h.s.sorted(on))
}

// check compares a result.
func check(t *testing.T, what string, got, want int32) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d, want %d", what, got, want)
	}
}
