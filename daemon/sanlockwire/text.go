package sanlockwire

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tenurelock/tenure/leases"
)

// MaxResourceText is the longest text of a resource, in bytes, its zero included.
const MaxResourceText = 4400

// The words for what a text that names a lease may be wrong about; each with the number that stock's parser
// returns.
var (
	errTooShort  = &parseError{-6, "shorter than 3 bytes"}
	errColons    = &parseError{-1, "fields are missing: a lease is LOCKSPACE:RESOURCE:PATH:OFFSET[:VERSION|:SH]"}
	errDisks     = &parseError{-2, "more than 4 disks"}
	errLockspace = &parseError{-22, "a lockspace is NAME:HOST_ID:PATH:OFFSET"}
	errRindex    = &parseError{-22, "a resource index is LOCKSPACE:PATH:OFFSET"}
)

type parseError struct {
	number int32
	text   string
}

func (e *parseError) Error() string { return e.text }

// ParseNumber returns the number by which stock's library tells why ParseResource refused, or -22.
func ParseNumber(err error) int32 {
	if p, ok := err.(*parseError); ok {
		return p.number
	}
	return -22
}

// ExportPath puts a backslash before every space and colon of a path that has none yet; a backslash and the
// byte after it are kept as they are. So `a:b c` becomes `a\:b\ c`.
func ExportPath(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path):
			b.WriteByte(c)
			i++
		case c == ' ' || c == ':':
			b.WriteByte('\\')
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// ImportPath removes every backslash, so that no path can contain one (spec sanlock-daemon 1.10).
func ImportPath(path string) string { return strings.ReplaceAll(path, `\`, "") }

// SplitFields cuts s at its colons; a backslash takes the byte after it into the field, and is left out.
func SplitFields(s string) []string {
	var fields []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == ':':
			fields = append(fields, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(fields, b.String())
}

// atoi reads leading decimal digits as C does: no digits are 0. Overflow gives the largest number.
func atoi(s string) uint64 {
	n := len(s) - len(strings.TrimLeft(s, "0123456789"))
	if n == 0 {
		return 0
	}
	v, _ := strconv.ParseUint(s[:n], 10, 64) // the error is overflow alone, and v is then the largest
	return v
}

// ParseResource reads LOCKSPACE:RESOURCE[:PATH:OFFSET…][:VERSION|:SH], the form of `-r` and of INQUIRE's answer.
// A version sets ResLVer, a last field that begins with SH sets ResShared. Path and names longer than the
// protocol allows are refused.
func ParseResource(s string) (Resource, error) {
	var r Resource
	if len(s) < 3 {
		return r, errTooShort
	}
	fields := SplitFields(s)
	switch n := len(fields); {
	case n == 1 || n == 3:
		return r, errColons
	case n > 2*(MaxDisks+1)+1:
		return r, errDisks
	}
	if len(fields[0]) > leases.NameSize || len(fields[1]) > leases.NameSize {
		return r, fmt.Errorf("a name has more than %d bytes", leases.NameSize)
	}
	r.Space, r.Name = leases.NameOf(fields[0]), leases.NameOf(fields[1])
	fields = fields[2:]
	for ; len(fields) >= 2; fields = fields[2:] {
		if len(fields[0]) > MaxPath {
			return r, fmt.Errorf("a path has more than %d bytes", MaxPath)
		}
		r.Disks = append(r.Disks, Disk{Path: fields[0], Offset: atoi(fields[1])})
	}
	r.NumDisks = uint32(len(r.Disks))
	if len(fields) == 0 {
		return r, nil
	}
	if strings.HasPrefix(fields[0], "SH") {
		r.Flags |= ResShared
	} else {
		r.Flags |= ResLVer
		r.LVer = atoi(fields[0])
	}
	return r, nil
}

// FormatResource writes LOCKSPACE:RESOURCE:PATH:OFFSET[…]:VERSION, or :SH for a shared one, with paths as
// ExportPath writes them. Names are written as they are.
func FormatResource(r Resource) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%s", r.Space, r.Name)
	for _, d := range r.Disks {
		fmt.Fprintf(&b, ":%s:%d", ExportPath(d.Path), d.Offset)
	}
	if r.Shared() {
		b.WriteString(":SH")
	} else {
		fmt.Fprintf(&b, ":%d", r.LVer)
	}
	return b.String()
}

// FormatInquire writes what INQUIRE answers: the resources separated by single spaces. The zero that ends it
// on the wire is not part of it, and no resources are no text at all.
func FormatInquire(rs []Resource) string {
	words := make([]string, 0, len(rs))
	for _, r := range rs {
		words = append(words, FormatResource(r))
	}
	return strings.Join(words, " ")
}

// ParseInquire reads what FormatInquire wrote. A space behind a backslash does not separate.
func ParseInquire(s string) ([]Resource, error) {
	var rs []Resource
	for _, word := range splitWords(s) {
		r, err := ParseResource(word)
		if err != nil {
			return nil, fmt.Errorf("resource %q: %w", word, err)
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// splitWords cuts s at spaces that no backslash precedes, and keeps backslashes.
func splitWords(s string) []string {
	var words []string
	at := 0
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == ' ':
			if i > at {
				words = append(words, s[at:i])
			}
			at = i + 1
		case s[i] == '\\':
			i = min(i+1, len(s)-1)
		}
	}
	return words
}

// ParseLockspace reads NAME:HOST_ID:PATH:OFFSET, the form of `-s`. Trailing fields may be left out and are
// then zero, as in stock: for many commands the name is enough.
func ParseLockspace(s string) (Lockspace, error) {
	var l Lockspace
	fields := SplitFields(s)
	if len(fields) > 4 {
		return l, errLockspace
	}
	if len(fields[0]) > leases.NameSize {
		return l, fmt.Errorf("a name has more than %d bytes", leases.NameSize)
	}
	l.Name = leases.NameOf(fields[0])
	fields = append(fields, "", "", "")
	if len(fields[2]) > MaxPath {
		return l, fmt.Errorf("a path has more than %d bytes", MaxPath)
	}
	l.HostID = atoi(fields[1])
	l.Disk = Disk{Path: fields[2], Offset: atoi(fields[3])}
	return l, nil
}

// FormatLockspace writes NAME:HOST_ID:PATH:OFFSET with the path as ExportPath writes it.
func FormatLockspace(l Lockspace) string {
	return fmt.Sprintf("%s:%d:%s:%d", l.Name, l.HostID, ExportPath(l.Disk.Path), l.Disk.Offset)
}

// ParseRindex reads LOCKSPACE:PATH:OFFSET, the form of `-x`.
func ParseRindex(s string) (Rindex, error) {
	var x Rindex
	fields := SplitFields(s)
	if len(fields) != 3 || len(fields[0]) > leases.NameSize || len(fields[1]) > MaxPath {
		return x, errRindex
	}
	x.Space = leases.NameOf(fields[0])
	x.Disk = Disk{Path: fields[1], Offset: atoi(fields[2])}
	return x, nil
}
