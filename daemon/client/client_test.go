package client_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

func dial(t *testing.T, dir string) *client.Conn {
	t.Helper()
	c, err := client.Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var someLease = sanlockwire.Resource{
	Space: leases.NameOf("ls"), Name: leases.NameOf("r"), Disks: []sanlockwire.Disk{{Path: "/dev/x", Offset: 1 << 20}},
}

func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	if _, err := client.Dial(t.Context(), dir); !errors.Is(err, syscall.ENOENT) || sanlockwire.ResultOf(err) != -2 {
		t.Errorf("no socket: %v", err)
	}
	// What a daemon leaves behind when it ends.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, client.SocketName)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := client.Dial(t.Context(), dir); sanlockwire.ResultOf(err) != -111 {
		t.Errorf("a stale socket: %v", err)
	}
}

func TestRunDir(t *testing.T) {
	t.Setenv("SANLOCK_RUN_DIR", "")
	if got := client.RunDir(); got != "/run/sanlock" {
		t.Errorf("default %s", got)
	}
	dir := serve(t, result(0))
	t.Setenv("SANLOCK_RUN_DIR", dir)
	if err := client.Do(t.Context(), "", func(c *client.Conn) error { return c.Restrict(t.Context(), 0) }); err != nil {
		t.Error(err)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	c := dial(t, serve(t, result(-243)))
	err := c.Acquire(t.Context(), client.Self, 0, "", someLease)
	var r *sanlockwire.Result
	if !errors.As(err, &r) || r.Number != -243 || r.Name != "SANLK_ACQUIRE_IDLIVE" {
		t.Errorf("%v", err)
	}
	if leases.KindOf(err) != leases.Held {
		t.Errorf("kind %d", leases.KindOf(err))
	}
	// A refusal is an answer: the connection goes on.
	if _, err := c.Release(t.Context(), client.Self, 0, someLease); leases.KindOf(err) != leases.Held {
		t.Errorf("second call: %v", err)
	}
}

// silent is a daemon that never answers.
func silent(sanlockwire.Header, []byte) ([]byte, bool) { return nil, false }

func TestContextCutsACallOff(t *testing.T) {
	c := dial(t, serve(t, silent))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := c.Acquire(ctx, client.Self, 0, "", someLease)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("cut off: %v", err)
	}
	// The answer may still come and must not be taken for the next one's.
	if _, _, err := c.Version(t.Context()); err == nil {
		t.Error("a connection out of step is used again")
	}
}

