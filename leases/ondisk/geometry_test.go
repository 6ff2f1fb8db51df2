package ondisk

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenurelock/tenure/leases"
)

func geometries() *rapid.Generator[Geometry] { return rapid.SampledFrom(Geometries()) }

func TestGeometryLegal(t *testing.T) {
	legal := map[Geometry]uint64{
		{512, MiB}: 2000, {4096, MiB}: 250, {4096, 2 * MiB}: 500, {4096, 4 * MiB}: 1000, {4096, 8 * MiB}: 2000,
	}
	for _, sector := range []int{0, 256, 512, 1024, 2048, 4096, 8192} {
		for _, mib := range []int{0, 1, 2, 3, 4, 8, 16} {
			g := Geometry{sector, mib * MiB}
			if got, want := g.MaxHosts(), legal[g]; got != want || g.Legal() != (want != 0) {
				t.Errorf("%v: %d hosts, want %d", g, got, want)
			}
			if g.Legal() && !slices.Contains(Geometries(), g) {
				t.Errorf("%v is legal but not listed", g)
			}
		}
	}
	for sector, want := range map[int]Geometry{512: {512, MiB}, 4096: {4096, 8 * MiB}, 520: {512, MiB}} {
		if got := DefaultGeometry(sector); got != want {
			t.Errorf("default for %d: %v, want %v", sector, got, want)
		}
	}
}

func TestLVBOnlyInsideTheArea(t *testing.T) {
	want := map[Geometry]bool{{512, MiB}: true, {4096, 8 * MiB}: true}
	for _, g := range Geometries() {
		if got := g.HasLVB(); got != want[g] {
			t.Errorf("%v: LVB %v", g, got)
		}
		if g.HasLVB() && g.LVBOffset() < g.BlockOffset(g.MaxHosts())+int64(g.Sector) {
			t.Errorf("%v: LVB at %d overlaps a host block", g, g.LVBOffset())
		}
	}
}

func TestAlignFlags(t *testing.T) {
	for align, flag := range map[int]uint32{
		MiB: 0x10, 2 * MiB: 0x20, 4 * MiB: 0x40, 8 * MiB: 0x80, 3 * MiB: 0, 0: 0,
	} {
		if got := AlignFlag(align); got != flag {
			t.Errorf("flag of %d: %#x, want %#x", align, got, flag)
		}
		if got := AlignOf(flag | 0xff01); flag == 0x10 && got != align {
			t.Errorf("align of %#x: %d, want %d", flag|0xff01, got, align)
		}
		if got := AlignOf(flag | 0x01); flag != 0 && got != align {
			t.Errorf("align of %#x: %d, want %d", flag, got, align)
		}
	}
	old := Leader{SectorSize: 4096}
	if got, want := old.Geometry(), (Geometry{4096, 8 * MiB}); got != want {
		t.Errorf("old leader: %v, want %v", got, want)
	}
	old.SectorSize = 512
	if got, want := old.Geometry(), (Geometry{512, MiB}); got != want {
		t.Errorf("old leader: %v, want %v", got, want)
	}
}

// TestSectorsOfHosts: every host id has a sector of its own, inside the area, in both kinds of area.
func TestSectorsOfHosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := geometries().Draw(t, "geometry")
		a := rapid.Uint64Range(1, g.MaxHosts()).Draw(t, "a")
		b := rapid.Uint64Range(1, g.MaxHosts()).Draw(t, "b")
		for _, at := range []func(uint64) int64{g.BlockOffset, g.DeltaOffset} {
			if at(a)%int64(g.Sector) != 0 || at(a) < 0 || at(a)+int64(g.Sector) > int64(g.Align) {
				t.Fatalf("host %d at %d", a, at(a))
			}
			if (a == b) != (at(a) == at(b)) {
				t.Fatalf("hosts %d and %d at %d and %d", a, b, at(a), at(b))
			}
		}
		if g.BlockOffset(a) < 2*int64(g.Sector) {
			t.Fatalf("block of host %d lies in the leader or request", a)
		}
		if n := int64(g.BallotLength(a)); n != g.BlockOffset(a)+int64(g.Sector) || n > int64(g.Align) {
			t.Fatalf("ballot of %d hosts reads %d bytes", a, n)
		}
	})
}

