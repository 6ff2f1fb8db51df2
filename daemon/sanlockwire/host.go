package sanlockwire

import (
	"encoding/binary"

	"github.com/tenurelock/tenure/leases"
)

// HostSize is the size in bytes of a Host.
const HostSize = 32

// Host is one slot of a lockspace, or one holder of a resource. 32 bytes:
//
//	offset 0 host id, 8   8 generation, 8   16 timestamp, 8   24 io_timeout, seconds   28 flags
type Host struct {
	HostID, Generation uint64
	Timestamp          uint64 // seconds of that host's monotonic clock
	IOTimeout          uint32 // seconds; 0 in READ_RESOURCE_OWNERS
	Flags              uint32 // the state, see Verdict; 0 in READ_RESOURCE_OWNERS
}

// Verdict returns the state in Flags; 0 is none.
func (h Host) Verdict() leases.Verdict { return leases.Verdict(h.Flags & HostStateMask) }

// Append adds the 32 bytes of h to p.
func (h Host) Append(p []byte) []byte {
	p = binary.LittleEndian.AppendUint64(p, h.HostID)
	p = binary.LittleEndian.AppendUint64(p, h.Generation)
	p = binary.LittleEndian.AppendUint64(p, h.Timestamp)
	p = binary.LittleEndian.AppendUint32(p, h.IOTimeout)
	return binary.LittleEndian.AppendUint32(p, h.Flags)
}

// Decode reads the host from the first 32 bytes of p; the only error is that there are fewer.
func (h *Host) Decode(p []byte) error {
	if err := enough("host", p, HostSize); err != nil {
		return err
	}
	*h = Host{
		HostID:     binary.LittleEndian.Uint64(p[0:]),
		Generation: binary.LittleEndian.Uint64(p[8:]),
		Timestamp:  binary.LittleEndian.Uint64(p[16:]),
		IOTimeout:  binary.LittleEndian.Uint32(p[24:]),
		Flags:      binary.LittleEndian.Uint32(p[28:]),
	}
	return nil
}
