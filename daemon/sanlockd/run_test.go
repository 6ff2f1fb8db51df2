package sanlockd

import (
	"bytes"
	"errors"
	"fmt"
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

	"github.com/tenurelock/tenure/daemon/config"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/tools/need"
)

// daemonEnv makes the test program a daemon: its value is -D, or anything else to detach.
const daemonEnv = "TENURE_TEST_DAEMON"

func runDaemon() int {
	cfg := Config{Config: config.Defaults(), Foreground: os.Getenv(daemonEnv) == "-D"}
	cfg.UseWatchdog, cfg.OurHostName, cfg.MlockLevel = 0, "tester", 0
	if os.Getenv(PrivilegedEnv) == "1" {
		cfg.MlockLevel, cfg.HighPriority = 1, 1
	}
	cfg.LogFilePriority, cfg.SyslogPriority = -1, -1
	return Run(cfg)
}

// program returns a daemon that is not started yet, in a run directory.
func program(t *testing.T, dir, mode string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), daemonEnv+"="+mode, RunDirEnv+"="+dir, PrivilegedEnv+"=0")
	var out bytes.Buffer
	cmd.Stderr = &out
	return cmd, &out
}

// reach connects to a daemon's socket, waiting until there is one.
func reach(t *testing.T, dir string) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", filepath.Join(dir, socketName))
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestProgram starts the daemon, a second one beside it, kills the first and starts another.
func TestProgram(t *testing.T) {
	need.Root(t)
	dir := filepath.Join(t.TempDir(), "run")
	first, out := program(t, dir, "-D")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	reach(t, dir).Close()
	pid, err := os.ReadFile(filepath.Join(dir, lockName))
	if got, want := string(pid), fmt.Sprintf("%d\n", first.Process.Pid); err != nil || got != want {
		t.Errorf("pid file %q, %v, want %q", got, err, want)
	}
	for name, want := range map[string]os.FileMode{
		dir: 0o775 | os.ModeDir, filepath.Join(dir, socketName): 0o660 | os.ModeSocket,
	} {
		if i, err := os.Stat(name); err != nil || i.Mode() != want {
			t.Errorf("%s: mode %v, want %v", name, i.Mode(), want)
		}
	}
	second, said := program(t, dir, "-D")
	err = second.Run()
	if second.ProcessState.ExitCode() != 1 || !strings.Contains(said.String(),
		"lockfile setlk error "+filepath.Join(dir, lockName)+": Resource temporarily unavailable") {
		t.Errorf("a second daemon ended with %v and said\n%s", err, said)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	if _, err := net.Dial("unix", filepath.Join(dir, socketName)); !strings.Contains(fmt.Sprint(err), "refused") {
		t.Errorf("connecting to a killed daemon's socket: %v", err)
	}
	for _, want := range []string{
		"Using non-standard run directory '" + dir + "'", "Running in unprivileged mode",
		"sanlock daemon started 3.8.5 host tester (",
	} {
		if !strings.Contains(out.String(), "]: "+want) {
			t.Errorf("the log has no line %q:\n%s", want, out)
		}
	}
	third, _ := program(t, dir, "-D")
	if err := third.Start(); err != nil {
		t.Fatal(err)
	}
	reach(t, dir).Close()
	if err := third.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := third.Wait(); err != nil {
		t.Errorf("SIGTERM without lockspaces: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, socketName)); err != nil {
		t.Errorf("the socket must stay: %v", err)
	}
}

// TestLimitsThatCannotBeHad: an ordinary user's daemon says what it goes on without, and serves.
func TestLimitsThatCannotBeHad(t *testing.T) {
	need.Root(t)
	const nobody = 65534
	dir, err := os.MkdirTemp("", "limits") //nolint:usetesting // t.TempDir cannot be entered by another user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	self, err := os.ReadFile("/proc/self/exe") // which may lie where only its owner gets to
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "daemon")
	if err := errors.Join(os.WriteFile(binary, self, 0o755), os.Chmod(dir, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	cmd, out := program(t, run, "-D")
	cmd.Path = binary
	cmd.Env = append(cmd.Env, PrivilegedEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reach(t, run).Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	for _, want := range []string{"setrlimit MEMLOCK: ", "mlockall: memory stays unlocked", "set scheduler"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log has no line %q:\n%s", want, out)
		}
	}
}

// TestRealTime: every thread of the daemon and of its helper comes before ordinary programs, and what they have in
// memory stays there.
func TestRealTime(t *testing.T) {
	need.Root(t)
	need.RealTime(t)
	dir := filepath.Join(t.TempDir(), "run")
	cmd, out := program(t, dir, "-D")
	cmd.Env = append(cmd.Env, PrivilegedEnv+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := reach(t, dir)
	defer c.Close()
	daemon := cmd.Process.Pid
	// It may have been started by any thread; its parent is the daemon in any case.
	pids := []int{daemon}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", daemon))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tasks {
		children, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for word := range strings.FieldsSeq(string(children)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	if len(pids) != 2 {
		t.Fatalf("the daemon and its helper are %v", pids)
	}
	for _, pid := range pids {
		awaitLocked(t, pid, out)
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				t.Fatal(err)
			}
			attr, err := unix.SchedGetAttr(tid, 0)
			if err != nil || attr.Policy != unix.SCHED_RR || attr.Priority != realtimePriority {
				t.Errorf("thread %d of %v: %+v, %v", tid, pids, attr, err)
			}
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// awaitLocked waits until a process has locked memory.
func awaitLocked(t *testing.T, pid int, said *bytes.Buffer) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && !strings.Contains(string(status), "VmLck:\t       0 kB") {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("process %d has no memory locked: %v\n%s", pid, err, said)
			return
		}
	}
}

// TestDetached: the parent ends at once, the daemon runs in a session of its own and holds the lock.
func TestDetached(t *testing.T) {
	need.Root(t)
	dir := filepath.Join(t.TempDir(), "run")
	cmd, out := program(t, dir, "detach")
	if err := cmd.Run(); err != nil {
		t.Fatalf("parent: %v\n%s", err, out)
	}
	c := reach(t, dir)
	defer c.Close()
	text, err := os.ReadFile(filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid == cmd.Process.Pid {
		t.Fatalf("pid file %q", text)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	if session := strings.Fields(rest)[3]; session != strconv.Itoa(pid) {
		t.Errorf("session %s of process %d", session, pid)
	}
	shutdown := sanlockwire.NewHeader(sanlockwire.CmdShutdownWait, 0, 0, 0, 0).Append(nil)
	if _, err := c.Write(shutdown); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 64)); n != sanlockwire.HeaderSize {
		t.Errorf("answer at the end: %d bytes, %v", n, err)
	}
}

// TestRealProcess removes a lockspace on a file while a real process holds a lease, which must be killed.
func TestRealProcess(t *testing.T) {
	need.Root(t)
	dir := filepath.Join(t.TempDir(), "run")
	file := filepath.Join(t.TempDir(), "area")
	space := leases.NameOf("LS")
	area := append(ondisk.FormatLockspace(grid, space, 1), ondisk.FormatResource(grid, space, leases.NameOf("r1"), 0)...)
	if err := os.WriteFile(file, area, 0o600); err != nil {
		t.Fatal(err)
	}
	daemon, out := program(t, dir, "-D")
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = daemon.Process.Kill() // it may have ended
		_ = daemon.Wait()
		if t.Failed() {
			t.Log(out)
		}
	}()
	ask := func(c net.Conn, h sanlockwire.Header, body []byte) int32 {
		if _, err := c.Write(append(h.Append(nil), body...)); err != nil {
			t.Fatal(err)
		}
		r, err := sanlockwire.ReadHeader(c)
		if err != nil && r.Magic != sanlockwire.Magic {
			t.Fatal(err)
		}
		return r.Result()
	}
	c := reach(t, dir)
	defer c.Close()
	ls := sanlockwire.Lockspace{Name: space, HostID: 1, Disk: sanlockwire.Disk{Path: file}}.Append(nil)
	check(t, "add", ask(c, sanlockwire.NewHeader(add, 0, len(ls), 1, 0), ls), 0)

	holder := exec.Command("/proc/self/exe")
	holder.Env = append(os.Environ(), holderEnv+"="+dir+":"+file)
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	var told [3]byte
	if _, err := stdout.Read(told[:]); err != nil || string(told[:2]) != "0\n" {
		t.Fatalf("holder said %q, %v", told, err)
	}
	check(t, "rem", ask(c, sanlockwire.NewHeader(rem, 0, len(ls), 0, 0), ls), 0)
	err = holder.Wait()
	if status, ok := holder.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("the holder ended with %v, want SIGKILL", err)
	}
}

// holderEnv makes the test program a client that takes r1 and then waits; its value is RUNDIR:FILE.
const holderEnv = "TENURE_TEST_HOLDER"

func runHolder() int {
	dir, file, _ := strings.Cut(os.Getenv(holderEnv), ":")
	c, err := net.Dial("unix", filepath.Join(dir, socketName))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	r := sanlockwire.Resource{
		Space: leases.NameOf("LS"), Name: leases.NameOf("r1"),
		Disks: []sanlockwire.Disk{{Path: file, Offset: ondisk.MiB}},
	}
	body := acquireBody(r)
	p := sanlockwire.NewHeader(sanlockwire.CmdRegister, 0, 0, 0, 0).Append(nil)
	p = append(p, sanlockwire.NewHeader(sanlockwire.CmdAcquire, 0, len(body), 1, self).Append(nil)...)
	if _, err := c.Write(append(p, body...)); err != nil {
		fmt.Println(err)
		return 1
	}
	h, err := sanlockwire.ReadHeader(c)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(h.Result())
	time.Sleep(time.Hour)
	return 0
}

func TestDemoFire(t *testing.T) {
	for _, c := range []struct {
		watchdog   int
		env        string
		want       int
		bad, warns bool
	}{
		{0, "", 60, false, false},
		{0, "10", 10, false, true},
		{0, "x", 60, true, false},
		{0, "0", 60, true, false},
		{1, "10", 60, false, false},
	} {
		t.Setenv(DemoFireEnv, c.env)
		l := &logText{}
		cfg := Config{Config: config.Defaults(), Log: zerolog.New(l)}
		cfg.UseWatchdog = c.watchdog
		err := applyDemoFire(&cfg)
		if (err != nil) != c.bad || cfg.WatchdogFireTimeout != c.want || (l.String() != "") != c.warns {
			t.Errorf("-w %d, %q: fire %d, %v, log %q", c.watchdog, c.env, cfg.WatchdogFireTimeout, err, l)
		}
	}
	cfg := Config{Config: config.Defaults()}
	cfg.OurHostName, cfg.WatchdogFireTimeout = "a", 30
	if err := cfg.Validate(); err == nil {
		t.Error("a fire time of 30 s with a watchdog was accepted")
	}
}

func TestHostName(t *testing.T) {
	a, err := newHostName(strings.Repeat("n", 100))
	if err != nil {
		t.Fatal(err)
	}
	b, err := newHostName("node")
	if err != nil {
		t.Fatal(err)
	}
	if !leases.Fits(a) || len(a) != 47 || a[36] != '.' || !strings.HasSuffix(b, ".node") || a[:36] == b[:36] {
		t.Errorf("host names %q, %q", a, b)
	}
}
