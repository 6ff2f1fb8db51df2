package dlm

import "encoding/binary"

// Sizes of the kernel's structures on 64-bit machines, in bytes (spec lvmlockd 5.2.3, 5.2.5).
const (
	commandSize = 120 // without the name
	resultSize  = 72  // without the value block
	valueSize   = 32
	versionSize = 12

	nameMax = 64 // of a lockspace or a resource
)

// The version of the device that we speak: major, minor, patch. A kernel takes ours or an older minor.
var spoken = [3]uint32{6, 0, 2}

// verb is what a command asks the kernel for.
type verb uint8

const (
	verbLock   verb = 1
	verbUnlock verb = 2
	verbCreate verb = 4
	verbRemove verb = 5
	verbPurge  verb = 6
)

// mode is the kernel's number of a lock mode.
type mode uint8

const (
	modeNL mode = 0
	modePR mode = 3
	modeEX mode = 5
)

func (m mode) String() string {
	switch m {
	case modeNL:
		return "NL"
	case modePR:
		return "PR"
	case modeEX:
		return "EX"
	}
	return "?"
}

// Flags of a lock command (spec lvmlockd 5.2.7).
const (
	flagNoQueue    uint32 = 0x1
	flagConvert    uint32 = 0x4
	flagValue      uint32 = 0x8
	flagPersistent uint32 = 0x80
	flagExpedite   uint32 = 0x400
	flagOrphan     uint32 = 0x4000
)

// Flags of create and remove.
const (
	createExclusive uint32 = 0x8 // fails if the lockspace exists
	removeForced    uint32 = 0x2 // whatever is held
)

// command is one write to a device of the kernel's lock manager.
type command struct {
	Verb   verb
	Mode   mode
	Flags  uint32
	Lock   uint32 // the lock's number, of an existing one
	Cookie uint64 // comes back with the result; not 0
	Value  [valueSize]byte
	Name   string // of the lockspace or of the resource

	Minor uint32 // of the lockspace to remove
	Node  uint32 // whose orphans to purge
	PID   uint32 // 0: of every process
}

// append writes the command as the kernel reads it. The structure has the machine's byte order.
func (c command) append(dst []byte) []byte {
	p := make([]byte, commandSize, commandSize+len(c.Name))
	order := binary.NativeEndian
	for i, v := range spoken {
		order.PutUint32(p[4*i:], v)
	}
	p[12], p[13] = byte(c.Verb), 1 // 64-bit layout
	switch c.Verb {
	case verbCreate, verbRemove:
		order.PutUint32(p[16:], c.Flags)
		order.PutUint32(p[20:], c.Minor)
		// The name lies in the fixed part, yet its length is added, as libdlm does.
		p = append(p, make([]byte, len(c.Name))...)
		copy(p[24:], c.Name)
	case verbPurge:
		order.PutUint32(p[16:], c.Node)
		order.PutUint32(p[20:], c.PID)
	case verbLock, verbUnlock:
		p[16], p[17] = byte(c.Mode), byte(len(c.Name))
		order.PutUint32(p[20:], c.Flags)
		order.PutUint32(p[24:], c.Lock)
		order.PutUint64(p[56:], c.Cookie)
		order.PutUint64(p[80:], c.Cookie)
		copy(p[88:commandSize], c.Value[:])
		p = append(p, c.Name...)
	}
	return append(dst, p...)
}
