package interop

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/tools/need"
)

// clientProgram is a program in testdata that uses Debian's client libraries. COVERAGE.md says which calls
// what.
type clientProgram struct {
	source  string
	library string // that a C program is linked with
	areas   int64  // of the device
	hosts   int    // daemons: the first is the one that is judged, the second is always Debian's
}

var clientPrograms = []clientProgram{
	{source: "client.c", library: "sanlock_client", areas: 4, hosts: 1},
	{source: "direct.c", library: "sanlock", areas: 4, hosts: 1},
	{source: "index.c", library: "sanlock_client", areas: 8, hosts: 1},
	{source: "events.c", library: "sanlock_client", areas: 4, hosts: 2},
	{source: "client.py", areas: 4, hosts: 1},
	{source: "events.py", areas: 4, hosts: 2},
}

// TestDebianLibraries runs programs that use Debian's client libraries, once against Debian's daemon and
// once against ours, each on an empty device. What they print must be equal to the byte but for the device's name.
func TestDebianLibraries(t *testing.T) {
	waiting(t, 30)
	need.Root(t)
	var trials []trial
	for _, p := range clientPrograms {
		command := p.command(t)
		for _, sector := range []int64{512, 4096} {
			trials = append(trials, trial{
				fmt.Sprintf("%s, %d", p.source, sector), func(t *testing.T) { p.compare(t, sector, command) },
			})
		}
	}
	together(t, trials...)
}

// command returns how the program is run, after it has been compiled.
func (p clientProgram) command(t *testing.T) []string {
	t.Helper()
	source := filepath.Join("testdata", p.source)
	if filepath.Ext(source) == ".py" {
		python := need.Program(t, "python3")
		if err := exec.Command(python, "-c", "import sanlock").Run(); err != nil {
			need.Unmet(t, "python", "module sanlock is not installed")
		}
		return []string{python, source}
	}
	return []string{compile(t, source, "-l"+p.library)}
}

// compile makes a program of a C source and returns its path.
func compile(t *testing.T, source string, flags ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "program")
	args := append([]string{"-Wall", "-Werror", "-o", binary, source}, flags...)
	if out, err := exec.Command(need.Program(t, "cc"), args...).CombinedOutput(); err != nil {
		t.Fatalf("compile %s: %v\n%s", source, err, out)
	}
	return binary
}

// compare runs the program against a daemon of each kind.
func (p clientProgram) compare(t *testing.T, sector int64, command []string) {
	var texts [2]string
	var both []trial
	for _, k := range []kind{debian, tenure} {
		both = append(both, trial{k.String(), func(t *testing.T) {
			dev := newLoop(t, int(sector), p.areas*layouts[sector].align)
			text := p.run(t, k, slices.Concat(command, []string{dev, fmt.Sprint(sector)}))
			texts[k] = strings.ReplaceAll(text, dev, "DEVICE")
		}})
	}
	together(t, both...)
	if diff := cmp.Diff(texts[debian], texts[tenure]); diff != "" {
		t.Errorf("Debian's daemon (-) and ours (+):\n%s", diff)
	}
}

// run starts the daemons and returns what the program printed.
func (p clientProgram) run(t *testing.T, k kind, command []string) string {
	n := start(t, k, 1)
	if p.hosts == 2 {
		command = append(command, start(t, debian, 2).runDir)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+n.runDir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s against %s: %v\n%s%s", p.source, n, err, out, stderr.String())
	}
	if os.Getenv("TENURE_SHOW") != "" {
		t.Logf("%s against %s:\n%s", p.source, n, out)
	}
	return string(out)
}
