package helper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/tools/need"
)

func TestMain(m *testing.M) {
	if os.Args[0] == Name {
		os.Exit(Main(os.Args))
	}
	goleak.VerifyTestMain(m)
}

// text is a log that several goroutines write.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func begin(t *testing.T) (*Helper, *text) {
	t.Helper()
	l := &text{}
	h, err := Start(zerolog.New(l), monotime.System())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Millisecond) // for what h has let go of to end
		if t.Failed() {
			t.Logf("%.4000s", l)
		}
	})
	eventually(t, "a sign of life", func() bool { return h.Status().Last > 0 })
	return h, l
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 10 seconds", what)
		}
	}
}

// target is a process that is held by a pidfd.
type target struct {
	pid, pidfd int
	mu         sync.Mutex
	direct     []syscall.Signal // not by the helper
}

func (p *target) PID() int                       { return p.pid }
func (p *target) Hold(use func(int) error) error { return use(p.pidfd) }
func (p *target) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	p.direct = append(p.direct, sig)
	p.mu.Unlock()
	return unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
}

func (p *target) byUs() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.direct)
}

// sleeper starts a process that lives until it is signalled.
func sleeper(t *testing.T) (*target, <-chan syscall.Signal) {
	t.Helper()
	c := exec.Command("sleep", "3600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan syscall.Signal, 1)
	go func() {
		_ = c.Wait() // it is killed
		ended <- c.ProcessState.Sys().(syscall.WaitStatus).Signal()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill() // most have ended
		for range ended {
			continue
		}
		unix.Close(fd)
	})
	return &target{pid: c.Process.Pid, pidfd: fd}, ended
}

func want(t *testing.T, ended <-chan syscall.Signal, sig syscall.Signal) {
	t.Helper()
	select {
	case got := <-ended:
		if got != sig {
			t.Errorf("it ended by signal %d, want %d", got, sig)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("signal %d has not come", sig)
	}
}

// slow reports whether the machine had no time for the helper, so that the daemon was right to act.
func slow(l *text) bool {
	s := l.String()
	return strings.Contains(s, errSilent.Error()) || strings.Contains(s, unix.ETIME.Error())
}

func TestSignal(t *testing.T) {
	h, l := begin(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		p, ended := sleeper(t)
		h.Signal(p, sig)
		want(t, ended, sig)
		time.Sleep(2 * answerWait)
		if p.byUs() != 0 && !slow(l) {
			t.Error("the helper was there, but the signal was sent directly")
		}
		h.Signal(p, sig) // to nobody
	}
	if strings.Contains(l.String(), "signal") && !slow(l) {
		t.Errorf("errors: %s", l)
	}
	s := h.Status()
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.PID))
	if err != nil || string(comm) != Name+"\n" || s.FD < 3 || s.Full != 0 {
		t.Errorf("helper %q, %v; status %+v", comm, err, s)
	}
}

// stop stops a process and returns when none of its threads runs any more.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stop", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, name := range threads {
			text, readErr := os.ReadFile(name)
			_, state, _ := strings.Cut(string(text), ") ")
			if readErr != nil || !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
}

// TestDeadHelper: everything is done without it from then on.
func TestDeadHelper(t *testing.T) {
	h, l := begin(t)
	pid := h.Status().PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "notice of its end", func() bool { return h.Status().PID < 0 })
	if s := h.Status(); s.FD != -1 {
		t.Errorf("status %+v", s)
	}
	if want := fmt.Sprintf("helper pid %d term signal 9", pid); !strings.Contains(l.String(), want) {
		t.Errorf("the log has no line %q", want)
	}
	p, ended := sleeper(t)
	h.Signal(p, syscall.SIGTERM)
	want(t, ended, syscall.SIGTERM)
	file := filepath.Join(t.TempDir(), "made")
	h.Run("touch", []string{file})
	eventually(t, "program", func() bool { _, err := os.Stat(file); return err == nil })
}

// TestUndoneOrders: what a helper has not done when it dies is done without it.
func TestUndoneOrders(t *testing.T) {
	h, _ := begin(t)
	pid := h.Status().PID
	stop(t, pid)
	p, ended := sleeper(t)
	h.Signal(p, syscall.SIGTERM)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	want(t, ended, syscall.SIGTERM)
}

// TestStoppedHelper: what it does not confirm is done without it, and when it goes on it does nothing twice.
func TestStoppedHelper(t *testing.T) {
	h, l := begin(t)
	pid := h.Status().PID
	stop(t, pid)
	p, ended := sleeper(t)
	began := time.Now()
	h.Signal(p, syscall.SIGTERM)
	want(t, ended, syscall.SIGTERM)
	if took := time.Since(began); took < answerWait || took > 10*answerWait {
		t.Errorf("the signal came after %v, want %v", took, answerWait)
	}
	file := filepath.Join(t.TempDir(), "lines")
	h.Run("sh", []string{"-c", "echo once >>" + file})
	eventually(t, "program", func() bool { _, err := os.Stat(file); return err == nil })
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * answerWait)
	l.mu.Lock()
	l.b.Reset()
	l.mu.Unlock()
	q, ended := sleeper(t)
	h.Signal(q, syscall.SIGTERM)
	want(t, ended, syscall.SIGTERM)
	time.Sleep(2 * answerWait)
	if text, err := os.ReadFile(file); err != nil || string(text) != "once\n" {
		t.Errorf("the program wrote %q, %v; it must run once", text, err)
	}
	if q.byUs() != 0 && !slow(l) {
		t.Error("the helper goes on, but the signal was sent directly")
	}
}

