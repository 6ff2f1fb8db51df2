package sanlockwire

import (
	"encoding/binary"
	"fmt"
)

// The constants of every header (spec sanlock-daemon 1.3).
const (
	HeaderSize = 32
	Magic      = 0x04282010
	Protocol   = 1 // version of the protocol: major in the upper 16 bits, minor in the lower
	// DaemonVersion is what VERSION answers in Data2: 3.8.5, one byte each from the top.
	DaemonVersion = 0x03080500
	// Self is the pid in Data2 that means the connection the request comes on.
	Self = 0xFFFFFFFF
)

// Header precedes every request and every reply; 32 bytes of eight little-endian words.
//
//	offset 0 magic   4 version   8 command   12 flags   16 length   20 sequence   24 data   28 data2
//
// In a reply Data is mostly the result, a signed number; see Result.
type Header struct {
	Magic, Version, Cmd, Flags, Length, Seq, Data, Data2 uint32
}

// NewHeader returns the header of a request with a body of n bytes.
func NewHeader(cmd, flags uint32, n int, data, data2 uint32) Header {
	return Header{
		Magic: Magic, Version: Protocol, Cmd: cmd, Flags: flags, Length: uint32(HeaderSize + n),
		Data: data, Data2: data2,
	}
}

// Reply returns the header that answers h: command, flags and sequence are echoed, n bytes of body follow.
// What else stock echoes or lies about (spec 1.6, 1.7) is the caller's to set.
func (h Header) Reply(result int32, n int) Header {
	return Header{
		Magic: Magic, Version: Protocol, Cmd: h.Cmd, Flags: h.Flags, Length: uint32(HeaderSize + n),
		Seq: h.Seq, Data: uint32(result),
	}
}

// Result returns Data as the signed number it is in replies: 0 or a positive answer, or negative.
func (h Header) Result() int32 { return int32(h.Data) }

// Append adds the header's 32 bytes to p.
func (h Header) Append(p []byte) []byte {
	for _, w := range [...]uint32{h.Magic, h.Version, h.Cmd, h.Flags, h.Length, h.Seq, h.Data, h.Data2} {
		p = binary.LittleEndian.AppendUint32(p, w)
	}
	return p
}

// Decode reads the header from the first 32 bytes of p; the only error is that there are fewer. It judges
// nothing: see Check.
func (h *Header) Decode(p []byte) error {
	if err := enough("header", p, HeaderSize); err != nil {
		return err
	}
	for i, w := range [...]*uint32{
		&h.Magic, &h.Version, &h.Cmd, &h.Flags, &h.Length, &h.Seq, &h.Data, &h.Data2,
	} {
		*w = binary.LittleEndian.Uint32(p[4*i:])
	}
	return nil
}

// DroppedError is the reason why a header is no request. Such a header is neither answered nor a reason to
// hang up: exactly its 32 bytes are dropped, and what follows is looked at as the next header (spec 1.2.8).
type DroppedError struct {
	Header Header
	Reason string
}

// Error names the reason and the header's fields.
func (e *DroppedError) Error() string {
	return fmt.Sprintf("header dropped: %s (cmd %d length %d magic %x version %x)",
		e.Reason, e.Header.Cmd, e.Header.Length, e.Header.Magic, e.Header.Version)
}

// Check returns a *DroppedError when h is no request that stock would answer: another magic, an unknown
// command, or a protocol with another major version, which only VERSION may carry.
func (h Header) Check() error {
	reason := ""
	switch _, known := CommandOf(h.Cmd); {
	case h.Magic != Magic:
		reason = "not our magic"
	case !known:
		reason = "unknown command"
	case h.Cmd != CmdVersion && h.Version>>16 > Protocol>>16:
		reason = "incompatible protocol version"
	default:
		return nil
	}
	return &DroppedError{Header: h, Reason: reason}
}

// ShortError says that a structure ends before it is complete.
type ShortError struct {
	What      string
	Got, Want int // bytes
}

// Error prints "lockspace: 1000 bytes of 1104".
func (e *ShortError) Error() string { return fmt.Sprintf("%s: %d bytes of %d", e.What, e.Got, e.Want) }

func enough(what string, p []byte, size int) error {
	if len(p) < size {
		return &ShortError{What: what, Got: len(p), Want: size}
	}
	return nil
}
