package sanlockwire

import (
	"bytes"
	"encoding/binary"
)

// Sizes of a Disk.
const (
	DiskSize = 1040
	pathSize = 1024
	// MaxPath is the longest path: its last byte is a zero.
	MaxPath = pathSize - 1
)

// Disk is where a lease lies. 1040 bytes:
//
//	offset 0 path, zero terminated   1024 offset, 8 bytes   1032 padding, 8 bytes, zero
type Disk struct {
	Path   string // at most MaxPath bytes; more is cut off
	Offset uint64 // bytes
}

// Append adds the disk's 1040 bytes to p.
func (d Disk) Append(p []byte) []byte {
	p = appendText(p, d.Path, pathSize, MaxPath)
	p = binary.LittleEndian.AppendUint64(p, d.Offset)
	return append(p, make([]byte, 8)...)
}

// Decode reads the disk from the first 1040 bytes of p; the only error is that there are fewer. What lies in
// the padding is ignored: in stock's own records it is private (spec sanlock-daemon 7.2).
func (d *Disk) Decode(p []byte) error {
	if err := enough("disk", p, DiskSize); err != nil {
		return err
	}
	d.Path = text(p[:MaxPath])
	d.Offset = binary.LittleEndian.Uint64(p[1024:])
	return nil
}

// text returns p up to its first zero byte.
func text(p []byte) string {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	return string(p)
}

// appendText adds size bytes: at most limit of s, then zeros.
func appendText(p []byte, s string, size, limit int) []byte {
	at := len(p)
	p = append(p, make([]byte, size)...)
	copy(p[at:at+limit], s)
	return p
}
