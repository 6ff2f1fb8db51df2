package peer

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("PEER_TEST_DIAL"); path != "" {
		os.Exit(dialAndWait(path))
	}
	goleak.VerifyTestMain(m)
}

// dialAndWait is the process at the other end: it connects and lives until its standard input ends.
func dialAndWait(path string) int {
	c, err := net.Dial("unix", path)
	if err != nil {
		return 1
	}
	defer c.Close()
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	return 0
}

type other struct {
	*exec.Cmd
	conn net.Conn
	end  func()
}

// start runs this test program again as a process that connects to us.
func start(t *testing.T) other {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PEER_TEST_DIAL="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
		c.Close()
	})
	return other{cmd, c, func() { in.Close() }}
}

func hold(t *testing.T, c net.Conn) *Process {
	t.Helper()
	p, err := Of(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// patience is how long the kernel may take to tell of a death.
const patience = 10 * time.Second

func isDead(p *Process, within time.Duration) bool {
	select {
	case <-p.Dead():
		return true
	case <-time.After(within):
		return false
	}
}

func TestWhoItIs(t *testing.T) {
	o := start(t)
	p := hold(t, o.conn)
	if got, want := p.PID(), o.Process.Pid; got != want {
		t.Errorf("pid %d, want %d", got, want)
	}
	if p.UID() != os.Getuid() || p.GID() != os.Getgid() {
		t.Errorf("uid %d gid %d, want %d %d", p.UID(), p.GID(), os.Getuid(), os.Getgid())
	}
}

func TestDeath(t *testing.T) {
	o := start(t)
	p := hold(t, o.conn)
	if isDead(p, 50*time.Millisecond) {
		t.Fatal("dead before it died")
	}
	if err := p.Signal(0); err != nil {
		t.Errorf("signal 0 to a living process: %v", err)
	}
	o.end()
	if !isDead(p, patience) {
		t.Fatal("its death was not noticed")
	}
	_ = o.Wait()
	if err := p.Signal(syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signal to a dead process: %v", err)
	}
}

func TestSignal(t *testing.T) {
	o := start(t)
	p := hold(t, o.conn)
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !isDead(p, patience) {
		t.Fatal("it survived SIGKILL")
	}
}

// A process that is reaped before we look is no error: the connection may still hold requests.
func TestDeadBefore(t *testing.T) {
	o := start(t)
	o.end()
	_ = o.Wait()
	p := hold(t, o.conn)
	if p.PID() != o.ProcessState.Pid() {
		t.Errorf("pid %d, want %d", p.PID(), o.ProcessState.Pid())
	}
	if !isDead(p, patience) {
		t.Error("not known to be dead")
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signal: %v", err)
	}
}

func TestCloseEndsTheWait(t *testing.T) {
	o := start(t)
	p := hold(t, o.conn)
	dead := p.Dead()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-dead:
	case <-time.After(patience):
		t.Error("the wait goes on")
	}
	if err := p.Signal(0); err == nil {
		t.Error("a closed process takes signals")
	}
}

func TestNotASocket(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, err := Of(a); err == nil {
		t.Error("a pipe in memory has no process")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p, err := Of(c); err == nil {
		t.Errorf("a TCP connection has process %d", p.PID())
	}
}
