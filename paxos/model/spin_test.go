// Package model_test has spin walk the model of the ballot.
package model_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tenurelock/tenure/tools/need"
)

// verify lets spin walk ballot.pml under some definitions to its end, and returns what its verifier says.
func verify(t *testing.T, defines string) string {
	t.Helper()
	spin, cc := need.Program(t, "spin"), need.Program(t, "cc")
	model, err := filepath.Abs("ballot.pml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, command := range [][]string{
		append(append([]string{spin, "-a"}, strings.Fields(defines)...), model),
		{cc, "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=2000", "-o", "pan", "pan.c"},
	} {
		c := exec.CommandContext(t.Context(), command[0], command[1:]...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
	}
	c := exec.CommandContext(t.Context(), filepath.Join(dir, "pan"), "-m1000000")
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

var stored = regexp.MustCompile(`(\d+) states, stored`)

// TestModel: spin finds one value only in what PROOF.md says of a round, and reaches the end of each walk.
func TestModel(t *testing.T) {
	walks := []string{
		"", "-DDISKS=3", "-DHOSTS=3 -DTRIES=1", "-DHOSTS=3 -DTRIES=1 -DCRASHES=1", "-DCRASHES=1 -DFAULTS=1",
	}
	if os.Getenv("TENURE_EXPLORE") == "deep" {
		walks = append(walks, "-DCRASHES=1 -DFAULTS=1 -DTRIES=3", "-DDISKS=3 -DFAULTS=1",
			"-DDISKS=2 -DFAULTS=2 -DCRASHES=1")
	}
	for _, defines := range walks {
		t.Run(defines, func(t *testing.T) {
			t.Parallel()
			out := verify(t, defines)
			states := stored.FindStringSubmatch(out)
			for _, bad := range []string{"search not completed", "max search depth too small", "out of memory"} {
				if strings.Contains(out, bad) {
					t.Errorf("the walk did not end: %s", bad)
				}
			}
			if states == nil || !strings.Contains(out, "errors: 0") {
				t.Fatalf("%s", out)
			}
			t.Logf("%s states", states[1])
		})
	}
}

// TestModelMutants: the model notices each rule that is taken out of it.
func TestModelMutants(t *testing.T) {
	for rule, defines := range map[string]string{
		"a larger mbal in phase 2 stops the ballot": "-DDEAF",
		"a value seen in phase 1 is taken over":     "-DNOADOPT",
		"phase 1 keeps our own vote":                "-DFORGET -DCRASHES=1",
		"half of the disks is no majority":          "-DDISKS=2 -DMAJORITY=1 -DFAULTS=4 -DTRIES=1",
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			if out := verify(t, defines); !strings.Contains(out, "assertion violated") {
				t.Errorf("broken rule not noticed:\n%s", out)
			}
		})
	}
}
