package sanlockwire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenurelock/tenure/leases"
)

func resource(space, name string, lver uint64, flags uint32, disks ...Disk) Resource {
	return Resource{
		Space: leases.NameOf(space), Name: leases.NameOf(name), LVer: lver, Flags: flags,
		Disks: disks, NumDisks: uint32(len(disks)),
	}
}

// The wanted values were seen in what Debian's command line sends for the same text.
func TestParseResource(t *testing.T) {
	n48 := strings.Repeat("n", 48)
	for _, c := range []struct {
		text   string
		want   Resource
		number int32 // of the error; 0 = none
	}{
		{"a:b:c:1", resource("a", "b", 0, 0, Disk{"c", 1}), 0},
		{"a:b", resource("a", "b", 0, 0), 0},
		{"a:b:c:1:7", resource("a", "b", 7, ResLVer, Disk{"c", 1}), 0},
		{"a:b:c:1:7x", resource("a", "b", 7, ResLVer, Disk{"c", 1}), 0},
		{"a:b:c:1:SH", resource("a", "b", 0, ResShared, Disk{"c", 1}), 0},
		{"a:b:c:1:SHx", resource("a", "b", 0, ResShared, Disk{"c", 1}), 0},
		{"a:b:c:1:d:2", resource("a", "b", 0, 0, Disk{"c", 1}, Disk{"d", 2}), 0},
		{"a:b:c:1:d:2:e:3:f:4:9", resource("a", "b", 9, ResLVer,
			Disk{"c", 1}, Disk{"d", 2}, Disk{"e", 3}, Disk{"f", 4}), 0},
		{"::c:1", resource("", "", 0, 0, Disk{"c", 1}), 0},
		{"a:b:c:1M", resource("a", "b", 0, 0, Disk{"c", 1 << 20}), 0},
		{`a\:b:c:d\:e\ f:1`, resource("a:b", "c", 0, 0, Disk{"d:e f", 1}), 0},
		{`a:b:c\\d:1`, resource("a", "b", 0, 0, Disk{`c\d`, 1}), 0},
		{"a:b:c:-1:-9", resource("a", "b", ^uint64(8), ResLVer, Disk{"c", ^uint64(0)}), 0},
		{n48 + ":" + n48 + ":c:1", resource(n48, n48, 0, 0, Disk{"c", 1}), 0},
		{"", Resource{}, -6},
		{"ab", Resource{}, -6},
		{"abc", Resource{}, -1},
		{"a:b:c", Resource{}, -1},
		{"a:b:", Resource{}, -1},
		{"a:b:c:", Resource{}, -1},
		{"a:b:c:1:", Resource{}, -1},
		{"a:b::1:d:3", Resource{}, -1},
		{`a:b:c:1\`, Resource{}, -1},
		{n48 + "n:b:c:1", Resource{}, -1},
		{"a:" + n48 + "n:c:1", Resource{}, -1},
		{"a:b:" + strings.Repeat("p", 1024) + ":1", Resource{}, -1},
		{"a:b:c:1:d:2:e:3:f:4:g:5", Resource{}, -2},
	} {
		got, err := ParseResource(c.text)
		var text *TextError
		if errors.As(err, &text) != (c.number != 0) || text != nil && text.Number != c.number {
			t.Errorf("%q: %v, want number %d", c.text, err, c.number)
			continue
		}
		if err == nil {
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%q (-want +got):\n%s", c.text, diff)
			}
		}
	}
}

func TestParseLockspaceAndRindex(t *testing.T) {
	space := func(name string, id uint64, path string, off uint64) Lockspace {
		return Lockspace{Name: leases.NameOf(name), HostID: id, Disk: Disk{path, off}}
	}
	for text, want := range map[string]Lockspace{
		"":                           space("", 0, "", 0),
		"x":                          space("x", 0, "", 0),
		"x:1:y:1M":                   space("x", 1, "y", 1<<20),
		"x:1:y:1MB":                  space("x", 1, "y", 1<<20),
		"x:1:y:1k":                   space("x", 1, "y", 1),
		"x:0x5:y:0x10":               space("x", 0, "y", 0),
		"x:-1:y:-7":                  space("x", ^uint64(0), "y", ^uint64(6)),
		"x:1:y:2:z":                  space("x", 1, "y", 2),
		`\:x:1:y\:z:2`:               space(`\:x`, 1, "y:z", 2),
		`a\\b:1:c\\d\ :1`:            space(`a\\b`, 1, "cd ", 1),
		"x:99999999999999999999:y:0": space("x", ^uint64(0), "y", 0),
	} {
		if diff := cmp.Diff(want, ParseLockspace(text)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	want := Rindex{Space: leases.NameOf(`a\:b`), Disk: Disk{"c:d", 1 << 20}}
	if diff := cmp.Diff(want, ParseRindex(`a\:b:c\:d:1M`)); diff != "" {
		t.Errorf("rindex (-want +got):\n%s", diff)
	}
	for text, want := range map[string]REntry{
		"res":    {Name: leases.NameOf("res")},
		"res:5M": {Name: leases.NameOf("res"), Offset: 5 << 20},
		":7":     {Offset: 7},
		"":       {},
	} {
		if diff := cmp.Diff(want, ParseREntry(text)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestExportPath(t *testing.T) {
	for in, want := range map[string]string{
		"/dev/a": "/dev/a", "a:b c": `a\:b\ c`, `a\:b`: `a\:b`, `a\\:b`: `a\\\:b`, `a\`: `a\`, "": "",
	} {
		if got := ExportPath(in); got != want {
			t.Errorf("export of %q is %q, want %q", in, got, want)
		}
	}
}

// What INQUIRE writes is read back, whatever the paths are made of, except for backslashes.
func TestInquireRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9._-]{1,48}`)
		path := rapid.StringMatching(`[a-z/: ]{1,40}`)
		var rs []Resource
		for range rapid.IntRange(0, 5).Draw(t, "resources") {
			var disks []Disk
			for range rapid.IntRange(1, MaxDisks).Draw(t, "disks") {
				disks = append(disks, Disk{path.Draw(t, "path"), rapid.Uint64().Draw(t, "offset")})
			}
			r := resource(name.Draw(t, "space"), name.Draw(t, "name"), 0, ResShared, disks...)
			if rapid.Bool().Draw(t, "exclusive") {
				r.Flags, r.LVer = ResLVer, rapid.Uint64().Draw(t, "lver")
			}
			rs = append(rs, r)
		}
		text := FormatInquire(rs)
		got, err := ParseInquire(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(rs, got); diff != "" {
			t.Fatalf("%q (-written +read):\n%s", text, diff)
		}
	})
}

