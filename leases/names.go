package leases

import "bytes"

// NameSize is the size in bytes of a lockspace, resource or host name on disk and on the socket
// (spec ondisk 2.8). A name needs no terminator when it fills all of them.
const NameSize = 48

// Name is a name as it lies on disk: zero padded, with whatever a previous writer left behind the first
// zero byte. Two names are the same when Equal says so, never by ==, which also compares that tail.
type Name [NameSize]byte

// NameOf copies s into a zero padded Name. Bytes past NameSize are cut off, as stock does; callers that
// accept names from users check Fits first.
func NameOf(s string) Name {
	var n Name
	copy(n[:], s)
	return n
}

// Fits reports whether s is a usable name of our own making: not empty, at most 47 bytes, no zero byte.
// 48 is legal on disk but breaks stock in several places (spec ondisk 9.22), so we read it and do not make it.
func Fits(s string) bool {
	return s != "" && len(s) < NameSize && bytes.IndexByte([]byte(s), 0) < 0
}

// String returns the name up to its first zero byte.
func (n Name) String() string {
	if i := bytes.IndexByte(n[:], 0); i >= 0 {
		return string(n[:i])
	}
	return string(n[:])
}

// Equal compares as C strings of at most NameSize bytes: what lies behind a zero byte does not count.
func (n Name) Equal(o Name) bool { return n.String() == o.String() }

// IsEmpty reports whether the first byte is zero.
func (n Name) IsEmpty() bool { return n[0] == 0 }
