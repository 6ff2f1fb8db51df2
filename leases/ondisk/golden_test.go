package ondisk

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/leases"
)

const goldenDir = "testdata/sanlock-3.8.5"

// undefined lists the ranges of records that stock leaves undefined and that we write as zeros.
var (
	undefinedInBlock   = [][2]int{{56, 128}, {132, 136}, {144, 4096}}
	undefinedInRequest = [][2]int{{20, 24}}
)

func golden(t *testing.T, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join(goldenDir, name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func without(sector []byte, ranges [][2]int) []byte {
	p := slices.Clone(sector)
	for _, r := range ranges {
		clear(p[min(r[0], len(p)):min(r[1], len(p))])
	}
	return p
}

// TestGoldenReencode decodes every sector that stock has written and encodes it again.
func TestGoldenReencode(t *testing.T) {
	files, err := filepath.Glob(goldenDir + "/*.bin")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".bin"), func(t *testing.T) {
			p, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			size := 512
			if strings.Contains(file, "-4k") {
				size = 4096
			}
			magic := binary.LittleEndian.Uint32(p)
			for i := range len(p) / size {
				sector := p[i*size : (i+1)*size]
				want, got := reencode(t, magic, i, sector)
				if !bytes.Equal(want, got) {
					t.Errorf("sector %d: %s", i, cmp.Diff(want, got))
				}
			}
		})
	}
}

// reencode returns the sector, less what is undefined in it, and what came of decoding and encoding it.
func reencode(t *testing.T, magic uint32, index int, sector []byte) (want, got []byte) {
	t.Helper()
	got = make([]byte, len(sector))
	switch {
	case magic == DeltaMagic:
		reencodeLeader(t, sector, got)
		for _, host := range BitmapHosts(sector) {
			BitmapSet(got, host)
		}
		return sector, got
	case (magic == PaxosMagic || magic == ClearedMagic) && index == 0:
		reencodeLeader(t, sector, got)
		return sector, got
	case (magic == PaxosMagic || magic == ClearedMagic) && index == 1:
		r, err := DecodeRequest(sector)
		if err != nil || r.Check() != nil {
			t.Errorf("request: %v, %v", err, r.Check())
		}
		r.Encode(got)
		return without(sector, undefinedInRequest), got
	case magic == PaxosMagic || magic == ClearedMagic:
		b, err := DecodeHostBlock(sector)
		if err != nil || b.Check() != nil {
			t.Errorf("host block: %v, %v", err, b.Check())
		}
		b.EncodeRaw(got)
		return without(sector, undefinedInBlock), got
	case magic == IndexMagic && index == 0:
		h, err := DecodeIndexHeader(sector)
		if err != nil || h.Check(leases.Name{}, h.Offset) != nil || !h.Geometry().Legal() {
			t.Errorf("index header %+v: %v", h, err)
		}
		h.Encode(got)
		return sector, got
	case magic == IndexMagic:
		for at := 0; at < len(sector); at += IndexEntrySize {
			e, err := DecodeIndexEntry(sector[at:])
			if err != nil {
				t.Error(err)
			}
			e.Encode(got[at:])
		}
		return sector, got
	}
	return sector, slices.Clone(sector) // an LVB
}

func reencodeLeader(t *testing.T, sector, got []byte) {
	t.Helper()
	l, err := DecodeLeader(sector)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.Checksum, l.Sum(); got != want {
		t.Errorf("checksum %#x, want %#x", got, want)
	}
	if !l.Geometry().Legal() || l.UnknownFlags() != 0 {
		t.Errorf("geometry %v, unknown flags %#x", l.Geometry(), l.UnknownFlags())
	}
	if l.Magic == PaxosMagic {
		if err := l.CheckSane(); err != nil {
			t.Error(err)
		}
	}
	l.EncodeRaw(got)
}

