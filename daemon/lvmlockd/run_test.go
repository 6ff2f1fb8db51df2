package lvmlockd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// childEnv makes this test binary a daemon, whose files are in the directory it names.
const childEnv = "TENURE_TEST_LVMLOCKD"

// TestDaemonProcess is no test but the daemon of the others.
func TestDaemonProcess(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("only run by the other tests")
	}
	os.Exit(Run(Config{
		PIDFile: filepath.Join(dir, "pid"), Socket: filepath.Join(dir, "run", "socket"),
		AdoptFile: filepath.Join(dir, "adopt"), Adopt: true, Debug: true, Stderr: os.Stderr,
		Managers: func(zerolog.Logger) ([]lvmlock.LockManager, error) {
			return []lvmlock.LockManager{fake.New(fake.Config{Type: lvmwire.DLM})}, nil
		},
		LogLevel: zerolog.Disabled,
	}))
}

// process is a daemon of its own.
type process struct {
	tb  testing.TB
	dir string
	cmd *exec.Cmd
	log *safeLog
	end chan struct{} // closed when it ended
}

func command(dir string, log io.Writer, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestDaemonProcess$")
	cmd.Env = append(append(os.Environ(), childEnv+"="+dir), env...)
	cmd.Stderr, cmd.Stdout = log, log
	return cmd
}

func start(tb testing.TB, dir string, env ...string) *process {
	tb.Helper()
	p := &process{tb: tb, dir: dir, log: &safeLog{}, end: make(chan struct{})}
	p.cmd = command(dir, p.log, env...)
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.end)
	}()
	tb.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.end
		if tb.Failed() {
			tb.Logf("log of the daemon:\n%s", p.log)
		}
	})
	eventually(tb, "the daemon listens", func() bool {
		c, err := net.Dial("unix", filepath.Join(dir, "run", "socket"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p
}

func (p *process) dial() *peer {
	return (&rig{tb: p.tb, path: filepath.Join(p.dir, "run", "socket")}).dial()
}

// ended waits for the end and returns the exit code.
func (p *process) ended() int {
	p.tb.Helper()
	select {
	case <-p.end:
	case <-time.After(answerWait):
		p.tb.Fatal("the daemon does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) files() string {
	var names []string
	for _, n := range []string{"pid", "run/socket", "adopt"} {
		if _, err := os.Lstat(filepath.Join(p.dir, n)); err == nil {
			names = append(names, n)
		}
	}
	return strings.Join(names, " ")
}

func TestFilesOfTheDaemon(t *testing.T) {
	p := start(t, t.TempDir())
	if text, err := os.ReadFile(filepath.Join(p.dir, "pid")); string(text) != fmt.Sprintf("%d\n", p.cmd.Process.Pid) {
		t.Errorf("pid file %q, error %v", text, err)
	}
	info, err := os.Stat(filepath.Join(p.dir, "run", "socket"))
	if err != nil || info.Mode() != os.ModeSocket|0o700 {
		t.Errorf("socket: %v, error %v; want srwx------", info.Mode(), err)
	}
	// A second one finds the first.
	var log safeLog
	err = command(p.dir, &log).Run()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 13 {
		t.Errorf("a second daemon ends with %v, want 13:\n%s", err, log.String())
	}
	c := p.dial()
	c.want("quit", lvmwire.OK)
	if code := p.ended(); code != 0 || p.files() != "" {
		t.Errorf("exit code %d, left behind: %q", code, p.files())
	}
}

// TestSecondPIDFile has a pid file of its own and finds somebody on the socket.
func TestSecondPIDFile(t *testing.T) {
	p := start(t, t.TempDir())
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(p.dir, "run"), filepath.Join(dir, "run")); err != nil {
		t.Fatal(err)
	}
	var log safeLog
	err := command(dir, &log).Run()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 13 {
		t.Errorf("a second daemon ends with %v, want 13:\n%s", err, log.String())
	}
	p.dial().want("quit", lvmwire.OK)
}

// TestSIGTERM is trap T37: it is not heeded while locks are held.
func TestSIGTERM(t *testing.T) {
	p := start(t, t.TempDir())
	c := p.dial()
	c.startVG("t1")
	c.want("lock_lv cmd=a vg_name=t1 lv_uuid=U mode=ex opts=persistent", lvmwire.OK)
	eventually(t, "the LV in the adopt file", func() bool {
		text, err := os.ReadFile(filepath.Join(p.dir, "adopt"))
		head := "lvmlockd adopt_version 1.0 pid " + strconv.Itoa(p.cmd.Process.Pid) + " "
		return err == nil && strings.HasPrefix(string(text), head) && strings.Contains(string(text), "\nLV: ")
	})
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "SIGTERM is refused", func() bool { return strings.Contains(p.log.String(), "ignore shutdown for ") })
	c.want("lock_lv cmd=a vg_name=t1 lv_uuid=U mode=un opts=persistent", lvmwire.OK)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.ended(); code != 0 || p.files() != "" {
		t.Errorf("exit code %d, left behind: %q", code, p.files())
	}
}

// TestKilled leaves everything; the next one starts over it.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	c := p.dial()
	c.startVG("t1")
	c.want("lock_lv cmd=a vg_name=t1 lv_uuid=U mode=ex opts=persistent", lvmwire.OK)
	eventually(t, "the adopt file", func() bool { return p.files() == "pid run/socket adopt" })
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.ended()
	if p.files() != "pid run/socket adopt" {
		t.Errorf("left behind: %q", p.files())
	}
	start(t, dir).dial().want("quit", lvmwire.OK)
}

func TestNotify(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := start(t, dir, "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	text := make([]byte, 100)
	if err := l.SetReadDeadline(time.Now().Add(answerWait)); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Read(text); string(text[:n]) != "READY=1" {
		t.Errorf("systemd is told %q, error %v", text[:n], err)
	}
	p.dial().want("quit", lvmwire.OK)
}

// TestActivation takes the socket from descriptor 3 and leaves it where it is. The shell gives the daemon its own pid.
func TestActivation(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "run", "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	var log safeLog
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run=^TestDaemonProcess$`, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, "SD_ACTIVATION=1", "LISTEN_FDS=1")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	(&rig{tb: t, path: path}).dial().want("quit", lvmwire.OK)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of systemd was removed: %v", err)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := listen(file); err == nil {
		t.Error("a file that is no socket was replaced")
	}
	stale := filepath.Join(dir, "stale")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: stale})
		unix.Close(fd)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, made, err := listen(stale)
	if err != nil || !made {
		t.Fatalf("a socket that nobody listens on: %t, %v", made, err)
	}
	defer l.Close()
	if _, _, err := listen(stale); !errors.Is(err, ErrRunning) {
		t.Errorf("a socket that somebody listens on: %v", err)
	}
}

func TestAdoptFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "adopt")
	if text, err := readAdopt(path); text != nil || err != nil {
		t.Errorf("no file: %q, %v", text, err)
	}
	for _, text := range []string{"first", "second, longer", "3"} {
		if err := writeAdopt(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := readAdopt(path); string(got) != text || err != nil {
			t.Errorf("%q comes back as %q, %v", text, got, err)
		}
	}
	if err := os.Truncate(path, maxAdopt+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readAdopt(path); err == nil {
		t.Error("a file that is too long was read")
	}
	if err := writeAdopt(filepath.Join(path, "x"), nil); err == nil {
		t.Error("it was written nowhere")
	}
}
