package native

import (
	"encoding/binary"
	"fmt"

	"github.com/tenurelock/tenure/daemon/lvmlock"
)

// The value block, which lies at the start of a lease's LVB (spec lvmlockd 3.7.1). 8 bytes, little-endian:
//
//	offset 0 version, 2   2 flags, 2   4 r_version, 4
const (
	valueSize    = 8
	valueVersion = 0x0101 // the major in the high byte
	valueMajor   = 1
	valueRemoved = 1
)

// appendValue adds the 8 bytes of v to p.
func appendValue(p []byte, v lvmlock.Value) []byte {
	var flags uint16
	if v.Removed {
		flags = valueRemoved
	}
	p = binary.LittleEndian.AppendUint16(p, valueVersion)
	p = binary.LittleEndian.AppendUint16(p, flags)
	return binary.LittleEndian.AppendUint32(p, v.Version)
}

// parseValue reads a value from the start of an LVB. An error means that a later program wrote it, whose
// meaning we do not know. Fewer than 8 bytes are a block that was never written.
func parseValue(p []byte) (lvmlock.Value, error) {
	if len(p) < valueSize {
		return lvmlock.Value{}, nil
	}
	version := binary.LittleEndian.Uint16(p)
	if version>>8 > valueMajor {
		return lvmlock.Value{}, fmt.Errorf("the value block has version %#x; up to major %d is understood",
			version, valueMajor)
	}
	return lvmlock.Value{
		Version: binary.LittleEndian.Uint32(p[4:]),
		Removed: binary.LittleEndian.Uint16(p[2:])&valueRemoved != 0,
		Set:     version != 0,
	}, nil
}
