package place

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	role  = "TENURE_PLACE_TEST"
	mark  = "TENURE_PLACE_TEST_DETACHED"
	wrote = "TENURE_PLACE_TEST_FILE"
)

// TestMain plays the other programs of the tests.
func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "lock":
		if _, err := Lock(os.Getenv(wrote)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "detach":
		if os.Getenv(mark) == "" {
			if err := Detach(mark); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			os.Exit(0)
		}
		dir, _ := os.Getwd()
		sid, _ := unix.Getsid(0)
		text := fmt.Sprint(strings.Join(os.Args[1:], " "), " in ", dir, " leads ", sid == os.Getpid())
		file := os.Getenv(wrote)
		if os.WriteFile(file+".new", []byte(text), 0o600) == nil {
			_ = os.Rename(file+".new", file)
		}
	}
	os.Exit(0)
}

func other(t *testing.T, as, file string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), role+"="+as, wrote+"="+file)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestLockIsForOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.pid")
	f, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "lockfile setlk error " + path + ": Resource temporarily unavailable\n"
	if out, err := other(t, "lock", path); err == nil || out != want {
		t.Errorf("a second daemon: %v, %q; want %q", err, out, want)
	}
	// Only now: closing any descriptor of a file ends its process's locks on it.
	if got, _ := os.ReadFile(path); string(got) != fmt.Sprintf("%d\n", os.Getpid()) {
		t.Errorf("the file says %q", got)
	}
	f.Close()
	if out, err := other(t, "lock", path); err != nil {
		t.Errorf("after the first has ended: %v, %s", err, out)
	}
}

func TestLockSaysWhatFailed(t *testing.T) {
	_, err := Lock(filepath.Join(t.TempDir(), "no", "d.pid"))
	var lock *LockError
	if !errors.As(err, &lock) || lock.Step != Open || lock.Reason() != "No such file or directory" {
		t.Errorf("got %v", err)
	}
}

func TestListenReplacesTheOldSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 2 {
		l, err := Listen(path, 0o660)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the socket went with its listener: %v", err)
		}
	}
}

func TestDetach(t *testing.T) {
	file := filepath.Join(t.TempDir(), "said")
	if out, err := other(t, "detach", file, "one", "two"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const limit = 10 * time.Second
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		got, err := os.ReadFile(file)
		if err == nil {
			if want := "one two in / leads true"; string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody was started")
		}
	}
}