func TestGoldenLeaders(t *testing.T) {
	name := leases.NameOf
	stale := name("bb")
	copy(stale[2:], "\x00-long-host-name")
	free := Leader{
		Magic: 0x12212010, Version: 0x30004, Flags: 0x10, SectorSize: 512, MaxHosts: 1, SpaceName: name("LS1"),
		Checksum: 0x4dba1e1e, IOTimeout: 2,
	}
	event := free
	event.OwnerID, event.OwnerGeneration, event.ResourceName, event.Timestamp = 1, 1, name("hostA"), 4056
	event.Checksum = 0x27c86c42
	event.WriteID, event.WriteGeneration, event.WriteTimestamp = 7, 0x1122334455667788, 0x99aabbccddeeff00
	resource := Leader{
		Magic: 0x06152010, Version: 0x60004, Flags: 0x10, SectorSize: 512, NumHosts: 2000, MaxHosts: 2000,
		SpaceName: name("LS1"), ResourceName: name("RES1"), Checksum: 0x1d6a1592,
	}
	owned := resource
	owned.OwnerID, owned.OwnerGeneration, owned.LVer, owned.Timestamp = 1, 1, 1, 4049
	owned.Checksum, owned.WriteID, owned.WriteGeneration, owned.WriteTimestamp = 0xbc2b72ca, 1, 1, 4049
	for file, want := range map[string]Leader{
		"d01-delta-free-512":     free,
		"d05-delta-bitmap-512":   event,
		"p01-paxos-free-512":     resource,
		"p02-paxos-owned-ex-512": owned,
	} {
		got, err := DecodeLeader(golden(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	for _, tt := range []struct {
		file string
		test func(l Leader) bool
	}{
		{"d06-delta-released-512", func(l Leader) bool { return l.Timestamp == 0 && l.WriteID == 7 }},
		{"d07-delta-shortname-512", func(l Leader) bool { return l.ResourceName == stale }},
		{"p06-paxos-sh-two-512", func(l Leader) bool { return l.Timestamp == 0 && l.LVer == 2 && l.Flags == 0x10 }},
		{"p12-paxos-clear-512", func(l Leader) bool { return l.Magic == ClearedMagic && l.WriteTimestamp != 0 }},
		{"p13-paxos-renamed-512", func(l Leader) bool { return l.ResourceName == name("NEWNAME") }},
		{"p14-paxos-numhosts-512", func(l Leader) bool { return l.NumHosts == 8 && l.MaxHosts == 2000 }},
		{"p16-paxos-sh-shorthold-512", func(l Leader) bool { return l.Flags == 0x10|FlagShortHold }},
		{"p17-paxos-sh-shorthold-mb-512", func(l Leader) bool { return l.Flags == 0x10|FlagShortHold }},
		{"p20-paxos-owner-not-writer-512", func(l Leader) bool { return l.WriteID == 2 && l.OwnerID == 1 }},
		{"p21-paxos-released-not-writer-512", func(l Leader) bool { return l.WriteID == 2 && l.Timestamp == 4480 }},
	} {
		if l, err := DecodeLeader(golden(t, tt.file)); err != nil || !tt.test(l) {
			t.Errorf("%s: %+v, %v", tt.file, l, err)
		}
	}
}

func TestGoldenHostBlocks(t *testing.T) {
	chosen := DBlock{MBal: 1, Bal: 1, Inp: 1, Inp2: 1, Inp3: 4049, LVer: 1, Checksum: 0xc8e28ba7}
	released := chosen
	released.Flags = DBlockReleased
	second := DBlock{
		MBal: 2002, Bal: 2002, Inp: 2, Inp2: 1, Inp3: 4049, LVer: 2, Checksum: 0x90062051, Flags: DBlockReleased,
	}
	shared := ModeBlock{Flags: ModeBlockShared, Generation: 1}
	for _, tt := range []struct {
		file string
		host uint64
		want HostBlock
	}{
		{"p01-paxos-free-512", 1, HostBlock{}},
		{"p02-paxos-owned-ex-512", 1, HostBlock{DBlock: chosen}},
		{"p03-paxos-released-ex-512", 3, HostBlock{DBlock: DBlock{Checksum: 0xcb5ad842, Flags: DBlockReleased}}},
		{"p06-paxos-sh-two-512", 1, HostBlock{DBlock: released, Mode: shared}},
		{"p06-paxos-sh-two-512", 2, HostBlock{DBlock: second, Mode: shared}},
	} {
		got, err := DecodeHostBlock(golden(t, tt.file)[Geometry{512, MiB}.BlockOffset(tt.host):])
		if err != nil {
			t.Errorf("%s: %v", tt.file, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s host %d (-want +got):\n%s", tt.file, tt.host, diff)
		}
		if got.Shared() != (tt.want.Mode.Flags == 1) || got.Released() != (tt.want.Flags == 1) {
			t.Errorf("%s host %d: shared %v, released %v", tt.file, tt.host, got.Shared(), got.Released())
		}
	}
	phase1, err := DecodeHostBlock(golden(t, "p18-dblock-phase1-512")[1024:])
	if err != nil || phase1.MBal != 1 || phase1.Bal != 0 || phase1.LVer != 1 {
		t.Errorf("phase 1: %+v, %v", phase1, err)
	}
}

func TestGoldenBitmap(t *testing.T) {
	for file, want := range map[string][]uint64{
		"d03-delta-renewed-512":  nil,
		"d04-delta-event-512":    {2},
		"d05-delta-bitmap-512":   {2, 3},
		"d06-delta-released-512": nil,
	} {
		if diff := cmp.Diff(want, BitmapHosts(golden(t, file))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestGoldenRequest(t *testing.T) {
	got, err := DecodeRequest(golden(t, "p10-paxos-request-512")[512:])
	want := Request{Magic: RequestMagic, Version: RequestVersion, LVer: 2, ForceMode: 2}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestGoldenIndex(t *testing.T) {
	p := golden(t, "r03-rindex-entries-512")
	space := leases.NameOf("LS1")
	h, err := DecodeIndexHeader(p)
	if err != nil {
		t.Fatal(err)
	}
	g := Geometry{512, MiB}
	if want := NewIndexHeader(g, space, 16*MiB, 0); h != want {
		t.Errorf("header %+v, want %+v", h, want)
	}
	for n, want := range []IndexEntry{
		{Offset: 18 * MiB, Name: leases.NameOf("one")}, {}, {Offset: 20 * MiB, Name: leases.NameOf("three")},
	} {
		e, err := DecodeIndexEntry(p[g.EntryOffset(uint32(n)):])
		if err != nil || e != want || e.IsFree() != (want.Offset == 0) {
			t.Errorf("entry %d: %+v, %v, want %+v", n, e, err, want)
		}
		if !e.IsFree() && g.EntryResource(h.Offset, uint32(n)) != e.Offset {
			t.Errorf("entry %d: resource at %d, want %d", n, g.EntryResource(h.Offset, uint32(n)), e.Offset)
		}
	}
	for _, tt := range []struct {
		file string
		g    Geometry
	}{
		{"k1-rindex-4k-1M", Geometry{4096, MiB}},
		{"k2-rindex-4k-2M", Geometry{4096, 2 * MiB}},
		{"k4-rindex-4k-4M", Geometry{4096, 4 * MiB}},
		{"k8-rindex-4k-8M", Geometry{4096, 8 * MiB}},
	} {
		want := golden(t, tt.file)
		stock, err := DecodeIndexHeader(want)
		if err != nil || stock.Geometry() != tt.g {
			t.Errorf("%s: sizes %v, %v", tt.file, stock.Geometry(), err)
		}
		got := FormatIndex(tt.g, stock.Space, stock.Offset, 0)
		if diff := cmp.Diff(want, got[:4096]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.file, diff)
		}
	}
}
