package sanlockwire

import (
	"encoding/binary"

	"github.com/tenurelock/tenure/leases"
)

// Sizes in bytes of what travels for resource indexes.
const (
	RindexSize = 64 + DiskSize
	REntrySize = 64
)

// Rindex is an index of which resource lies at which offset. 1104 bytes:
//
//	offset 0 flags   4 max resources   8 unused, 8   16 lockspace   64 disk
type Rindex struct {
	Flags        uint32 // the sizes
	MaxResources uint32 // 0: as many as fit
	Space        leases.Name
	Disk         Disk
}

// Append adds the 1104 bytes of x to p.
func (x Rindex) Append(p []byte) []byte {
	p = binary.LittleEndian.AppendUint32(p, x.Flags)
	p = binary.LittleEndian.AppendUint32(p, x.MaxResources)
	p = binary.LittleEndian.AppendUint64(p, 0)
	p = append(p, x.Space[:]...)
	return x.Disk.Append(p)
}

// Decode reads the index from the first 1104 bytes of p; the only error is that there are fewer.
func (x *Rindex) Decode(p []byte) error {
	if err := enough("rindex", p, RindexSize); err != nil {
		return err
	}
	*x = Rindex{
		Flags:        binary.LittleEndian.Uint32(p[0:]),
		MaxResources: binary.LittleEndian.Uint32(p[4:]),
		Space:        leases.Name(p[16:64]),
	}
	return x.Disk.Decode(p[64:])
}

// REntry is one entry of an index. 64 bytes:
//
//	offset 0 name   48 offset, 8   56 flags   60 unused
type REntry struct {
	Name   leases.Name
	Offset uint64 // bytes from the start of the device
	Flags  uint32
}

// Append adds the 64 bytes of e to p.
func (e REntry) Append(p []byte) []byte {
	p = append(p, e.Name[:]...)
	p = binary.LittleEndian.AppendUint64(p, e.Offset)
	p = binary.LittleEndian.AppendUint32(p, e.Flags)
	return binary.LittleEndian.AppendUint32(p, 0)
}

// Decode reads the entry from the first 64 bytes of p; the only error is that there are fewer.
func (e *REntry) Decode(p []byte) error {
	if err := enough("rindex entry", p, REntrySize); err != nil {
		return err
	}
	*e = REntry{
		Name:   leases.Name(p[0:48]),
		Offset: binary.LittleEndian.Uint64(p[48:]),
		Flags:  binary.LittleEndian.Uint32(p[56:]),
	}
	return nil
}
