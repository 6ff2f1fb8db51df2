package lvmwire

import (
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/need"
)

// silence is after how long stock has not answered and will not.
const silence = 3 * time.Second

// TestStockTakesTheSame gives bodies to Debian's lvmlockd.
func TestStockTakesTheSame(t *testing.T) {
	program := need.Program(t, "lvmlockd")
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	cmd := exec.Command(program, "-T", "-D", "-g", "dlm", "-p", filepath.Join(dir, "pid"), "-s", path,
		"--adopt-file", filepath.Join(dir, "adopt"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var all sync.WaitGroup
	for _, b := range bodies {
		c := dialStock(t, path)
		all.Go(func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(silence))
			_, err := c.Write([]byte(b.body + terminator))
			if err != nil {
				t.Errorf("%q: %v", b.body, err)
				return
			}
			m, err := NewReader(c).Next()
			r := Reply{}
			if err == nil {
				r, err = DecodeReply(m)
			}
			if got := err == nil && r.Op == OpHello; got != b.hello {
				t.Errorf("%q: stock takes it for hello: %t, we say %t", b.body, got, b.hello)
			}
		})
	}
	all.Wait()
}

// dialStock connects, once stock listens and has room: one connection may wait to be accepted.
func dialStock(t *testing.T, path string) net.Conn {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("unix", path)
		if err == nil {
			return c
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
