package sanlockwire

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever a client sends, a request is read whole or not at all, within bounds, and what was read can be
// written again.
func FuzzReadRequest(f *testing.F) {
	for _, x := range exchanges(f) {
		if len(x.sent) < 3000 {
			f.Add(x.sent)
		}
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		from := bytes.NewReader(sent)
		for {
			before := from.Len()
			h, body, err := ReadRequest(from)
			var dropped *DroppedError
			var refused *RefusedError
			switch {
			case errors.As(err, &dropped):
				if before-from.Len() != HeaderSize {
					t.Fatalf("%d bytes dropped", before-from.Len())
				}
			case errors.As(err, &refused):
				if ResultOf(err) >= 0 {
					t.Fatalf("refused without a number: %v", err)
				}
			case err != nil:
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				return
			default:
				if len(body) > MaxBody || before-from.Len() != HeaderSize+len(body) {
					t.Fatalf("%d bytes read for a body of %d", before-from.Len(), len(body))
				}
				if again := reencode(t, h, body); h.Flags&ReleaseAll == 0 && len(again) != len(body) {
					t.Fatalf("a body of %d bytes is encoded in %d", len(body), len(again))
				}
			}
		}
	})
}

// Decoding, encoding and decoding again gives the same structure.
func FuzzStructures(f *testing.F) {
	f.Add(make([]byte, LockspaceSize))
	f.Add(bytes.Repeat([]byte{0xFF, 'a', ':'}, 400))
	f.Fuzz(func(t *testing.T, p []byte) {
		twice(t, p, func(v *Header, p []byte) error { return v.Decode(p) }, Header.Append)
		twice(t, p, func(v *Disk, p []byte) error { return v.Decode(p) }, Disk.Append)
		twice(t, p, func(v *Resource, p []byte) error { return v.Decode(p) }, Resource.Append)
		twice(t, p, func(v *Options, p []byte) error { return v.Decode(p) }, Options.Append)
		twice(t, p, func(v *Lockspace, p []byte) error { return v.Decode(p) }, Lockspace.Append)
		twice(t, p, func(v *Host, p []byte) error { return v.Decode(p) }, Host.Append)
		twice(t, p, func(v *HostEvent, p []byte) error { return v.Decode(p) }, HostEvent.Append)
		twice(t, p, func(v *Event, p []byte) error { return v.Decode(p) }, Event.Append)
		twice(t, p, func(v *Rindex, p []byte) error { return v.Decode(p) }, Rindex.Append)
		twice(t, p, func(v *REntry, p []byte) error { return v.Decode(p) }, REntry.Append)
		twice(t, p, func(v *Killpath, p []byte) error { return v.Decode(p) }, Killpath.Append)
	})
}

func twice[T any](t *testing.T, p []byte, decode func(*T, []byte) error, encode func(T, []byte) []byte) {
	t.Helper()
	var a, b T
	if decode(&a, p) != nil {
		return
	}
	if err := decode(&b, encode(a, nil)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("%T (-first +again):\n%s", a, diff)
	}
}

func FuzzReadState(f *testing.F) {
	for _, x := range exchanges(f) {
		var h Header
		if h.Decode(x.read) == nil && (h.Cmd == CmdHostStatus || h.Cmd == CmdRenewal) {
			f.Add(x.read[HeaderSize:])
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		from := bytes.NewReader(p)
		for {
			s, err := ReadState(from)
			if err != nil {
				return
			}
			again, err := ReadState(bytes.NewReader(s.Append(nil)))
			if len(s.Text) == MaxStateText { // without its zero; the last byte makes room for one
				continue
			}
			if diff := cmp.Diff(s, again); err != nil || diff != "" {
				t.Fatalf("%v (-first +again):\n%s", err, diff)
			}
		}
	})
}

func FuzzTexts(f *testing.F) {
	for _, s := range []string{"a:b:c:1:7", `a\:b:c:d\ e:1M:SH`, "x:1:y:2", "ls:p:1M", "a:b:c:1:1 a:b:c:2:SH"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseResource(s); err == nil && (len(r.Disks) > MaxDisks || len(r.AppendWithDisks(nil)) != 128+1040*len(r.Disks)) {
			t.Errorf("%q gives %+v", s, r)
		}
		if l := ParseLockspace(s); len(l.Append(nil)) != LockspaceSize || len(l.Disk.Path) > MaxPath {
			t.Errorf("%q gives %+v", s, l)
		}
		ParseRindex(s)
		ParseREntry(s)
		if rs, err := ParseInquire(s); err == nil && len(rs) > 0 && FormatInquire(rs) == "" {
			t.Errorf("%q holds %d resources and they are no text", s, len(rs))
		}
		if got, want := ImportPath(ExportPath(s)), ImportPath(s); got != want {
			t.Errorf("%q goes out and comes back as %q, want %q", s, got, want)
		}
	})
}