func TestBitmap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.SliceOfDistinct(rapid.Uint64Range(1, 2048), rapid.ID).Draw(t, "hosts")
		sector := make([]byte, rapid.SampledFrom([]int{512, 4096}).Draw(t, "sector"))
		for _, h := range hosts {
			BitmapSet(sector, h)
		}
		BitmapSet(sector, 0)
		BitmapSet(sector, rapid.Uint64Range(2049, 1<<63).Draw(t, "out of range"))
		slices.Sort(hosts)
		if got := BitmapHosts(sector); !slices.Equal(got, hosts) {
			t.Fatalf("got %v, want %v", got, hosts)
		}
		rest := slices.Concat(sector[:256], sector[512:])
		if slices.ContainsFunc(rest, func(b byte) bool { return b != 0 }) {
			t.Fatal("bits outside the bitmap")
		}
		BitmapClear(sector)
		if got := BitmapHosts(sector); len(got) != 0 {
			t.Fatalf("%v after clear", got)
		}
	})
	var sector [512]byte
	BitmapSet(sector[:], 2)
	BitmapSet(sector[:], 9)
	if diff := cmp.Diff([]byte{0x02, 0x01, 0}, sector[256:259]); diff != "" {
		t.Error(diff)
	}
	for _, p := range [][]byte{nil, make([]byte, 511)} {
		BitmapSet(p, 3)
		BitmapClear(p)
		if BitmapHas(p, 3) {
			t.Errorf("a bit in %d bytes", len(p))
		}
	}
}

// TestIndexOffsets: the entry of a resource's offset is the entry whose resource lies there, and no other
// offset has an entry.
func TestIndexOffsets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := geometries().Draw(t, "geometry")
		index := rapid.Uint64Range(0, 1<<40).Draw(t, "index")
		n := rapid.Uint32Range(0, g.MaxIndexEntries()-1).Draw(t, "n")
		at := g.EntryResource(index, n)
		if got, ok := g.EntryOf(index, at); !ok || got != uint64(n) {
			t.Fatalf("entry of %d: %d %v, want %d", at, got, ok, n)
		}
		if end := g.EntryOffset(n) + IndexEntrySize; end > int64(g.Align) || g.EntryOffset(n) < int64(g.Sector) {
			t.Fatalf("entry %d ends at %d of %d", n, end, g.Align)
		}
		if got, ok := g.EntryOf(index, at+rapid.Uint64Range(1, uint64(g.Align)-1).Draw(t, "off")); ok {
			t.Fatalf("an offset between resources has entry %d", got)
		}
	})
	g := Geometry{512, MiB}
	for _, at := range []uint64{0, MiB, 2 * MiB, 3 * MiB} {
		if n, ok := g.EntryOf(2*MiB, at); ok {
			t.Errorf("offset %d before the first resource has entry %d", at, n)
		}
	}
	if _, ok := (Geometry{}).EntryOf(0, 0); ok {
		t.Error("illegal geometry has an entry")
	}
}

func TestFormatHidden(t *testing.T) {
	for _, g := range Geometries() {
		space := leases.NameOf("LS1")
		whole := FormatLockspace(g, space, 10)
		area := slices.Clone(whole)
		first := HideLockspace(g, area)
		l, err := DecodeLeader(area)
		if err != nil || l.Magic != 0 || l.Checksum != l.Sum() {
			t.Errorf("%v: hidden sector %+v, %v", g, l, err)
		}
		copy(area, first)
		if !slices.Equal(area, whole) || len(first) != g.Sector {
			t.Errorf("%v: first sector does not complete the area", g)
		}
	}
}

func TestFormatNumHosts(t *testing.T) {
	g := Geometry{4096, MiB}
	for given, want := range map[uint64]uint64{0: 250, 1: 1, 250: 250, 251: 250, 1 << 40: 250} {
		l, err := DecodeLeader(FormatResource(g, leases.NameOf("s"), leases.NameOf("r"), given))
		if err != nil || l.NumHosts != want || l.MaxHosts != 250 || l.CheckSane() != nil {
			t.Errorf("num_hosts %d: %d of %d, want %d", given, l.NumHosts, l.MaxHosts, want)
		}
	}
}

func TestFormatIllegal(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an area of 512/8M was formatted")
		}
	}()
	FormatResource(Geometry{512, 8 * MiB}, leases.NameOf("s"), leases.NameOf("r"), 0)
}
