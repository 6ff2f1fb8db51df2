package interop

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/tools/need"
)

// mapperDir is where lvmlockd looks for the LV that holds a VG's locks; its path is compiled into Debian's.
const mapperDir = "/dev/mapper"

// lockd is a running lvmlockd over a node's sanlock.
type lockd struct {
	kind kind
	node *node
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

func (d *lockd) String() string {
	return fmt.Sprintf("%s's lvmlockd over %s's sanlock", d.kind, d.node.kind)
}

// lvmlockd returns the kind's program.
func (k kind) lvmlockd(t testing.TB) string {
	t.Helper()
	if k == debian || os.Getenv("TENURE_ALL_DEBIAN") != "" {
		return need.Program(t, "lvmlockd")
	}
	return filepath.Join(filepath.Dir(ours(t)), "lvmlockd")
}

// startLockd runs lvmlockd and waits until it answers.
func startLockd(t testing.TB, k kind, n *node, options ...string) *lockd {
	t.Helper()
	d := &lockd{kind: k, node: n, dir: t.TempDir()}
	d.run(t, options...)
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.done
		if t.Failed() {
			t.Logf("%s, last lines:\n%s", d, d.tail())
		}
	})
	return d
}

// run starts the program, perhaps again.
func (d *lockd) run(t testing.TB, options ...string) {
	t.Helper()
	out, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	args := []string{
		"-D", "-s", filepath.Join(d.dir, "socket"), "-p", filepath.Join(d.dir, "pid"),
		"--adopt-file", filepath.Join(d.dir, "adopt"), "-o", fmt.Sprint(ioTimeout),
		fmt.Sprintf("--host-id=%d", d.node.id),
	}
	d.cmd = exec.Command(d.kind.lvmlockd(t), append(args, options...)...)
	d.cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+d.node.runDir)
	d.cmd.Dir = d.dir
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", d, err)
	}
	d.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(d.cmd, d.done)
	for deadline := time.Now().Add(startWait); ; time.Sleep(pollPause) {
		c, err := d.dial()
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v\n%s", d, err, d.tail())
		}
	}
}

