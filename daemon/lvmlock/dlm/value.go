package dlm

import (
	"encoding/binary"
	"fmt"

	"github.com/tenurelock/tenure/daemon/lvmlock"
)

const (
	valueVersion = 0x0101 // major in the high byte
	valueMajor   = valueVersion >> 8
	valueRemoved = 0x1
)

// encodeValue makes the 32 bytes of a value block, of which LVM uses 8 (spec lvmlockd 3.7.1).
func encodeValue(v lvmlock.Value) (p [valueSize]byte) {
	binary.LittleEndian.PutUint16(p[:], valueVersion)
	if v.Removed {
		binary.LittleEndian.PutUint16(p[2:], valueRemoved)
	}
	binary.LittleEndian.PutUint32(p[4:], v.Version)
	return p
}

// decodeValue reads a value block. A block that was never written, or was lost, is zero.
func decodeValue(r result) (lvmlock.Value, error) {
	if !r.HasValue {
		return lvmlock.Value{}, nil
	}
	version := binary.LittleEndian.Uint16(r.Value[:])
	if version>>8 > valueMajor {
		return lvmlock.Value{}, fmt.Errorf("the value block has version %#x, want %#x at most", version, valueVersion|0xff)
	}
	return lvmlock.Value{
		Version: binary.LittleEndian.Uint32(r.Value[4:]),
		Removed: binary.LittleEndian.Uint16(r.Value[2:])&valueRemoved != 0,
		Set:     version != 0,
	}, nil
}
