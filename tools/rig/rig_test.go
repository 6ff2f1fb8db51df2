package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// TestHelpHasEveryWord: what is understood is in the help.
func TestHelpHasEveryWord(t *testing.T) {
	for word := range plain {
		if !strings.Contains(help, word+" N") {
			t.Errorf("help does not have %q", word)
		}
	}
	for word := range onDisk {
		if !strings.Contains(help, word+" N") {
			t.Errorf("help does not have %q", word)
		}
	}
}

func TestWordsThatFail(t *testing.T) {
	ctx := context.Background()
	for line, want := range map[string]string{
		"cut 1":        `there is no machine "1"`,
		"1 true":       `there is no machine "1"`,
		"spawn x y":    `there is no machine "x"`,
		"sleep a bit":  "invalid syntax",
		"# no command": "",
		"":             "",
	} {
		err := execute(ctx, &vm.Rig{}, line, &strings.Builder{})
		if got := errText(err); !strings.Contains(got, want) || (want == "") != (err == nil) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	err := fault(ctx, &vm.Machine{}, "blow", nil)
	if !strings.Contains(errText(err), `"blow" is not understood`) {
		t.Errorf("an unknown word: %v", err)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	d, err := disk(path + ",4096")
	if err != nil || d.SectorSize != 4096 || d.Path != path {
		t.Fatalf("disk says %+v, %v", d, err)
	}
	if about, err := os.Stat(path); err != nil || about.Size() != 1<<30 {
		t.Errorf("the file made for it: %v, %v", about, err)
	}
	if d, err := disk(path + ",512,4096"); err != nil || d.SectorSize != 512 || d.PhysicalSize != 4096 {
		t.Errorf("emulated sectors: %+v, %v", d, err)
	}
	for _, wrong := range []string{",many", ",512,many", ",512,4096,8192"} {
		if _, err := disk(path + wrong); err == nil {
			t.Errorf("sectors of %q were taken", wrong)
		}
	}
}
