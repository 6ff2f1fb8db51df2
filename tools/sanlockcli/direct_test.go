package sanlockcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
)

func TestParseExtent(t *testing.T) {
	at := func(path string, offset, size uint64) extent { return extent{place{path, offset}, size} }
	for in, want := range map[string]extent{
		"/dev/sda":           at("/dev/sda", 0, 0),
		"/dev/sda:512":       at("/dev/sda", 512, 0),
		"/dev/sda:2M:8M":     at("/dev/sda", 2<<20, 8<<20),
		`a\:b:1M`:            at("a:b", 1<<20, 0),
		`/dev/a\:b\:c::4096`: at("/dev/a:b:c", 0, 4096),
		`a\b:1`:              at(`a\b`, 1, 0),
		"f:x:y":              at("f", 0, 0),
		"f:0:5:6":            at("f", 0, 0),
		"f:1536K":            at("f", 1536, 0),
		"f:-1":               at("f", 1<<64-1, 0),
		"":                   at("", 0, 0),
	} {
		if got := parseExtent(in); got != want {
			t.Errorf("%q: got %+v, want %+v", in, got, want)
		}
	}
}

func TestOverride(t *testing.T) {
	var out bytes.Buffer
	d := &direct{out: &out, directArgs: directArgs{resourceDisk: place{path: "f"}}}
	got := ondisk.Leader{NumHosts: 7, Flags: 0x10}
	given := d.override(&got, []string{
		"lver 012\n", "owner_id 7x\n", "owner_generation -1\n", "num_hosts abc\n", "flags 10\n",
		"magic 0x123456789\n", "io_timeout 70000\n", "timestamp 99999999999999999999999\n", "space_name S\n",
		"write_id 5\n", "extra1 5\n", "checksum 0xAbc\n", "lone\n",
	})
	want := ondisk.Leader{
		NumHosts: 7, Flags: 0x10, LVer: 12, OwnerID: 7, OwnerGeneration: 1<<64 - 1, Magic: 0x23456789,
		IOTimeout: 70000 & 0xffff, Timestamp: 1<<64 - 1, SpaceName: leases.NameOf("S"), WriteID: 5,
	}
	if got != want || given != 0xabc {
		t.Errorf("got %+v, checksum %#x\nwant %+v", got, given, want)
	}
	if got, want := out.String(), "ignore field: \"extra1\"\nignore line: \"lone\n\"\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestResult(t *testing.T) {
	transfer := func(op string, err error) error {
		return &leases.Error{Kind: leases.IO, Err: &device.OpError{Op: op, Err: err}}
	}
	for i, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errHalfSizes, -1},
		{fmt.Errorf("open: %w", errNoDevice), -19},
		{&ondisk.FormatError{Kind: leases.BadChecksum}, -229},
		{&leases.Error{Kind: leases.IO, Err: &ondisk.FormatError{Kind: leases.IndexDiffer}}, -278},
		{transfer("read", device.ErrShort), -90},
		{transfer("write", device.ErrShort), -28},
		{transfer("read", device.ErrMisaligned), -22},
		{transfer("read", unix.EIO), -5},
		{transfer("open", unix.ENOENT), -2},
		{transfer("open", device.ErrNotStorage), -22},
		{transfer("write", os.ErrDeadlineExceeded), -202},
		{transfer("write", context.DeadlineExceeded), -202},
		{&leases.Error{Kind: leases.NotMember, Err: errors.New("x")}, -241},
	} {
		if got := result(tt.err); got != tt.want {
			t.Errorf("%d, %v: got %d, want %d", i, tt.err, got, tt.want)
		}
	}
}

func TestNewHostName(t *testing.T) {
	name := newHostName()
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\..+`)
	if !uuid.MatchString(name) || !leases.Fits(name) {
		t.Errorf("host name %q", name)
	}
	if name == newHostName() {
		t.Error("the same name twice")
	}
}

// TestDirectSession formats, indexes, finds and dumps on a plain file without any other program.
func TestDirectSession(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 8<<20); err != nil {
		t.Fatal(err)
	}
	run := func(want string, code int, a directArgs) {
		t.Helper()
		var out bytes.Buffer
		d := &direct{directArgs: a, out: &out, clock: monotime.At(monotime.Instant(77*time.Second), nil)}
		if got := d.run(t.Context()); got != code || out.String() != want {
			t.Errorf("%s: exit code %d, want %d, printed\n%s\nwant\n%s", a.verb, got, code, out.String(), want)
		}
	}
	s, r := leases.NameOf("LS"), leases.NameOf("R")
	run("init done 0\n", 0, directArgs{verb: "init", space: s, spaceDisk: place{file, 0}})
	run("init done 0\n", 0, directArgs{
		verb: "init", resourceSpace: s, resource: r, resourceDisk: place{file, 1 << 20},
	})
	run("format done 0\n", 0, directArgs{verb: "format", indexSpace: s, indexDisk: place{file, 2 << 20}})
	run("update done 0\n", 0, directArgs{
		verb: "update", indexSpace: s, indexDisk: place{file, 2 << 20}, entry: r, entryAt: 4 << 20,
	})
	run("lookup done 0\nname R offset 4194304\n", 0, directArgs{
		verb: "lookup", indexSpace: s, indexDisk: place{file, 2 << 20}, entry: r,
	})
	run("4194304\n", 0, directArgs{verb: "next_free", area: file})
	run("acquire done -22\n", 1, directArgs{
		verb: "acquire", resourceSpace: s, resource: r, resourceDisk: place{file, 1 << 20},
	})
	run("acquire done 0\n", 0, directArgs{
		verb: "acquire", resourceSpace: s, resource: r, resourceDisk: place{file, 1 << 20}, self: 2, generation: 3,
	})
	run("acquire done -241\n", 1, directArgs{
		verb: "acquire", resourceSpace: s, resource: r, resourceDisk: place{file, 1 << 20}, self: 1, generation: 1,
	})
	const row = "%08d%37s%49s %010d %04d %04d %s\n"
	const head = "  offset" + "                            lockspace" +
		"                                         resource" + "  timestamp  own  gen lver\n"
	run(head+
		fmt.Sprintf(row, 1<<20, "LS", "R", 77, 2, 3, "1")+
		fmt.Sprintf("%08d%37s rindex_header 0x1 512 4096 2097152\n", 2<<20, "LS")+
		fmt.Sprintf(row, 3<<20, "LS", "rindex_lease", 0, 0, 0, "0"),
		0, directArgs{verb: "dump", area: file})
	run("init done 0\n", 0, directArgs{
		verb: "init", resourceSpace: s, resource: r, resourceDisk: place{file, 1 << 20}, clear: true,
	})
	run("release done -223\n", 1, directArgs{
		verb: "release", resourceSpace: s, resource: r, resourceDisk: place{file, 1 << 20},
	})
	run("direct action \"foo\" is unknown\n", 1, directArgs{verb: "foo"})
}
