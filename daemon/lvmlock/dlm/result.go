package dlm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// status is how a command ended: 0, an errno or one of the kernel's own numbers, negative.
type status int32

const (
	granted     status = 0
	refused     status = -status(syscall.EAGAIN) // NOQUEUE, and another lock stands in the way
	unlocked    status = -0x10002
	invalidated byte   = 0x2 // flag: the value block was lost with the host that wrote it
)

// errResult says that what was read is no result.
var errResult = errors.New("the kernel's answer is not of the known form")

// result is one read from a lockspace's device.
type result struct {
	Cookie   uint64
	Status   status
	Lock     uint32
	Blocking mode // not NL: no end of a command but word that we stand in another's way
	Flags    byte
	HasValue bool
	Value    [valueSize]byte
}

// decodeResult reads a result. One with a value block that was lost has no value.
func decodeResult(p []byte) (result, error) {
	order := binary.NativeEndian
	if len(p) < resultSize {
		return result{}, fmt.Errorf("%w: %d bytes, want at least %d", errResult, len(p), resultSize)
	}
	if major := order.Uint32(p); major != spoken[0] {
		return result{}, fmt.Errorf("%w: version %d, want %d", errResult, major, spoken[0])
	}
	r := result{
		Cookie: order.Uint64(p[32:]), Status: status(order.Uint32(p[40:])), Lock: order.Uint32(p[44:]),
		Flags: p[48], Blocking: mode(p[64]),
	}
	if n := order.Uint32(p[12:]); uint64(n) != uint64(len(p)) {
		return result{}, fmt.Errorf("%w: it says that it has %d bytes, and has %d", errResult, n, len(p))
	}
	at := uint64(order.Uint32(p[68:]))
	if at == 0 {
		return r, nil
	}
	if at < resultSize || at+valueSize > uint64(len(p)) {
		return result{}, fmt.Errorf("%w: a value block at %d of %d bytes", errResult, at, len(p))
	}
	if r.Flags&invalidated == 0 {
		r.HasValue = true
		copy(r.Value[:], p[at:])
	}
	return r, nil
}
