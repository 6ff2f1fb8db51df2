package ondisk

import (
	"encoding/binary"

	"github.com/tenurelock/tenure/leases"
)

// Constants of the resource index.
const (
	IndexMagic       = 0x01042018
	IndexVersion     = 0x00010002
	IndexHeaderSize  = 80 // bytes, in the first sector of the index area
	IndexEntrySize   = 64 // bytes; entries fill the sectors from the second one
	IndexDefaultSize = 4096
	IndexLeaseName   = "rindex_lease" // name of the lease in the area behind the index

	indexEntriesPerMiB = 16000
)

// IndexHeader is the first sector of a resource index (spec ondisk 2.9).
//
//	0  4  magic          12  4  sector size         24   8  byte offset of this header on the device
//	4  4  version        16  4  max resources       32  48  lockspace name
//	8  4  flags          20  4  unused
//
// It has no checksum: what proves it is that it says where it lies, and in which lockspace.
type IndexHeader struct {
	Magic, Version, Flags uint32
	SectorSize            uint32
	MaxResources          uint32 // entries in use or free; 0 = as many as the sizes have room for
	Unused                uint32
	Offset                uint64
	Space                 leases.Name
}

// IndexEntry says which resource lies at an offset (spec ondisk 2.10). Offset is redundant: it follows from
// the entry's number.
//
//	0  8  byte offset of the resource on the device     8  4  flags     12  4  unused     16  48  name
type IndexEntry struct {
	Offset        uint64
	Flags, Unused uint32
	Name          leases.Name
}

// NewIndexHeader returns the header of an index that lies at offset. maxResources as in FormatIndex.
func NewIndexHeader(g Geometry, space leases.Name, offset uint64, maxResources uint32) IndexHeader {
	if maxResources == 0 {
		maxResources = IndexDefaultSize
	}
	return IndexHeader{
		Magic: IndexMagic, Version: IndexVersion, Flags: AlignFlag(g.Align) >> 4, SectorSize: uint32(g.Sector),
		MaxResources: min(maxResources, g.MaxIndexEntries()), Offset: offset, Space: space,
	}
}

// DecodeIndexHeader fails only if fewer than IndexHeaderSize bytes are given.
func DecodeIndexHeader(sector []byte) (IndexHeader, error) {
	if len(sector) < IndexHeaderSize {
		return IndexHeader{}, short("rindex header", len(sector), IndexHeaderSize)
	}
	le := binary.LittleEndian
	return IndexHeader{
		Magic: le.Uint32(sector[0:]), Version: le.Uint32(sector[4:]), Flags: le.Uint32(sector[8:]),
		SectorSize: le.Uint32(sector[12:]), MaxResources: le.Uint32(sector[16:]), Unused: le.Uint32(sector[20:]),
		Offset: le.Uint64(sector[24:]), Space: leases.Name(sector[32:80]),
	}, nil
}

// Encode writes the header and touches nothing behind it.
func (h *IndexHeader) Encode(sector []byte) {
	le := binary.LittleEndian
	le.PutUint32(sector[0:], h.Magic)
	le.PutUint32(sector[4:], h.Version)
	le.PutUint32(sector[8:], h.Flags)
	le.PutUint32(sector[12:], h.SectorSize)
	le.PutUint32(sector[16:], h.MaxResources)
	le.PutUint32(sector[20:], h.Unused)
	le.PutUint64(sector[24:], h.Offset)
	copy(sector[32:80], h.Space[:])
}

// Geometry returns the sizes that the header states. A header of the first version has no align bit; like
// in an old leader that means 1 MiB with 512-byte sectors and 8 MiB with 4096. The result may be illegal.
func (h *IndexHeader) Geometry() Geometry {
	align := AlignOf(h.Flags << 4)
	if align == 0 {
		align = DefaultGeometry(int(h.SectorSize)).Align
	}
	return Geometry{Sector: int(h.SectorSize), Align: align}
}

// Entries returns how many entries the index has: MaxResources, or what its sizes have room for if that is
// less or MaxResources is 0.
func (h *IndexHeader) Entries() uint32 {
	limit := h.Geometry().MaxIndexEntries()
	if h.MaxResources == 0 || h.MaxResources > limit {
		return limit
	}
	return h.MaxResources
}

// Check tests magic, major version, lockspace name and offset, in that order. An empty space name matches
// any.
func (h *IndexHeader) Check(space leases.Name, offset uint64) error {
	const record = "rindex header"
	switch {
	case h.Magic != IndexMagic:
		return wrong(record, "magic", leases.IndexMagic, h.Magic, IndexMagic)
	case h.Version>>16 != IndexVersion>>16:
		return wrong(record, "version", leases.IndexVersion, h.Version, IndexVersion)
	case !space.IsEmpty() && !h.Space.Equal(space):
		return wrongName(record, "lockspace_name", leases.IndexSpace, h.Space, space)
	case h.Offset != offset:
		return wrong(record, "rx_offset", leases.IndexOffset, h.Offset, offset)
	}
	return nil
}

// DecodeIndexEntry fails only if fewer than IndexEntrySize bytes are given.
func DecodeIndexEntry(p []byte) (IndexEntry, error) {
	if len(p) < IndexEntrySize {
		return IndexEntry{}, short("rindex entry", len(p), IndexEntrySize)
	}
	le := binary.LittleEndian
	return IndexEntry{
		Offset: le.Uint64(p[0:]), Flags: le.Uint32(p[8:]), Unused: le.Uint32(p[12:]), Name: leases.Name(p[16:64]),
	}, nil
}

// Encode writes the entry's IndexEntrySize bytes.
func (e *IndexEntry) Encode(p []byte) {
	le := binary.LittleEndian
	le.PutUint64(p[0:], e.Offset)
	le.PutUint32(p[8:], e.Flags)
	le.PutUint32(p[12:], e.Unused)
	copy(p[16:64], e.Name[:])
}

// IsFree reports whether the entry names no resource: offset and first byte of the name are zero.
func (e *IndexEntry) IsFree() bool { return e.Offset == 0 && e.Name.IsEmpty() }

// MaxIndexEntries returns how many entries an index of this geometry has room for.
func (g Geometry) MaxIndexEntries() uint32 {
	if !g.Legal() {
		return 0
	}
	return uint32(g.Align/MiB) * indexEntriesPerMiB
}

// EntryOffset returns the byte offset of entry n in the index area.
func (g Geometry) EntryOffset(n uint32) int64 { return int64(g.Sector) + int64(n)*IndexEntrySize }

// EntryResource returns the byte offset on the device of the resource that entry n of the index at offset
// index stands for: behind the index and its lease.
func (g Geometry) EntryResource(index uint64, n uint32) uint64 {
	return index + (2+uint64(n))*uint64(g.Align)
}

// EntryOf returns the number of the entry that stands for the resource at a byte offset on the device, and
// false if the offset is not on a boundary or before the first resource. The number may lie beyond the index.
func (g Geometry) EntryOf(index, resource uint64) (n uint64, ok bool) {
	align := uint64(g.Align)
	if align == 0 || resource < index || (resource-index)%align != 0 || (resource-index)/align < 2 {
		return 0, false
	}
	return (resource-index)/align - 2, true
}