func TestStates(t *testing.T) {
	var w Words
	w.Add("list", "%s", "held")
	w.Add("flags", "%x", 0x10)
	if got, want := w.String(), "list=held flags=10"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if v, ok := Word(w.String(), "flags"); !ok || v != "10" {
		t.Errorf("flags is %q", v)
	}
	if _, ok := Word(w.String(), "flag"); ok {
		t.Error("part of a key is found")
	}
	all := []State{
		{Type: StateDaemon, Name: leases.NameOf("host"), Text: w.String()},
		{Type: StateClient, Data32: ^uint32(0)},
		{Type: StateLockspace, Data64: 3, Space: Lockspace{Name: leases.NameOf("ls"), HostID: 3, Disk: Disk{"p", 1}}},
		{Type: StateResource, Data64: 9, Resource: resource("ls", "r", 0, ResShared, Disk{"p", 1}, Disk{"q", 2})},
		{Type: StateHost, Data32: 7, Data64: 8, Text: "last_check=1"},
	}
	var p []byte
	for _, s := range all {
		p = s.Append(p)
	}
	in := bytes.NewReader(p)
	for i, want := range all {
		got, err := ReadState(in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("record %d (-want +got):\n%s", i, diff)
		}
	}
	if _, err := ReadState(in); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	long := State{Type: StateHost, Text: strings.Repeat("x", 2*MaxStateText)}.Append(nil)
	if got, err := ReadState(bytes.NewReader(long)); err != nil || len(got.Text) != MaxStateText-1 {
		t.Errorf("a long text has %d bytes, %v", len(got.Text), err)
	}
	long[73] = 0xFF
	if _, err := ReadState(bytes.NewReader(long)); err == nil {
		t.Error("a text beyond the limit is read")
	}
	cut := all[2].Append(nil)
	if _, err := ReadState(bytes.NewReader(cut[:len(cut)-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a record cut short: %v", err)
	}
}
