package sanlockwire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exchange is one file of testdata/proto: what Debian's client sent and what it read back.
type exchange struct {
	name       string
	sent, read []byte
}

func exchanges(t testing.TB) []exchange {
	t.Helper()
	names, err := filepath.Glob("testdata/proto/*.txt")
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

// reencode takes a body apart by its command's rule and puts it together again.
func reencode(t testing.TB, h Header, p []byte) []byte {
	t.Helper()
	ok := func(err error) {
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
	}
	var l Lockspace
	var r Resource
	var x Rindex
	c, _ := CommandOf(h.Cmd)
	switch c.Body {
	case NoBody:
		return nil
	case OneDisk:
		var d Disk
		ok(d.Decode(p))
		return d.Append(nil)
	case OneLockspace:
		ok(l.Decode(p))
		return l.Append(nil)
	case LockspaceEvent:
		var e HostEvent
		ok(l.Decode(p))
		ok(e.Decode(p[LockspaceSize:]))
		return e.Append(l.Append(nil))
	case NamedResource:
		ok(r.Decode(p))
		return r.Append(nil)
	case Paths:
		var k Killpath
		ok(k.Decode(p))
		return k.Append(nil)
	case OneRindex:
		ok(x.Decode(p))
		return x.Append(nil)
	case RindexEntry:
		var e REntry
		ok(x.Decode(p))
		ok(e.Decode(p[RindexSize:]))
		return e.Append(x.Append(nil))
	case OneResource:
		rest, err := r.DecodeWithDisks(p)
		ok(err)
		return append(r.AppendWithDisks(nil), rest...)
	case AcquireResources:
		rs, o, err := DecodeAcquire(h, p)
		ok(err)
		var q []byte
		for _, r := range rs {
			q = r.AppendWithDisks(q)
		}
		return o.Append(q)
	case ReleaseResources:
		rs, err := DecodeRelease(p)
		ok(err)
		var q []byte
		for _, r := range rs {
			q = r.Append(q)
		}
		return q
	case ResourceWithValue:
		ok(r.Decode(p))
		return append(r.Append(nil), p[ResourceSize:]...)
	}
	t.Fatalf("%s has no rule", c.Name)
	return nil
}

func TestGoldenRequests(t *testing.T) {
	seen := map[uint32]bool{}
	for _, x := range exchanges(t) {
		t.Run(x.name, func(t *testing.T) {
			if strings.HasSuffix(x.name, "-raw") {
				t.Skip("bytes on the connection of an event registration")
			}
			from := bytes.NewReader(x.sent)
			h, body, err := ReadRequest(from)
			if err != nil {
				t.Fatal(err)
			}
			seen[h.Cmd] = true
			if from.Len() != 0 {
				t.Fatalf("%d bytes of the request were left", from.Len())
			}
			c, _ := CommandOf(h.Cmd)
			if _, name, _ := strings.Cut(x.name, "-"); !strings.HasSuffix(name, c.Name) {
				t.Errorf("file of another command than %s", c.Name)
			}
			again := reencode(t, h, body)
			if diff := cmp.Diff(x.sent, append(h.Append(nil), again...)); diff != "" {
				t.Errorf("the request changes when it is encoded again (-sent +again):\n%s", diff)
			}
			declared := len(body)
			if c.Understates {
				declared = 0
			}
			if h.Cmd == CmdLookupRindex {
				declared += 64
			}
			if got, want := int(h.Length), HeaderSize+declared; got != want {
				t.Errorf("header has length %d, the table says %d", got, want)
			}
		})
	}
	if len(seen) != len(commands)-1 {
		t.Errorf("only %d of %d commands were seen", len(seen), len(commands)-1)
	}
}

// checkReply takes apart what Debian's daemon answered and puts it together again.
func checkReply(t *testing.T, h Header, p []byte) []byte {
	t.Helper()
	var out []byte
	switch h.Cmd {
	case CmdStatus, CmdHostStatus, CmdRenewal:
		for from := bytes.NewReader(p); ; {
			s, err := ReadState(from)
			if errors.Is(err, io.EOF) {
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			out = s.Append(out)
		}
	case CmdReadLockspace, CmdGetLockspaces:
		for ; len(p) > 0; p = p[LockspaceSize:] {
			var l Lockspace
			if err := l.Decode(p); err != nil {
				t.Fatal(err)
			}
			out = l.Append(out)
		}
	case CmdReadResource, CmdReadResourceOwners:
		var r Resource
		if err := r.Decode(p); err != nil {
			t.Fatal(err)
		}
		out, p = r.Append(out), p[ResourceSize:]
		fallthrough
	case CmdGetHosts:
		for ; len(p) > 0; p = p[HostSize:] {
			var o Host
			if err := o.Decode(p); err != nil {
				t.Fatal(err)
			}
			out = o.Append(out)
		}
	case CmdUpdateRindex, CmdLookupRindex, CmdCreateResource, CmdDeleteResource:
		var e REntry
		if err := e.Decode(p); err != nil {
			t.Fatal(err)
		}
		out = e.Append(out)
	case CmdInquire:
		rs, err := ParseInquire(string(bytes.TrimSuffix(p, []byte{0})))
		if err != nil || len(rs) != int(h.Data2) {
			t.Fatalf("inquire: %d resources of %d: %v", len(rs), h.Data2, err)
		}
		out = append([]byte(FormatInquire(rs)), 0)
	case CmdRegEvent:
		var e Event
		if err := e.Decode(p); err != nil {
			t.Fatal(err)
		}
		out = e.Append(nil)
	default:
		out = p // text, a value block
	}
	return out
}

// maskPads clears what stock leaves in paddings, which we send as zero: leftovers of its memory behind the
// flags of a lockspace, its file descriptor and sector size in the disks of status records.
func maskPads(cmd uint32, p []byte) []byte {
	p = bytes.Clone(p)
	path := []byte("/tmp/sdw/ls.img")
	switch cmd {
	case CmdGetLockspaces:
		for at := 0; at < len(p); at += LockspaceSize {
			clear(p[at+60 : at+64])
		}
	case CmdStatus:
		for at := bytes.Index(p, path); at >= 0; {
			clear(p[at+1032 : at+1040])
			next := bytes.Index(p[at+DiskSize:], path)
			if next < 0 {
				break
			}
			at += DiskSize + next
		}
	}
	return p
}

func TestGoldenReplies(t *testing.T) {
	for _, x := range exchanges(t) {
		t.Run(x.name, func(t *testing.T) {
			if len(x.read) == 0 {
				t.Skip("nothing was answered")
			}
			var q, h Header
			if err := errors.Join(q.Decode(x.sent), h.Decode(x.read)); err != nil {
				t.Fatal(err)
			}
			body := x.read[HeaderSize:]
			if len(body) == 0 {
				want := q.Reply(h.Result(), int(h.Length)-HeaderSize)
				want.Data2 = h.Data2
				if q.Cmd == CmdShutdownWait && h.Cmd == 0 {
					want.Cmd, want.Flags = 0, 0
				}
				if diff := cmp.Diff(h, want); diff != "" {
					t.Errorf("reply (-stock +Reply):\n%s", diff)
				}
				return
			}
			if diff := cmp.Diff(maskPads(h.Cmd, body), checkReply(t, h, body)); diff != "" {
				t.Errorf("the reply changes when it is encoded again (-stock +again):\n%s", diff)
			}
		})
	}
}

func TestGoldenResultsHaveNames(t *testing.T) {
	for _, x := range exchanges(t) {
		var h Header
		if h.Decode(x.read) != nil || h.Result() >= 0 {
			continue
		}
		var r *Result
		if err := ErrorOf(h.Result()); !errors.As(err, &r) || r.Name == "" || r.Text == "" {
			t.Errorf("%s: result %d has no name", x.name, h.Result())
		}
	}
}
