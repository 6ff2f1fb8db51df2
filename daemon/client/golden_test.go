package client_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// exchange is what Debian's client sent and what it read back; see the README beside the files.
type exchange struct {
	name       string
	sent, read []byte
}

func exchanges(t *testing.T) []exchange {
	t.Helper()
	names, err := filepath.Glob("../sanlockwire/testdata/proto/*.txt")
	if err != nil || len(names) < 90 {
		t.Fatalf("found %d exchanges, %v", len(names), err)
	}
	var all []exchange
	for _, name := range names {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		x := exchange{name: strings.TrimSuffix(filepath.Base(name), ".txt")}
		for line := range strings.Lines(string(file)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[0] == "#" {
				continue
			}
			p, err := hex.DecodeString(f[3])
			switch {
			case err != nil: // the text of a recv that failed
			case f[0] == ">":
				x.sent = append(x.sent, p...)
			case f[0] == "<":
				x.read = append(x.read, p...)
			}
		}
		all = append(all, x)
	}
	return all
}

// parts are the structures of a request's body.
type parts struct {
	l  sanlockwire.Lockspace
	rs []sanlockwire.Resource
	d  sanlockwire.Disk
	x  sanlockwire.Rindex
	e  sanlockwire.REntry
	ev sanlockwire.HostEvent
	k  sanlockwire.Killpath
	o  sanlockwire.Options
	v  []byte
}

