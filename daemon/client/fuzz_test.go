package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// calls are those whose answers have a body.
var calls = []func(ctx context.Context, c *client.Conn) error{
	func(ctx context.Context, c *client.Conn) error { _, err := c.Inquire(ctx, client.Self); return err },
	func(ctx context.Context, c *client.Conn) error { _, err := c.GetLVB(ctx, someLease); return err },
	func(ctx context.Context, c *client.Conn) error { _, err := c.GetLockspaces(ctx); return err },
	func(ctx context.Context, c *client.Conn) error { _, err := c.LogDump(ctx); return err },
	func(ctx context.Context, c *client.Conn) error {
		_, _, err := c.ReadResourceOwners(ctx, someLease)
		return err
	},
	func(ctx context.Context, c *client.Conn) error {
		_, err := c.GetHosts(ctx, sanlockwire.Lockspace{Name: leases.NameOf("ls")}, 0)
		return err
	},
	func(ctx context.Context, c *client.Conn) error {
		return c.Status(ctx, sanlockwire.StatusAll, func(sanlockwire.State) error { return nil })
	},
	func(ctx context.Context, c *client.Conn) error {
		_, _, err := c.ReadLockspace(ctx, sanlockwire.Lockspace{})
		return err
	},
	func(ctx context.Context, c *client.Conn) error {
		_, err := c.LookupRindex(ctx, sanlockwire.Rindex{}, sanlockwire.REntry{}, 0)
		return err
	},
	func(ctx context.Context, c *client.Conn) error { _, err := c.NextEvent(ctx); return err },
}

// FuzzAnswers lets a daemon answer anything and hang up: every call returns, and soon.
func FuzzAnswers(f *testing.F) {
	h := sanlockwire.NewHeader(sanlockwire.CmdInquire, 0, 8, 0, 1)
	f.Add(uint8(0), append(h.Append(nil), "a:b:c:1\x00"...))
	hosts := sanlockwire.Host{HostID: 1, Generation: 2}.Append(nil)
	h = sanlockwire.NewHeader(sanlockwire.CmdGetHosts, 0, len(hosts), 0, 1)
	f.Add(uint8(5), append(h.Append(nil), hosts...))
	f.Add(uint8(9), sanlockwire.Event{FromHostID: 2}.Append(nil))
	var reply []byte
	dir := serve(f, func(sanlockwire.Header, []byte) ([]byte, bool) { return reply, true })
	f.Fuzz(func(t *testing.T, call uint8, answer []byte) {
		reply = answer
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := client.Dial(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		n := int(call) % len(calls)
		if n == len(calls)-1 {
			_ = c.RegEvent(ctx, sanlockwire.Lockspace{}) // makes the daemon talk
		}
		_ = calls[n](ctx, c)
		if ctx.Err() != nil {
			t.Errorf("call %d does not return after %q", n, answer)
		}
	})
}
