package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is our binary, made at most once per run of the tests.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	if os.Getenv(holderEnv) != "" {
		os.Exit(hold(os.Getenv(holderEnv)))
	}
	if runDir := os.Getenv(envProcess); runDir != "" {
		os.Exit(connectAndWait(runDir))
	}
	shareMachine()
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// ours returns the path of a link named sanlock to our binary, built from this tree.
func ours(tb testing.TB) string {
	tb.Helper()
	built.once.Do(func() {
		//nolint:usetesting // it outlives the test that builds it: TestMain removes it
		if built.dir, built.err = os.MkdirTemp("", "interop"); built.err != nil {
			return
		}
		binary := filepath.Join(built.dir, "tenure")
		build := exec.Command("go", "build", "-o", binary, "../tenure")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
			return
		}
		for _, name := range []string{"sanlock", "lvmlockd", "lvmlockctl"} {
			built.err = errors.Join(built.err, os.Symlink("tenure", filepath.Join(built.dir, name)))
		}
	})
	if built.err != nil {
		tb.Fatal(built.err)
	}
	return filepath.Join(built.dir, "sanlock")
}
