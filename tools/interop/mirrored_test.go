package interop

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/tools/need"
)

// mirrored is a lease on three files, each with room for one.
type mirrored struct {
	paths [3]string
	name  string
}

func newMirrored(t *testing.T) mirrored {
	t.Helper()
	s := mirrored{name: "R"}
	arg := "LS:R"
	for i := range s.paths {
		s.paths[i] = filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(s.paths[i], make([]byte, areaSize), 0o600); err != nil {
			t.Fatal(err)
		}
		arg += fmt.Sprintf(":%s:0", s.paths[i])
	}
	disk{layout: layouts[512]}.init(t, need.Program(t, "sanlock"), "-r", arg)
	return s
}

// areaSize is what a lease takes with sectors of 512.
const areaSize = 1 << 20

func (s mirrored) resource() sanlockwire.Resource {
	r := sanlockwire.Resource{Space: leases.NameOf("LS"), Name: leases.NameOf(s.name)}
	for _, path := range s.paths {
		r.Disks = append(r.Disks, sanlockwire.Disk{Path: path})
	}
	return r
}

func (s mirrored) acquire(t *testing.T, c *conn) {
	t.Helper()
	body := sanlockwire.Options{}.Append(s.resource().AppendWithDisks(nil))
	if rv, err := c.result(sanlockwire.CmdAcquire, 0, 1, body); err != nil || rv != 0 {
		t.Fatalf("acquire: %d, %v", rv, err)
	}
}

func (s mirrored) release(t *testing.T, c *conn) int32 {
	t.Helper()
	rv, err := c.result(sanlockwire.CmdRelease, 0, 1, s.resource().Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return rv
}

// leader is the first sector on a disk.
func (s mirrored) leader(t *testing.T, i int) []byte {
	t.Helper()
	all, err := os.ReadFile(s.paths[i])
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(all[:512])
}

func (s mirrored) putLeader(t *testing.T, i int, p []byte) {
	t.Helper()
	f, err := os.OpenFile(s.paths[i], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReleaseOfSeveralDisks: writes that were under way for long put older leaders back on some of a lease's disks,
// and another cannot be read, when it is given back. Where no readable disk has the leader of our version both kinds
// say so (-250); where some have it and some do not, Debian's finds them different (-222), ours takes the newest.
func TestReleaseOfSeveralDisks(t *testing.T) {
	for _, c := range []struct {
		name         string
		old          []int // disks with the leader of the version before
		debian, ours int32
	}{
		{"all that can be read are older", []int{1, 2}, -250, -250},
		{"one that can be read is older", []int{1}, -222, 0},
	} {
		for _, k := range []kind{debian, tenure} {
			t.Run(fmt.Sprintf("%s, %s", c.name, k), func(t *testing.T) {
				d := newDisk(t, 512, 0)
				s := newMirrored(t)
				n := start(t, k, 1)
				n.join(t, d.path)
				client := n.client(t)
				s.acquire(t, client)
				if rv := s.release(t, client); rv != 0 {
					t.Fatalf("release: %d", rv)
				}
				var old [3][]byte
				for i := range old {
					old[i] = s.leader(t, i)
				}
				s.acquire(t, client)
				for _, i := range c.old {
					s.putLeader(t, i, old[i])
				}
				// A file without contents: nothing on it verifies.
				if err := os.Truncate(s.paths[0], 0); err != nil {
					t.Fatal(err)
				}
				want := map[kind]int32{debian: c.debian, tenure: c.ours}[k]
				if rv := s.release(t, client); rv != want {
					t.Errorf("release: %d, want %d\n%s", rv, want, n.tail())
				}
				if err := client.Close(); err != nil {
					t.Error(err)
				}
				n.leave(t)
			})
		}
	}
}
