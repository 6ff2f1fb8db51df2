package interop

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/tools/need"
)

// ended is how a `sanlock daemon` that does not go on ended.
type ended struct {
	Out  string
	Code int
}

// runDaemon runs a command line that ends at once, and returns how.
func runDaemon(t *testing.T, k kind, runDir string, args ...string) ended {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), k.program(t), append([]string{"daemon"}, args...)...)
	cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+runDir, "SANLOCK_PRIVILEGED=0")
	timer := time.AfterFunc(startWait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{string(out), cmd.ProcessState.ExitCode()}
}

// TestDaemonRefuses: what keeps a daemon from starting is said and exits as with stock.
func TestDaemonRefuses(t *testing.T) {
	waiting(t, 5)
	need.Root(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := start(t, debian, 1).runDir
	for _, c := range []struct {
		name, runDir string
		args         []string
	}{
		{"an unknown option", dir, []string{"-q", "1"}},
		{"an option that is no letter", dir, []string{"--debug"}},
		{"a value without its blank", dir, []string{"-w0"}},
		{"a word", dir, []string{"start"}},
		{"a value left out", dir, []string{"-D", "-w"}},
		{"an area size without a sector size", dir, []string{"-D", "-A", "1M"}},
		{"another daemon runs", taken, []string{"-D", "-w", "0", "-l", "0", "-h", "0"}},
		{"the run directory is a file", file, []string{"-D", "-w", "0", "-l", "0", "-h", "0"}},
		{"the run directory is in none", filepath.Join(dir, "a", "b"), []string{"-D", "-w", "0", "-l", "0", "-h", "0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, got := runDaemon(t, debian, c.runDir, c.args...), runDaemon(t, tenure, c.runDir, c.args...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("sanlock daemon %q (-debian +ours):\n%s", c.args, diff)
			}
		})
	}
}

// TestDaemonDetaches: without -D the command ends with 0 and the daemon goes on, which the lock file names;
// a second one ends with 0 too, though its daemon cannot start.
func TestDaemonDetaches(t *testing.T) {
	waiting(t, 10)
	need.Root(t)
	for _, k := range []kind{debian, tenure} {
		dir := filepath.Join(t.TempDir(), "run")
		for range 2 {
			if got := runDaemon(t, k, dir, "-w", "0", "-l", "0", "-h", "0"); got != (ended{}) {
				t.Errorf("%s: sanlock daemon: exit code %d, said %q", k, got.Code, got.Out)
			}
			awaitSocket(t, dir)
		}
		text, err := os.ReadFile(filepath.Join(dir, "sanlock.pid"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSuffix(string(text), "\n"))
		if err != nil || pid <= 1 {
			t.Fatalf("%s: sanlock.pid holds %q", k, text)
		}
		if exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); err != nil {
			t.Errorf("%s: process %d of sanlock.pid: %v", k, pid, err)
		} else if cwd, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd"); err != nil || cwd != "/" {
			t.Errorf("%s: %s works in %s, %v", k, exe, cwd, err)
		}
		awaitAlone(t, dir, pid)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		awaitNoSocket(t, dir)
		for _, name := range []string{"sanlock.pid", "sanlock.sock"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Errorf("%s: after the end: %v", k, err)
			}
		}
	}
}

// awaitAlone waits until the daemon and its children are the only processes that run in the directory: one
// that is still to find the lock taken would take it when the daemon has ended.
func awaitAlone(t *testing.T, runDir string, daemon int) {
	t.Helper()
	for end := time.Now().Add(startWait); ; time.Sleep(pollPause) {
		var others []string
		dirs, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			t.Fatal(err)
		}
		for _, proc := range dirs {
			environ, _ := os.ReadFile(filepath.Join(proc, "environ")) // it may be gone, or not ours to read
			stat, _ := os.ReadFile(filepath.Join(proc, "stat"))
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			if !strings.Contains(string(environ), "SANLOCK_RUN_DIR="+runDir+"\x00") || len(fields) < 2 {
				continue
			}
			if id := strconv.Itoa(daemon); filepath.Base(proc) != id && fields[1] != id {
				others = append(others, proc)
			}
		}
		if len(others) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("beside daemon %d in %s: %v", daemon, runDir, others)
		}
	}
}

func awaitSocket(t *testing.T, runDir string) {
	t.Helper()
	for end := time.Now().Add(startWait); ; time.Sleep(pollPause) {
		c, err := dial(runDir)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no daemon in %s: %v", runDir, err)
		}
	}
}

func awaitNoSocket(t *testing.T, runDir string) {
	t.Helper()
	for end := time.Now().Add(startWait); ; time.Sleep(pollPause) {
		c, err := dial(runDir)
		if err != nil {
			return
		}
		_ = c.Close()
		if time.Now().After(end) {
			t.Fatalf("the daemon in %s does not end", runDir)
		}
	}
}

// TestRunDirectory: what the daemon makes there, and with which rights.
func TestRunDirectory(t *testing.T) {
	waiting(t, 5)
	modes := func(k kind) map[string]string {
		n := start(t, k, 1)
		all := map[string]string{}
		for _, name := range []string{"", "sanlock.pid", "sanlock.sock"} {
			info, err := os.Stat(filepath.Join(n.runDir, name))
			if err != nil {
				t.Fatal(err)
			}
			all[name] = info.Mode().String()
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				all[name] += " " + strconv.Itoa(int(s.Uid)) + ":" + strconv.Itoa(int(s.Gid))
			}
		}
		return all
	}
	if diff := cmp.Diff(modes(debian), modes(tenure)); diff != "" {
		t.Errorf("(-debian +ours):\n%s", diff)
	}
}
