package sanlockwire

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tenurelock/tenure/leases"
)

// MaxResourceText is the longest text of a resource, in bytes, its zero included.
const MaxResourceText = 4400

// TextError says why a text names no resource.
type TextError struct {
	Number int32 // what stock's parser returns
	Text   string
}

// Error returns the reason.
func (e *TextError) Error() string { return e.Text }

func tooShort() error { return &TextError{-6, "shorter than 3 bytes"} }

func badText(text string) error { return &TextError{-1, text} }

func tooManyPaths() error { return &TextError{-2, fmt.Sprintf("more than %d disks", MaxDisks)} }

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

// splitFields cuts s at its colons; a backslash takes the byte after it into the field, and is left out.
func splitFields(s string) []string {
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

// megabyte is what the letter M behind an offset means.
const megabyte = 1 << 20

// number reads leading decimal digits as C does: no digits are 0, a minus wraps around, and what does not fit
// 64 bits is the largest number. An M right behind the digits multiplies by a mebibyte.
func number(s string) uint64 {
	digits := strings.TrimPrefix(s, "-")
	n := len(digits) - len(strings.TrimLeft(digits, "0123456789"))
	v, _ := strconv.ParseUint(digits[:n], 10, 64) // no digits are 0, too many the largest
	if strings.HasPrefix(digits[n:], "M") {
		v *= megabyte
	}
	if len(digits) < len(s) {
		v = -v
	}
	return v
}

// ParseResource reads LOCKSPACE:RESOURCE[:PATH:OFFSET…][:VERSION|:SH], the form of `-r` and of INQUIRE's
// answer. A version sets ResLVer, a last field that begins with SH sets ResShared. Offsets may end in M for
// MiB. Every error is a *TextError.
func ParseResource(s string) (Resource, error) {
	var r Resource
	if len(s) < 3 {
		return r, tooShort()
	}
	fields := splitFields(s)
	switch n := len(fields); {
	case n == 1 || n == 3:
		return r, badText("a resource is LOCKSPACE:RESOURCE:PATH:OFFSET[:VERSION|:SH]")
	case n > 2*(MaxDisks+1)+1:
		return r, tooManyPaths()
	case len(fields[0]) > leases.NameSize || len(fields[1]) > leases.NameSize:
		return r, badText(fmt.Sprintf("a name has more than %d bytes", leases.NameSize))
	}
	r.Space, r.Name = leases.NameOf(fields[0]), leases.NameOf(fields[1])
	if strings.HasSuffix(s, `\`) && !strings.HasSuffix(s, `\\`) {
		return r, badText("the text ends in a backslash")
	}
	fields = fields[2:]
	for _, f := range fields {
		if f == "" || len(f) > MaxPath {
			return r, badText(fmt.Sprintf("a field is empty or has more than %d bytes", MaxPath))
		}
	}
	for ; len(fields) >= 2; fields = fields[2:] {
		r.Disks = append(r.Disks, Disk{Path: fields[0], Offset: number(fields[1])})
	}
	r.NumDisks = uint32(len(r.Disks))
	if len(fields) == 0 {
		return r, nil
	}
	if strings.HasPrefix(fields[0], "SH") {
		r.Flags |= ResShared
	} else {
		r.Flags |= ResLVer
		r.LVer = number(fields[0])
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

// ParseLockspace reads NAME[:HOST_ID[:PATH[:OFFSET]]], the form of `-s`: for many commands the name is
// enough. As in stock it takes everything: fields that are left out are zero, fields beyond are ignored,
// names and paths that are too long are cut, and a backslash vanishes from the path only. The offset may end
// in M for MiB.
func ParseLockspace(s string) Lockspace {
	f := append(rawFields(s), "", "", "")
	return Lockspace{Name: leases.NameOf(f[0]), HostID: number(f[1]), Disk: diskOf(f[2], f[3])}
}

// rawFields cuts s at its colons, except those behind a backslash, and keeps backslashes.
func rawFields(s string) []string {
	var fields []string
	at := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ':':
			fields = append(fields, s[at:i])
			at = i + 1
		}
	}
	return append(fields, s[at:])
}

func diskOf(path, offset string) Disk {
	path = ImportPath(path)
	return Disk{Path: path[:min(len(path), MaxPath)], Offset: number(offset)}
}

// FormatLockspace writes NAME:HOST_ID:PATH:OFFSET with the path as ExportPath writes it.
func FormatLockspace(l Lockspace) string {
	return fmt.Sprintf("%s:%d:%s:%d", l.Name, l.HostID, ExportPath(l.Disk.Path), l.Disk.Offset)
}

// ParseRindex reads LOCKSPACE[:PATH[:OFFSET]], the form of `-x`, and takes everything, as ParseLockspace.
func ParseRindex(s string) Rindex {
	f := append(rawFields(s), "", "")
	return Rindex{Space: leases.NameOf(f[0]), Disk: diskOf(f[1], f[2])}
}

// ParseREntry reads NAME[:OFFSET] or :OFFSET, the form of `-e` where a resource index is meant, as
// ParseRindex.
func ParseREntry(s string) REntry {
	f := append(rawFields(s), "")
	return REntry{Name: leases.NameOf(f[0]), Offset: number(f[1])}
}