func takeApart(t *testing.T, h sanlockwire.Header, p []byte) parts {
	t.Helper()
	var b parts
	var r sanlockwire.Resource
	var err error
	c, _ := sanlockwire.CommandOf(h.Cmd)
	switch c.Body {
	case sanlockwire.NoBody:
	case sanlockwire.OneDisk:
		err = b.d.Decode(p)
	case sanlockwire.OneLockspace:
		err = b.l.Decode(p)
	case sanlockwire.LockspaceEvent:
		err = errors.Join(b.l.Decode(p), b.ev.Decode(p[sanlockwire.LockspaceSize:]))
	case sanlockwire.Paths:
		err = b.k.Decode(p)
	case sanlockwire.OneRindex:
		err = b.x.Decode(p)
	case sanlockwire.RindexEntry:
		err = errors.Join(b.x.Decode(p), b.e.Decode(p[sanlockwire.RindexSize:]))
	case sanlockwire.OneResource:
		_, err = r.DecodeWithDisks(p)
		b.rs = []sanlockwire.Resource{r}
	case sanlockwire.AcquireResources:
		b.rs, b.o, err = sanlockwire.DecodeAcquire(h, p)
	case sanlockwire.ReleaseResources:
		b.rs, err = sanlockwire.DecodeRelease(p)
	case sanlockwire.NamedResource, sanlockwire.ResourceWithValue:
		err = r.Decode(p)
		b.rs, b.v = []sanlockwire.Resource{r}, p[sanlockwire.ResourceSize:]
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// call makes the call whose request h and b are.
func call(ctx context.Context, c *client.Conn, h sanlockwire.Header, b parts) (err error) {
	quiet := func(sanlockwire.State) error { return nil }
	switch h.Cmd {
	case sanlockwire.CmdRegister:
		return c.Register(ctx)
	case sanlockwire.CmdAddLockspace:
		return c.AddLockspace(ctx, b.l, h.Data, h.Flags)
	case sanlockwire.CmdRemLockspace:
		return c.RemLockspace(ctx, b.l, h.Flags)
	case sanlockwire.CmdShutdown:
		return c.Shutdown(ctx, h.Data)
	case sanlockwire.CmdStatus:
		return c.Status(ctx, h.Data, quiet)
	case sanlockwire.CmdLogDump:
		_, err = c.LogDump(ctx)
	case sanlockwire.CmdAcquire:
		return c.Acquire(ctx, h.Data2, h.Flags, b.o.OwnerName.String(), b.rs...)
	case sanlockwire.CmdRelease:
		_, err = c.Release(ctx, h.Data2, h.Flags, b.rs...)
	case sanlockwire.CmdInquire:
		_, err = c.Inquire(ctx, h.Data2)
	case sanlockwire.CmdRestrict:
		return c.Restrict(ctx, h.Flags)
	case sanlockwire.CmdRequest:
		return c.Request(ctx, h.Flags, h.Data, b.rs[0])
	case sanlockwire.CmdAlign:
		_, err = c.Align(ctx, b.d)
	case sanlockwire.CmdExamineLockspace:
		return c.ExamineLockspace(ctx, b.l)
	case sanlockwire.CmdExamineResource:
		return c.ExamineResource(ctx, b.rs[0])
	case sanlockwire.CmdHostStatus:
		return c.HostStatus(ctx, b.l, quiet)
	case sanlockwire.CmdInqLockspace:
		return c.InqLockspace(ctx, b.l, h.Flags)
	case sanlockwire.CmdKillpath:
		return c.Killpath(ctx, b.k.Path, b.k.Args, h.Flags)
	case sanlockwire.CmdWriteLockspace:
		return c.WriteLockspace(ctx, b.l, h.Data, h.Data2)
	case sanlockwire.CmdWriteResource:
		return c.WriteResource(ctx, b.rs[0], h.Flags, h.Data, h.Data2)
	default:
		return callMore(ctx, c, h, b)
	}
	return err
}

func callMore(ctx context.Context, c *client.Conn, h sanlockwire.Header, b parts) (err error) {
	switch h.Cmd {
	case sanlockwire.CmdReadLockspace:
		_, _, err = c.ReadLockspace(ctx, b.l)
	case sanlockwire.CmdReadResource:
		_, err = c.ReadResource(ctx, b.rs[0])
	case sanlockwire.CmdGetLockspaces:
		_, err = c.GetLockspaces(ctx)
	case sanlockwire.CmdGetHosts:
		_, err = c.GetHosts(ctx, b.l, h.Flags)
	case sanlockwire.CmdReadResourceOwners:
		_, _, err = c.ReadResourceOwners(ctx, b.rs[0])
	case sanlockwire.CmdSetLVB:
		return c.SetLVB(ctx, b.rs[0], b.v)
	case sanlockwire.CmdGetLVB:
		_, err = c.GetLVB(ctx, b.rs[0])
	case sanlockwire.CmdConvert:
		return c.Convert(ctx, h.Data2, h.Flags, b.rs[0])
	case sanlockwire.CmdVersion:
		_, _, err = c.Version(ctx)
	case sanlockwire.CmdShutdownWait:
		return c.ShutdownWait(ctx, h.Data)
	case sanlockwire.CmdRegEvent:
		return c.RegEvent(ctx, b.l)
	case sanlockwire.CmdEndEvent:
		return c.EndEvent(ctx, b.l)
	case sanlockwire.CmdSetEvent:
		return c.SetEvent(ctx, b.l, b.ev, h.Flags)
	case sanlockwire.CmdSetConfig:
		return c.SetConfig(ctx, b.l, h.Data)
	case sanlockwire.CmdRenewal:
		return c.Renewals(ctx, b.l, func(sanlockwire.State) error { return nil })
	case sanlockwire.CmdFormatRindex:
		return c.FormatRindex(ctx, b.x)
	case sanlockwire.CmdUpdateRindex:
		_, err = c.UpdateRindex(ctx, b.x, b.e, h.Flags)
	case sanlockwire.CmdLookupRindex:
		_, err = c.LookupRindex(ctx, b.x, b.e, h.Flags)
	case sanlockwire.CmdCreateResource:
		_, err = c.CreateResource(ctx, b.x, b.e, h.Data, h.Data2)
	case sanlockwire.CmdDeleteResource:
		return c.DeleteResource(ctx, b.x, b.e)
	case sanlockwire.CmdRebuildRindex:
		return c.RebuildRindex(ctx, b.x, h.Flags)
	}
	return err
}

// Each of stock's requests is made again by our call: the same bytes must go out, and stock's answer, of
// success or failure, must be understood.
func TestCallsSendWhatStockSends(t *testing.T) {
	for _, x := range exchanges(t) {
		t.Run(x.name, func(t *testing.T) {
			want, body, err := sanlockwire.ReadRequest(bytes.NewReader(x.sent))
			if err != nil {
				t.Skip("not a request")
			}
			got := make(chan []byte, 1)
			dir := serve(t, func(h sanlockwire.Header, p []byte) ([]byte, bool) {
				got <- append(h.Append(nil), p...)
				return wholeReply(x.read), true
			})
			err = client.Do(t.Context(), dir, func(c *client.Conn) error {
				return call(t.Context(), c, want, takeApart(t, want, body))
			})
			if diff := cmp.Diff(x.sent, <-got); diff != "" {
				t.Errorf("request (-stock +ours):\n%s", diff)
			}
			var h sanlockwire.Header
			if len(x.read) > 0 && h.Decode(x.read) != nil {
				t.Fatal("no reply in the file")
			}
			if rv := h.Result(); rv < 0 && sanlockwire.ResultOf(err) != rv || rv >= 0 && err != nil {
				t.Errorf("stock's result was %d, ours is %v", rv, err)
			}
		})
	}
}

// wholeReply adds the body that stock's daemon sent and its library did not read.
func wholeReply(read []byte) []byte {
	var h sanlockwire.Header
	if h.Decode(read) != nil || h.Cmd == sanlockwire.CmdLogDump {
		return read
	}
	return append(bytes.Clone(read), make([]byte, max(0, int(h.Length)-len(read)))...)
}
