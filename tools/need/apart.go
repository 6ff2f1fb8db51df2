package need

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// apartEnv holds the name of the test that runs apart.
const apartEnv = "TENURE_TEST_APART"

// Apart runs a test anew in a process of its own, whose mounts and network are its own too, and says whether this is that
// process: a directory that every machine has once is empty there, and no other program puts anything into it. It is
// made if it is missing. The caller returns if this is not that process; what failed there has failed here then. limit
// is how long the test may take. It needs root.
func Apart(t *testing.T, limit time.Duration, dir string) bool {
	t.Helper()
	Root(t)
	if os.Getenv(apartEnv) != t.Name() {
		cmd := exec.Command("unshare", "--mount", "--net", "--propagation", "private", os.Args[0],
			"-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+limit.String())
		cmd.Env = append(os.Environ(), apartEnv+"="+t.Name())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		return false
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as on every machine
		t.Fatal(err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	return true
}
