package sanlockwire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"github.com/tenurelock/tenure/leases"
)

func TestDroppedHeadersTakeTheir32Bytes(t *testing.T) {
	good := NewHeader(CmdInquire, 0, 0, 0, Self)
	change := func(f func(h *Header)) Header {
		h := good
		f(&h)
		return h
	}
	for _, c := range []struct {
		name string
		h    Header
		ok   bool
	}{
		{"magic", change(func(h *Header) { h.Magic = 1 }), false},
		{"command 0", change(func(h *Header) { h.Cmd = 0 }), false},
		{"command 41", change(func(h *Header) { h.Cmd = 41 }), false},
		{"command -1", change(func(h *Header) { h.Cmd = ^uint32(0) }), false},
		{"major version", change(func(h *Header) { h.Version = 0x10001 }), false},
		{"minor version", change(func(h *Header) { h.Version = 0xFFFF }), true},
		{"version 0", change(func(h *Header) { h.Version = 0 }), true},
		{"VERSION with any version", change(func(h *Header) { h.Cmd, h.Version = CmdVersion, 0x50000 }), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The body of a dropped header is looked at as headers, so the next request is found all the same.
			from := bytes.NewReader(good.Append(c.h.Append(nil)))
			_, body, err := ReadRequest(from)
			var dropped *DroppedError
			if got := !errors.As(err, &dropped); got != c.ok || len(body) != 0 {
				t.Fatalf("accepted: %v, want %v (%v)", got, c.ok, err)
			}
			if from.Len() != HeaderSize {
				t.Errorf("%d bytes were left, want one header", from.Len())
			}
			if h, _, err := ReadRequest(from); err != nil || h != good {
				t.Errorf("the next request is %v, %v", h, err)
			}
		})
	}
}

func someResource(disks int) Resource {
	r := Resource{Space: leases.NameOf("ls"), Name: leases.NameOf("r")}
	for range disks {
		r.Disks = append(r.Disks, Disk{Path: "/dev/x", Offset: 1 << 20})
	}
	return r
}

// message is a request with a body of its real length.
func message(cmd, flags, data uint32, body []byte) []byte {
	return append(NewHeader(cmd, flags, len(body), data, 0).Append(nil), body...)
}

func TestRefusedRequestsLeaveTheStreamInStep(t *testing.T) {
	many := bytes.Repeat(someResource(1).AppendWithDisks(nil), MaxResources+1)
	for _, c := range []struct {
		name   string
		send   []byte
		result int32
	}{
		{"no disks", message(CmdAcquire, 0, 1, Options{}.Append(someResource(0).Append(nil))), -34},
		{"five disks", message(CmdAcquire, 0, 1, Options{}.Append(someResource(5).AppendWithDisks(nil))), -34},
		{"nine resources", message(CmdAcquire, 0, 9, Options{}.Append(many)), -7},
		{"five disks to read", message(CmdReadResource, 0, 0, someResource(5).AppendWithDisks(nil)), -34},
		{"release of nine", message(CmdRelease, 0, 9, make([]byte, 9*ResourceSize)), -7},
		{"rename of one", message(CmdRelease, ReleaseRename, 1, make([]byte, ResourceSize)), -22},
		{"orphans of nothing", message(CmdRelease, ReleaseOrphan, 0, nil), -22},
		{"a value too long", message(CmdSetLVB, 0, 0, make([]byte, ResourceSize+MaxValue+1)), -7},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := NewHeader(CmdVersion, 0, 0, 0, 0)
			from := bytes.NewReader(next.Append(bytes.Clone(c.send)))
			_, _, err := ReadRequest(from)
			if _, ok := errors.AsType[*RefusedError](err); !ok {
				t.Fatalf("not refused: %v", err)
			}
			if got := ResultOf(err); got != c.result {
				t.Errorf("result %d, want %d", got, c.result)
			}
			if h, _, err := ReadRequest(from); err != nil || h != next {
				t.Errorf("the next request is %v, %v", h, err)
			}
		})
	}
}

// A length that says less than a value's resource: what was sent is read, and no more.
func TestShortValueLength(t *testing.T) {
	send := message(CmdSetLVB, 0, 0, someResource(0).Append(nil))
	send[16], send[17] = 40, 0 // the header's length
	from := bytes.NewReader(send)
	if _, _, err := ReadRequest(from); ResultOf(err) != -22 || from.Len() != 0 {
		t.Errorf("%v with %d bytes left", err, from.Len())
	}
}

