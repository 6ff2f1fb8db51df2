package sanlockwire

import (
	"encoding/binary"

	"github.com/tenurelock/tenure/leases"
)

// LockspaceSize is the size in bytes of a Lockspace.
const LockspaceSize = 64 + DiskSize

// Lockspace is a lockspace and our slot in it. 1104 bytes:
//
//	offset 0 name   48 host id, 8   56 flags   60 padding   64 disk
type Lockspace struct {
	Name   leases.Name
	HostID uint64
	Flags  uint32 // Space… and the sizes
	Disk   Disk
}

// Append adds the 1104 bytes of l to p.
func (l Lockspace) Append(p []byte) []byte {
	p = append(p, l.Name[:]...)
	p = binary.LittleEndian.AppendUint64(p, l.HostID)
	p = binary.LittleEndian.AppendUint32(p, l.Flags)
	p = binary.LittleEndian.AppendUint32(p, 0)
	return l.Disk.Append(p)
}

// Decode reads the lockspace from the first 1104 bytes of p; the only error is that there are fewer.
func (l *Lockspace) Decode(p []byte) error {
	if err := enough("lockspace", p, LockspaceSize); err != nil {
		return err
	}
	*l = Lockspace{
		Name:   leases.Name(p[0:48]),
		HostID: binary.LittleEndian.Uint64(p[48:]),
		Flags:  binary.LittleEndian.Uint32(p[56:]),
	}
	return l.Disk.Decode(p[64:])
}