func (d *lockd) tail() string {
	b, err := os.ReadFile(filepath.Join(d.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// command is one connection, as an LVM command has it.
type command struct {
	net.Conn
	messages *lvmwire.Reader
}

func (d *lockd) dial() (*command, error) {
	c, err := net.Dial("unix", filepath.Join(d.dir, "socket"))
	if err != nil {
		return nil, err
	}
	m := &command{c, lvmwire.NewReader(c)}
	if _, err := m.do(lvmwire.Request{Name: "hello"}); err != nil {
		c.Close()
		return nil, fmt.Errorf("hello: %w", err)
	}
	return m, nil
}

// command connects for the time of a test.
func (d *lockd) command(t testing.TB) *command {
	t.Helper()
	c, err := d.dial()
	if err != nil {
		t.Fatalf("%s: %v", d, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// do sends a request and waits for its answer.
func (c *command) do(r lvmwire.Request) (lvmwire.Reply, error) {
	if err := c.SetDeadline(time.Now().Add(opTimeout)); err != nil {
		return lvmwire.Reply{}, err
	}
	dialect := lvmwire.Dialect16
	if r.AlignMB != 0 {
		dialect = lvmwire.Dialect40 // which has the key
	}
	if _, err := c.Write(r.Append(nil, dialect)); err != nil {
		return lvmwire.Reply{}, err
	}
	body, err := c.messages.Next()
	if err != nil {
		return lvmwire.Reply{}, err
	}
	return lvmwire.DecodeReply(body)
}

// must is do where the transport has to work.
func (c *command) must(t testing.TB, r lvmwire.Request) lvmwire.Reply {
	t.Helper()
	a, err := c.do(r)
	if err != nil {
		t.Fatalf("%s: %v", r.Name, err)
	}
	return a
}

// want is must with the result that is expected.
func (c *command) want(t testing.TB, r lvmwire.Request, result lvmwire.Result) lvmwire.Reply {
	t.Helper()
	a := c.must(t, r)
	if a.Result != result {
		t.Fatalf("%s %s%s: %d (%s), want %d", r.Name, r.VGName, r.LVUUID, a.Result, a.Flags, result)
	}
	return a
}

// group is a VG on a loop device that stands for its lock LV.
type group struct {
	name  string
	path  string // of the loop device
	align int64  // of its leases, MiB
}

// newGroup makes the lock LV of a VG, of so many slots of a MiB, without locks on it.
func newGroup(t testing.TB, name string, slots int) group {
	t.Helper()
	return newGroupOf(t, name, 512, 1, slots)
}

// newGroupOf is newGroup with sectors and leases of other sizes, in bytes and MiB.
func newGroupOf(t testing.TB, name string, sector int, align int64, slots int) group {
	t.Helper()
	g := group{fmt.Sprintf("tt%d%s", os.Getpid(), name), need.Loop(t, sector, align*int64(slots)<<20), align}
	g.link(t, g.name)
	return g
}

// link gives the device the name that a VG's lock LV has.
func (g group) link(t testing.TB, vg string) {
	t.Helper()
	if err := os.MkdirAll(mapperDir, 0o755); err != nil { //nolint:gosec // as udev makes it
		t.Fatal(err)
	}
	at := filepath.Join(mapperDir, vg+"-lvmlock")
	if err := os.Symlink(g.path, at); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(at) })
}

// The requests of LVM commands, with the keys that 2.03.16 sends.

func (g group) request(name string) lvmwire.Request {
	return lvmwire.Request{
		Name: name, Cmd: "interop", PID: os.Getpid(), VGName: g.name, Type: lvmwire.Sanlock, VGArgs: "1.0.0:lvmlock",
	}
}

func (g group) init() lvmwire.Request {
	r := g.request("init_vg")
	r.VGArgs = "lvmlock"
	return r
}

func (g group) start(n *node) lvmwire.Request {
	r := g.request("start_vg")
	r.VGUUID, r.Version, r.HostID = "etgJ8n-eGUF-7pyu-KhKZ-I4Y9-DnpO-JHY5dL", 3, int64(n.id)
	return r
}

func lockGL(m lvmwire.Mode) lvmwire.Request {
	return lvmwire.Request{Name: "lock_gl", Cmd: "interop", PID: os.Getpid(), Mode: m}
}

func (g group) lockVG(m lvmwire.Mode) lvmwire.Request {
	return lvmwire.Request{Name: "lock_vg", Cmd: "interop", PID: os.Getpid(), Mode: m, VGName: g.name}
}

// uuid is the i-th LV's.
func uuid(i int) string { return fmt.Sprintf("7zJGMR-N9Wv-U6Ck-ov39-xyPq-a1fu-%06d", i) }

func (g group) lv(name string, i int, args string) lvmwire.Request {
	r := g.request(name)
	r.LVName, r.LVUUID, r.LVArgs = fmt.Sprintf("lv%d", i), uuid(i), args
	return r
}

func (g group) lockLV(i int, m lvmwire.Mode, args, opts string) lvmwire.Request {
	r := g.lv("lock_lv", i, args)
	r.Mode, r.Opts, r.Options = m, opts, lvmwire.ParseOpts(opts)
	return r
}

// started makes the locks of the VG and joins, as vgcreate does.
func (g group) started(t testing.TB, d *lockd) *command {
	t.Helper()
	c := d.command(t)
	c.want(t, g.init(), lvmwire.OK)
	g.join(t, d, c)
	return c
}

// join is vgchange --lockstart.
func (g group) join(t testing.TB, d *lockd, c *command) {
	t.Helper()
	c.want(t, g.start(d.node), lvmwire.OK)
	c.want(t, lvmwire.Request{Name: "start_wait", PID: os.Getpid()}, lvmwire.OK)
}
