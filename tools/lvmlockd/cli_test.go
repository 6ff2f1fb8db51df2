package lvmlockd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlockd"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// mainEnv makes this test binary the program, with the arguments it has.
const mainEnv = "TENURE_TEST_LVMLOCKD_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		os.Exit(Main(nobody, os.Args, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// nobody is the lock managers of a machine that has none.
func nobody(*Options, zerolog.Logger) ([]lvmlock.LockManager, error) {
	return nil, errors.New("no lock manager here")
}

// TestExitCodes are those that stock gave.
func TestExitCodes(t *testing.T) {
	for line, want := range map[string]struct {
		code     int
		out, err string
	}{
		"-h":                          {0, "Usage:\nlvmlockd [options]\n", ""},
		"-V":                          {0, "lvmlockd version: 2.03.40(2)-git", ""},
		"--dialect 16 -V":             {0, "lvmlockd version: 2.03.16(2) (2022-05-18)\n", ""},
		"--ver":                       {0, "lvmlockd version: ", ""},
		"extra -V":                    {0, "lvmlockd version: ", ""},
		"-S bad -o abc -V":            {0, "lvmlockd version: ", ""},
		"-g sanlock -g dlm -V -g bad": {0, "lvmlockd version: ", ""},
		"-g bad -V":                   {1, "", "invalid gl-type option\n"},
		"--gl-type=idm -V":            {1, "", "invalid gl-type option\n"},
		"-l x -V":                     {1, "Usage:\n", ""},
		"-g":                          {1, "Usage:\n", "lvmlockd: option requires an argument -- 'g'\n"},
		"--zzz":                       {1, "Usage:\n", "lvmlockd: unrecognized option '--zzz'\n"},
		"--h":                         {1, "Usage:\n", "lvmlockd: option '--h' is ambiguous; possibilities: '--help' '--host-id' '--host-id-file'\n"},
		"--dialect 17":                {1, "", "invalid dialect"},
		"-F /nonexistent -D":          {1, "", "host id: open /nonexistent"},
	} {
		var out, stderr bytes.Buffer
		got := Main(nobody, append([]string{"lvmlockd"}, strings.Fields(line)...), &out, &stderr)
		if got != want.code || !strings.HasPrefix(out.String(), want.out) || !strings.HasPrefix(stderr.String(), want.err) {
			t.Errorf("%q: exit code %d, stdout %.40q, stderr %q; want %+v", line, got, out.String(), stderr.String(), want)
		}
		if want.out == "" && out.Len() > 0 {
			t.Errorf("%q: prints %q", line, out.String())
		}
	}
}

func TestOptions(t *testing.T) {
	t.Setenv("LVM_LVMLOCKD_PIDFILE", "/env/pid")
	t.Setenv("LVM_LVMLOCKD_SOCKET", "/env/socket")
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, []byte("# mine\nother=3\n host_id = 42 \nhost_id=43\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	defaults := Options{Config: lvmlockd.Config{
		PIDFile: "/env/pid", Socket: "/env/socket", Adopt: true, LogLevel: zerolog.WarnLevel, Dialect: lvmwire.Dialect40,
	}}
	for line, change := range map[string]func(*Options){
		"":                         func(*Options) {},
		"-p p -s s --adopt-file a": func(o *Options) { o.PIDFile, o.Socket, o.AdoptFile = "p", "s", "a" },
		"-TfA0":                    func(o *Options) { o.Test, o.Foreground, o.Adopt = true, true, false },
		"-D -S debug -g dlm": func(o *Options) {
			o.Debug, o.Foreground, o.LogLevel, o.GL = true, true, zerolog.DebugLevel, lvmwire.DLM
		},
		"-S err --host-id 7 -o 20 -g sanlock": func(o *Options) {
			o.LogLevel, o.HostID, o.IOTimeout, o.GL = zerolog.ErrorLevel, 7, 20, lvmwire.Sanlock
		},
		"-i 3 -F " + file:         func(o *Options) { o.HostID = 42 },
		"-A x -o -3 --dialect=16": func(o *Options) { o.Adopt, o.Dialect = false, lvmwire.Dialect16 },
	} {
		want := defaults
		change(&want)
		got, action, err := parse(append([]string{"lvmlockd"}, strings.Fields(line)...), os.Stderr)
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w || action != serve || err != nil {
			t.Errorf("%q: error %v, action %d\n got %s\nwant %s", line, err, action, g, w)
		}
	}
}

// program runs the test binary as lvmlockd.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), mainEnv+"=1")
	return cmd
}

// TestDetached: without -f the program returns when the daemon can be connected to, and tells why if it cannot start.
func TestDetached(t *testing.T) {
	dir := t.TempDir()
	paths := []string{"-T", "-g", "dlm", "-p", filepath.Join(dir, "pid"), "-s", filepath.Join(dir, "s")}
	if out, err := program(paths...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	self, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	out, err := program(paths...).CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 13 || !bytes.Contains(out, []byte("already running")) {
		t.Errorf("a second one: %v, %q; want exit code 13", err, out)
	}
	if err := self.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(10 * time.Second); self.Signal(syscall.Signal(0)) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("SIGINT does not end it")
		}
	}
}

// TestNoLockManager: without --test the lock managers are asked for.
func TestNoLockManager(t *testing.T) {
	dir := t.TempDir()
	out, err := program("-f", "-p", filepath.Join(dir, "pid"), "-s", filepath.Join(dir, "s")).CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 ||
		!bytes.Contains(out, []byte("no lock manager here")) {
		t.Errorf("%v, %q; want exit code 1 and the reason", err, out)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