// TestFull: a helper that takes nothing fills its socket, and nobody waits for it.
func TestFull(t *testing.T) {
	h, _ := begin(t)
	stop(t, h.Status().PID)
	p, _ := sleeper(t)
	began := time.Now()
	const sent = 3000
	for range sent {
		h.Signal(p, 0)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("%d signals took %v", sent, took)
	}
	eventually(t, "signals sent directly", func() bool { return p.byUs() == sent })
	if full := h.Status().Full; full < 1 || full >= sent {
		t.Errorf("full %d times of %d", full, sent)
	}
}

// TestPrograms: arguments, the search in PATH, the exit status, and that a program that hangs delays none.
func TestPrograms(t *testing.T) {
	h, l := begin(t)
	dir := t.TempDir()
	for range 20 {
		h.Run("sleep", []string{"8"})
	}
	show := fmt.Sprintf(`cd %s; printf '%%s|' "$0" "$@" >tmp; mv tmp args; exit 3`, dir)
	h.Run("/bin/sh", []string{"-c", show, "a b", `c\`, "", "d"})
	h.Run("/no/such/program", nil)
	began := time.Now()
	eventually(t, "program", func() bool { _, err := os.Stat(dir + "/args"); return err == nil })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("after %v", took)
	}
	if got, err := os.ReadFile(dir + "/args"); err != nil || string(got) != `a b|c\||d|` {
		t.Errorf("arguments %q, %v", got, err)
	}
	eventually(t, "exit status", func() bool { return strings.Contains(l.String(), "/bin/sh: exit status 3") })
	eventually(t, "exit status", func() bool {
		return strings.Contains(l.String(), "/no/such/program: exit status 127")
	})
	if strings.Contains(l.String(), "directly") && !slow(l) {
		t.Error("a program was run directly")
	}
}

// TestOrphan: the helper ends with the daemon, whatever ended that.
func TestOrphan(t *testing.T) {
	h, _ := begin(t)
	_ = h.socket.Close() // as the kernel does it for a daemon that was killed
	eventually(t, "end", func() bool { return h.Status().PID < 0 })
}

// TestRecycledPid makes another process with the number of one that has ended.
func TestRecycledPid(t *testing.T) {
	h, _ := begin(t)
	p, ended := sleeper(t)
	h.Signal(p, syscall.SIGKILL)
	want(t, ended, syscall.SIGKILL)
	for range 200 {
		// The next process gets the number behind this one, if nobody comes in between.
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(fmt.Sprint(p.pid-1)), 0); err != nil {
			t.Skip("needs root and a kernel that lets a pid be chosen: ", err)
		}
		c := exec.Command("sleep", "3600")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if c.Process.Pid == p.pid {
			h.Signal(p, syscall.SIGKILL)
			time.Sleep(2 * answerWait)
			if err := c.Process.Signal(syscall.Signal(0)); err != nil {
				t.Error("a process that came later was killed")
			}
			if err := p.Signal(syscall.SIGKILL); !errors.Is(err, unix.ESRCH) {
				t.Errorf("signal to one that has ended: %v", err)
			}
			_ = errors.Join(c.Process.Kill(), c.Wait()) // it is killed
			return
		}
		_ = errors.Join(c.Process.Kill(), c.Wait()) // it is killed
	}
	t.Skip("another process was faster each time")
}

func TestMessage(t *testing.T) {
	for _, m := range []message{
		{kind: orderSignal, code: -9, seq: 1 << 60, until: 7},
		{kind: orderRun, words: []string{"/bin/x"}},
		{kind: orderRun, words: []string{"x", "", "a b", ""}},
	} {
		got, err := decode(m.append(nil))
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", m) {
			t.Errorf("%+v, %v, want %+v", got, err, m)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, messageHead-1), append(make([]byte, messageHead), 'x')} {
		if _, err := decode(bad); err == nil {
			t.Errorf("%d bytes were taken for a message", len(bad))
		}
	}
}

// A program that is started from a thread of high priority does not have it.
func TestOrdinaryPrograms(t *testing.T) {
	need.RealTime(t)
	type result struct {
		text []byte
		err  error
	}
	ran := make(chan result)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			ran <- result{err: err}
			return
		}
		text, err := Command("cat", []string{"/proc/self/stat"}).Output()
		ran <- result{text, err}
	}()
	r := <-ran
	_, fields, _ := strings.Cut(string(r.text), ") ")
	words := strings.Fields(fields)
	const priority, policy = 40 - 3, 41 - 3 // of /proc/PID/stat, counted from the third
	if r.err != nil || len(words) <= policy || words[priority] != "0" || words[policy] != "0" {
		t.Errorf("%v, %q", r.err, r.text)
	}
}
