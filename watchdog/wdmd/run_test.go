package wdmd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/watchdog/memdog"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

// childEnv makes this test binary a daemon whose place is in that directory.
const childEnv = "TENURE_TEST_WDMD"

func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	p := Program{
		Place: placeIn(dir), Source: memdog.New(), Group: "no such group", High: true, Log: zerolog.New(os.Stderr),
	}
	if err := p.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(255)
	}
}

func placeIn(dir string) Place {
	return Place{
		Socket: filepath.Join(dir, "run", "wdmd.sock"), Lock: filepath.Join(dir, "run", "wdmd.pid"),
		Marker: filepath.Join(dir, "marker"),
	}
}

// program is a daemon in a process of its own.
type program struct {
	*exec.Cmd
	out   bytes.Buffer
	place Place
}

func startProgram(t *testing.T, dir string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(os.Args[0]), place: placeIn(dir)}
	p.Env = append(os.Environ(), childEnv+"="+dir)
	p.Stderr = &p.out
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill() // it has ended, if all went well
		_ = p.Wait()
	})
	return p
}

func (p *program) dial(t *testing.T) net.Conn {
	t.Helper()
	for range 200 {
		if c, err := net.Dial("unix", p.place.Socket); err == nil {
			return c
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("no socket:\n%s", p.out.String())
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// A clean end leaves the socket only; after a crash no second daemon starts: it would pet the device that is about
// to reset the host.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	p := startProgram(t, dir)
	p.dial(t).Close()
	pid, err := os.ReadFile(p.place.Lock)
	if err != nil || string(pid) != fmt.Sprintf("%d\n", p.Process.Pid) || !exists(p.place.Marker) {
		t.Errorf("pid file %q, %v; marker %v", pid, err, exists(p.place.Marker))
	}
	if info, err := os.Stat(p.place.Socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	second := startProgram(t, dir)
	if err := second.Wait(); err == nil || !strings.Contains(second.out.String(), "lockfile setlk error") {
		t.Errorf("a second daemon: %v, %s", err, second.out.String())
	}
	// A client that forbids the end, until it has left. Its pid is ours.
	c := p.dial(t)
	m := wdmdwire.Message{Command: wdmdwire.RefcountSet}
	c.Write(m.Append(nil))
	m.Command = wdmdwire.DumpDebug
	c.Write(m.Append(nil))
	buf := make([]byte, wdmdwire.MaxDump)
	if n, err := c.Read(buf); err != nil || !strings.Contains(string(buf[:n]), fmt.Sprintf("pid %d fd ", os.Getpid())) {
		t.Errorf("dump: %s, %v", buf[:n], err)
	}
	p.Process.Signal(syscall.SIGTERM)
	p.Process.Signal(syscall.SIGHUP)
	time.Sleep(endWait + 200*time.Millisecond)
	if !exists(p.place.Marker) {
		t.Fatalf("ended although a client forbids it:\n%s", p.out.String())
	}
	// The client leaves and the daemon is told to end while it does not get the processor.
	p.Process.Signal(syscall.SIGSTOP)
	m.Command = wdmdwire.RefcountClear
	c.Write(m.Append(nil))
	c.Close()
	p.Process.Signal(syscall.SIGTERM)
	p.Process.Signal(syscall.SIGCONT)
	if err := p.Wait(); err != nil || exists(p.place.Marker) || exists(p.place.Lock) || !exists(p.place.Socket) {
		t.Errorf("end: %v; marker %v, lock %v, socket %v\n%s", err, exists(p.place.Marker), exists(p.place.Lock),
			exists(p.place.Socket), p.out.String())
	}
	for _, want := range []string{"wdmd started S0 H1 G0", "ignore shutdown", "armed with fire_timeout 60", "disarmed"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("log without %q:\n%s", want, p.out.String())
		}
	}
	third := startProgram(t, dir)
	third.dial(t).Close()
	third.Process.Kill()
	third.Wait()
	fourth := startProgram(t, dir)
	err = fourth.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 255 ||
		!strings.Contains(fourth.out.String(), "other wdmd not cleanly stopped, shm_open error 17") {
		t.Errorf("after a crash: %v, %s", err, fourth.out.String())
	}
}

func TestNoDevice(t *testing.T) {
	dir := t.TempDir()
	dog := memdog.New()
	dog.Break(memdog.Faults{BadOpen: errors.New("another program has it")})
	p := Program{Place: placeIn(dir), Source: dog, Group: "root", Log: zerolog.Nop()}
	err := p.Run()
	if !errors.Is(err, ErrNoDevice) || !strings.Contains(err.Error(), "another program has it") {
		t.Errorf("%v", err)
	}
	if exists(p.Place.Marker) || exists(p.Place.Lock) {
		t.Error("a daemon that did not start leaves its marker: none could be started before the next boot")
	}
}
