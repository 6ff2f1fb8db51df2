package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/tools/need"
)

// TestDebianLibraries runs programs that use Debian's client libraries, once against Debian's daemon and
// once against ours, on the same empty device. What they print must be equal to the byte.
func TestDebianLibraries(t *testing.T) {
	t.Parallel()
	need.Root(t)
	python := need.Program(t, "python3")
	binary := filepath.Join(t.TempDir(), "client")
	cc := exec.Command(need.Program(t, "cc"), "-Wall", "-o", binary, "testdata/client.c", "-lsanlock_client")
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("compile testdata/client.c: %v\n%s", err, out)
	}
	var trials []trial
	for _, sector := range []int64{512, 4096} {
		trials = append(trials,
			trial{fmt.Sprintf("C, %d", sector), func(t *testing.T) { sameOutput(t, sector, binary) }},
			trial{fmt.Sprintf("python, %d", sector), func(t *testing.T) {
				if err := exec.Command(python, "-c", "import sanlock").Run(); err != nil {
					t.Skip("needs python: module sanlock is not installed")
				}
				sameOutput(t, sector, python, "testdata/client.py")
			}})
	}
	together(t, trials...)
}

// sameOutput runs the program against a daemon of each kind, in turn on one device that is blank each time.
func sameOutput(t *testing.T, sector int64, program ...string) {
	align := layouts[sector].align
	dev := need.Loop(t, int(sector), 4*align)
	var texts [2]string
	for _, k := range []kind{debian, tenure} {
		d := disk{dev, layouts[sector]}
		for off := int64(0); off < 4*align; off += align {
			d.write(t, off, make([]byte, align))
		}
		n := start(t, k, 1)
		cmd := exec.Command(program[0], append(program[1:], dev, fmt.Sprint(sector))...)
		cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+n.runDir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s against %s: %v\n%s", filepath.Base(program[0]), n, err, out)
		}
		texts[k] = string(out)
	}
	if diff := cmp.Diff(texts[debian], texts[tenure]); diff != "" {
		t.Errorf("Debian's daemon (-) and ours (+):\n%s", diff)
	}
}
