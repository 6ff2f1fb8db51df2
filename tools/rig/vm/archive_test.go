package vm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/need"
)

// TestArchiveIsCpio lets another program list and unpack what write wrote.
func TestArchiveIsCpio(t *testing.T) {
	cpio := need.Program(t, "cpio")
	a := archive{}
	a.link("/bin", "usr/bin")
	a.file("/bin/tool", 0o755, []byte("#!/bin/sh\necho it works\n"))
	a.file("/etc/empty", 0o644, nil)
	for n := range 5 { // every padding
		a.file("/etc/"+strings.Repeat("n", n+1), 0o600, bytes.Repeat([]byte{'x'}, n))
	}
	var out bytes.Buffer
	if err := a.write(&out); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unpack := exec.Command(cpio, "--extract", "--quiet", "--no-preserve-owner", "--no-absolute-filenames")
	unpack.Dir, unpack.Stdin = dir, &out
	if text, err := unpack.CombinedOutput(); err != nil || len(text) > 0 {
		t.Fatalf("cpio: %v: %s", err, text)
	}
	text, err := exec.Command(dir + "/bin/tool").CombinedOutput() // by the link, to the file with /usr
	if err != nil || string(text) != "it works\n" {
		t.Errorf("the program in the archive says %q, %v", text, err)
	}
	text, err = exec.Command("cat", dir+"/etc/nnnnn").CombinedOutput()
	if err != nil || string(text) != "xxxx" {
		t.Errorf("a file of 4 bytes has %q, %v", text, err)
	}
}

// TestSum: the name of an image in the cache changes with each byte and mode, and with nothing else.
func TestSum(t *testing.T) {
	make1 := func(name string, mode uint32, content string) string {
		a := archive{}
		a.file("/a", 0o644, nil)
		a.file(name, mode, []byte(content))
		return a.sum()
	}
	want := make1("/b", 0o644, "content")
	if got := make1("/b", 0o644, "content"); got != want {
		t.Errorf("the same tree has two sums, %s and %s", want, got)
	}
	for _, other := range []string{make1("/c", 0o644, "content"), make1("/b", 0o600, "content"), make1("/b", 0o644, "Content")} {
		if other == want {
			t.Error("another tree has the same sum")
		}
	}
}

// TestCacheIsBounded: the images used last stay.
func TestCacheIsBounded(t *testing.T) {
	cache := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for i := range imagesKept + 3 {
		name := filepath.Join(cache, imagePrefix+strconv.Itoa(i))
		if err := (archive{}).save(cache, name); err != nil {
			t.Fatal(err)
		}
		written := old.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(name, written, written); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(left) != imagesKept {
		t.Fatalf("%d files are left, want %d (%v)", len(left), imagesKept, err)
	}
	for i := range 3 {
		if _, err := os.Stat(filepath.Join(cache, imagePrefix+strconv.Itoa(i))); err == nil {
			t.Errorf("image %d is left, one of the oldest", i)
		}
	}
}