func TestEndedContextSendsNothing(t *testing.T) {
	asked := make(chan uint32, 2)
	c := dial(t, serve(t, func(h sanlockwire.Header, p []byte) ([]byte, bool) {
		asked <- h.Cmd
		return result(0)(h, p)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Restrict(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, _, err := c.Version(t.Context()); err != nil {
		t.Errorf("the connection is unusable: %v", err)
	}
	if got := <-asked; got != sanlockwire.CmdVersion {
		t.Errorf("command %d was sent", got)
	}
}

func TestHungUp(t *testing.T) {
	c := dial(t, serve(t, func(sanlockwire.Header, []byte) ([]byte, bool) { return nil, true }))
	if err := c.Restrict(t.Context(), 0); !errors.Is(err, client.ErrHungUp) {
		t.Errorf("%v", err)
	}
}

// Answers that no daemon gives are errors and take no memory.
func TestAnswersAreBounded(t *testing.T) {
	huge := func(f func(h *sanlockwire.Header)) answer {
		return func(q sanlockwire.Header, _ []byte) ([]byte, bool) {
			h := q.Reply(0, 0)
			f(&h)
			return h.Append(nil), true
		}
	}
	for _, c := range []struct {
		name string
		f    answer
		call func(ctx context.Context, c *client.Conn) error
	}{
		{
			"inquire", huge(func(h *sanlockwire.Header) { h.Length = ^uint32(0) }),
			func(ctx context.Context, c *client.Conn) error { _, err := c.Inquire(ctx, client.Self); return err },
		},
		{
			"value", huge(func(h *sanlockwire.Header) { h.Length = 32 + 4097 }),
			func(ctx context.Context, c *client.Conn) error { _, err := c.GetLVB(ctx, someLease); return err },
		},
		{
			"lockspaces", huge(func(h *sanlockwire.Header) { h.Data2 = ^uint32(0) }),
			func(ctx context.Context, c *client.Conn) error { _, err := c.GetLockspaces(ctx); return err },
		},
		{
			"log", huge(func(h *sanlockwire.Header) { h.Data = 1 << 30 }),
			func(ctx context.Context, c *client.Conn) error { _, err := c.LogDump(ctx); return err },
		},
		{
			"magic", huge(func(h *sanlockwire.Header) { h.Magic = 1 }),
			func(ctx context.Context, c *client.Conn) error { return c.Restrict(ctx, 0) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.call(t.Context(), dial(t, serve(t, c.f))); err == nil || errors.Is(err, client.ErrHungUp) {
				t.Errorf("%v", err)
			}
		})
	}
}

// What follows a broken answer is not taken for the next one.
func TestBrokenAnswerEndsTheConnection(t *testing.T) {
	c := dial(t, serve(t, func(h sanlockwire.Header, _ []byte) ([]byte, bool) {
		out := h.Reply(0, 0)
		if h.Cmd == sanlockwire.CmdInquire {
			out.Length = ^uint32(0)
		}
		return out.Append(nil), false
	}))
	if err := c.Restrict(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Inquire(t.Context(), client.Self); err == nil {
		t.Fatal("an answer without end was taken")
	}
	if err := c.Restrict(t.Context(), 0); err == nil {
		t.Error("the connection goes on in the middle of an answer")
	}
}

func TestRequestsAreBounded(t *testing.T) {
	c := dial(t, serve(t, result(0)))
	many := make([]sanlockwire.Resource, 9)
	five := someLease
	five.Disks = make([]sanlockwire.Disk, 5)
	long := string(bytes.Repeat([]byte("x"), 127))
	_, releaseErr := c.Release(t.Context(), client.Self, 0, many...)
	for name, err := range map[string]error{
		"nine resources": c.Acquire(t.Context(), client.Self, 0, "", many...),
		"nine releases":  releaseErr,
		"five disks":     c.Acquire(t.Context(), client.Self, 0, "", five),
		"a long value":   c.SetLVB(t.Context(), someLease, make([]byte, 4097)),
		"a long path":    c.Killpath(t.Context(), long, "", 0),
		"long arguments": c.Killpath(t.Context(), "", long, 0),
	} {
		if leases.KindOf(err) != leases.TooBig {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Restrict(t.Context(), 0); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestEvents(t *testing.T) {
	e := sanlockwire.Event{
		HostEvent:  sanlockwire.HostEvent{HostID: 1, Generation: 2, Event: 3, Data: 4},
		FromHostID: 5, FromGeneration: 6,
	}
	dir := serve(t, func(h sanlockwire.Header, p []byte) ([]byte, bool) {
		out, _ := result(0)(h, p)
		return e.Append(out), true
	})
	c := dial(t, dir)
	if err := c.RegEvent(t.Context(), sanlockwire.Lockspace{Name: leases.NameOf("ls")}); err != nil {
		t.Fatal(err)
	}
	got, err := c.NextEvent(t.Context())
	if diff := cmp.Diff(e, got); err != nil || diff != "" {
		t.Errorf("%v (-sent +got):\n%s", err, diff)
	}
	if _, err := c.NextEvent(t.Context()); !errors.Is(err, client.ErrHungUp) {
		t.Errorf("after the end: %v", err)
	}
}

func TestEndEvents(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, client.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, dir)
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if err := c.EndEvents(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5)
	if n, _ := there.Read(p); !bytes.Equal(p[:n], []byte{1, 0, 0, 0}) {
		t.Errorf("the end of events is % x", p[:n])
	}
}

// The inherited descriptor keeps the connection, and so the leases, when everything else of it is closed.
func TestInherit(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, client.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, dir)
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	fd, err := c.Inherit()
	if err != nil {
		t.Fatal(err)
	}
	copied := os.NewFile(uintptr(fd), "copy")
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	if errno != 0 || flags&syscall.FD_CLOEXEC != 0 {
		t.Errorf("descriptor flags %#x, %v: it would be closed by exec", flags, errno)
	}
	c.Close()
	if err := there.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the other side sees %v although a copy is open", err)
	}
	copied.Close()
	if err := there.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the other side sees %v although the last copy is closed", err)
	}
}