func TestBodyRules(t *testing.T) {
	two := append(someResource(0).Append(nil), someResource(0).Append(nil)...)
	for _, c := range []struct {
		name string
		send []byte
	}{
		{"a release that says it has disks sends none", message(CmdRelease, 0, 1, someResource(3).Append(nil))},
		{"release all", message(CmdRelease, ReleaseAll, 0, nil)},
		{"release all that names two", message(CmdRelease, ReleaseAll, 2, two)},
		{"release of two", message(CmdRelease, 0, 2, two)},
		{"rename", message(CmdRelease, ReleaseRename, 2, two)},
		{"acquire nothing", message(CmdAcquire, 0, 0, Options{}.Append(nil))},
		{"a negative count is none", message(CmdAcquire, 0, ^uint32(0), Options{}.Append(nil))},
		{"four disks", message(CmdAcquire, 0, 1, Options{}.Append(someResource(4).AppendWithDisks(nil)))},
		{"an empty value", message(CmdSetLVB, 0, 0, someResource(0).Append(nil))},
		{"a value", message(CmdSetLVB, 0, 0, append(someResource(0).Append(nil), "value"...))},
		{"convert", message(CmdConvert, 0, 0, someResource(2).Append(nil))},
		{"killpath", message(CmdKillpath, 0, 0, Killpath{"/bin/kill", "a b"}.Append(nil))},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := bytes.NewReader(c.send)
			// One byte at a time: nothing may depend on how a client's writes are cut.
			_, body, err := ReadRequest(iotest.OneByteReader(from))
			if err != nil {
				t.Fatal(err)
			}
			if from.Len() != 0 || !bytes.Equal(body, c.send[HeaderSize:]) {
				t.Errorf("a body of %d bytes, %d left", len(body), from.Len())
			}
		})
	}
}

func TestCutOff(t *testing.T) {
	whole := message(CmdAddLockspace, 0, 0, Lockspace{Name: leases.NameOf("ls")}.Append(nil))
	for n := range whole {
		_, _, err := ReadRequest(bytes.NewReader(whole[:n]))
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Fatalf("after %d bytes: %v, want %v", n, err, want)
		}
	}
}

// A client that claims a huge body is not read for ever, and its connection goes on.
func TestDiscardIsBounded(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		h := NewHeader(CmdAcquire, 0, 0, 9, Self)
		h.Length = ^uint32(0)
		_, _ = there.Write(h.Append(nil))
		_, _ = there.Write(make([]byte, maxDiscard))
		_, _ = there.Write(NewHeader(CmdVersion, 0, 0, 0, 0).Append(nil))
	}()
	if _, _, err := ReadRequest(here); ResultOf(err) != -7 {
		t.Fatal(err)
	}
	if h, _, err := ReadRequest(here); err != nil || h.Cmd != CmdVersion {
		t.Errorf("then %v, %v", h, err)
	}
}

func TestCommandTable(t *testing.T) {
	if _, ok := CommandOf(0); ok {
		t.Error("0 is a command")
	}
	for n := uint32(1); n <= 40; n++ {
		c, ok := CommandOf(n)
		if !ok || c.Number != n || c.Name == "" {
			t.Errorf("command %d is %+v", n, c)
		}
		if back, ok := CommandNamed(c.Name); !ok || back != c {
			t.Errorf("%s is not found by its name", c.Name)
		}
	}
	if _, ok := CommandOf(41); ok {
		t.Error("41 is a command")
	}
	if _, ok := CommandNamed(""); ok {
		t.Error("no name is a command")
	}
}

func TestFieldsAreCut(t *testing.T) {
	long := string(bytes.Repeat([]byte("p"), 2000))
	var d Disk
	if err := d.Decode(Disk{Path: long}.Append(nil)); err != nil || len(d.Path) != MaxPath {
		t.Errorf("a path of %d bytes, %v", len(d.Path), err)
	}
	var k Killpath
	if err := k.Decode(Killpath{long, long}.Append(nil)); err != nil || len(k.Path) != 127 || len(k.Args) != 127 {
		t.Errorf("a killpath of %d and %d bytes, %v", len(k.Path), len(k.Args), err)
	}
	full := bytes.Repeat([]byte("x"), DiskSize)
	if err := d.Decode(full); err != nil || len(d.Path) != MaxPath {
		t.Errorf("a path without its zero has %d bytes, %v", len(d.Path), err)
	}
}

func TestShortStructures(t *testing.T) {
	p := make([]byte, 10)
	for name, err := range map[string]error{
		"header": new(Header).Decode(p), "disk": new(Disk).Decode(p), "resource": new(Resource).Decode(p),
		"options": new(Options).Decode(p), "lockspace": new(Lockspace).Decode(p), "host": new(Host).Decode(p),
		"host event": new(HostEvent).Decode(p), "event": new(Event).Decode(p), "rindex": new(Rindex).Decode(p),
		"rindex entry": new(REntry).Decode(p), "killpath": new(Killpath).Decode(p),
	} {
		var short *ShortError
		if !errors.As(err, &short) || short.What != name || short.Got != 10 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
