package ondisk

import "math/bits"

// Sizes of the format.
const (
	KiB         = 1024
	MiB         = 1024 * KiB
	MaxHosts    = 2000 // the largest host id of any geometry
	lvbSector   = 2002 // index of the LVB sector in a resource area
	BitmapAt    = 256  // byte offset of the host id bitmap in a delta sector
	BitmapSize  = 256  // bytes
	ProbeLength = 4096 // bytes that are read to learn the sizes of an area
)

// Geometry is the pair of sizes that a lockspace or resource area is laid out in (spec ondisk 1.1).
type Geometry struct {
	Sector int // bytes: 512 or 4096
	Align  int // bytes: size of one area
}

// Geometries lists the five legal pairs.
func Geometries() []Geometry {
	return []Geometry{{512, MiB}, {4096, MiB}, {4096, 2 * MiB}, {4096, 4 * MiB}, {4096, 8 * MiB}}
}

// DefaultGeometry returns the pair for a device with the given sector size when the caller names none.
func DefaultGeometry(sector int) Geometry {
	if sector == 4096 {
		return Geometry{4096, 8 * MiB}
	}
	return Geometry{512, MiB}
}

// MaxHosts returns how many host ids an area of this geometry has room for, 0 if the pair is not legal.
func (g Geometry) MaxHosts() uint64 {
	switch g {
	case Geometry{512, MiB}, Geometry{4096, 8 * MiB}:
		return 2000
	case Geometry{4096, 4 * MiB}:
		return 1000
	case Geometry{4096, 2 * MiB}:
		return 500
	case Geometry{4096, MiB}:
		return 250
	}
	return 0
}

// Legal reports whether the pair is one of the five.
func (g Geometry) Legal() bool { return g.MaxHosts() != 0 }

// HasLVB reports whether the LVB sector lies inside the area. Where it does not, stock writes into a
// neighbouring resource (spec ondisk 9.1); we have no LVB there.
func (g Geometry) HasLVB() bool { return g.Sector*(lvbSector+1) <= g.Align }

// LVBOffset returns the byte offset of the LVB in the area. Meaningless unless HasLVB.
func (g Geometry) LVBOffset() int64 { return int64(g.Sector) * lvbSector }

// BlockOffset returns the byte offset of a host's block in a resource area.
func (g Geometry) BlockOffset(host uint64) int64 { return int64(g.Sector) * int64(host+1) }

// DeltaOffset returns the byte offset of a host's sector in a lockspace area.
func (g Geometry) DeltaOffset(host uint64) int64 { return int64(g.Sector) * int64(host-1) }

// BallotLength returns the bytes that hold leader, request and the blocks of num hosts.
func (g Geometry) BallotLength(num uint64) int { return g.Sector * int(num+2) }

// AlignFlag returns the bit 0x10, 0x20, 0x40 or 0x80 that says 1, 2, 4 or 8 MiB in leader records and in
// the API's lockspace, resource and rindex flags; 0 for any other size.
func AlignFlag(align int) uint32 {
	switch align {
	case MiB, 2 * MiB, 4 * MiB, 8 * MiB:
		return 0x10 << (bits.Len(uint(align/MiB)) - 1)
	}
	return 0
}

// AlignOf returns the area size that the lowest align bit of flags means, 0 if none is set.
func AlignOf(flags uint32) int {
	for i := range 4 {
		if flags&(0x10<<i) != 0 {
			return MiB << i
		}
	}
	return 0
}
