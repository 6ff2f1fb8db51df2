package client_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// answer is what a fake daemon does with a request: the bytes it sends, and whether it hangs up then.
type answer func(h sanlockwire.Header, body []byte) (reply []byte, hangUp bool)

// fake is a daemon that answers as a test says.
type fake struct {
	dir  string
	l    net.Listener
	wait sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn // listed below mu: closed at the end
}

// serve starts a fake daemon in a directory of its own and returns that directory.
func serve(tb testing.TB, reply answer) string {
	tb.Helper()
	f := &fake{dir: tb.TempDir()}
	var err error
	if f.l, err = net.Listen("unix", filepath.Join(f.dir, "sanlock.sock")); err != nil {
		tb.Fatal(err)
	}
	f.wait.Go(func() {
		for {
			c, err := f.l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			f.wait.Go(func() { f.talk(tb, c, reply) })
		}
	})
	tb.Cleanup(f.close)
	return f.dir
}

func (f *fake) close() {
	f.l.Close()
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.wait.Wait()
}

func (f *fake) talk(tb testing.TB, c net.Conn, reply answer) {
	defer c.Close()
	for {
		h, body, err := sanlockwire.ReadRequest(c)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
				tb.Logf("fake daemon: %v", err)
			}
			return
		}
		p, hangUp := reply(h, body)
		if _, err := c.Write(p); err != nil || hangUp {
			return
		}
	}
}

// result answers every request that has an answer with a result and no body.
func result(n int32) answer {
	return func(h sanlockwire.Header, _ []byte) ([]byte, bool) {
		if c, _ := sanlockwire.CommandOf(h.Cmd); c.Silent {
			return nil, false
		}
		return h.Reply(n, 0).Append(nil), false
	}
}
