package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo plays the demo, as fast as its waits allow, and looks for its story in the right order.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 seconds")
	}
	t.Parallel()
	dir := t.TempDir()
	bin := filepath.Join(dir, "tenure")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.Command(bin, "demo", "--io-timeout", "1", "--fire", "5")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	rest := string(out)
	for _, line := range []string{
		"nobody has held it yet", "host 1: process", "granted (0)", "version 1: held by host 1, generation 1",
		"refused, SANLK_ACQUIRE_IDLIVE (-243)", "host 1 dies", "host 1 is LIVE silent", "host 1 is FAIL silent",
		"host 2: granted (0)", "version 2: held by host 2, generation 1", "host id 2 is free", "version 2: free",
	} {
		at := strings.Index(rest, line)
		if at < 0 {
			t.Fatalf("no %q after what came before, in:\n%s", line, out)
		}
		rest = rest[at+len(line):]
	}
	if left, err := filepath.Glob(filepath.Join(dir, "demo-area-*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
