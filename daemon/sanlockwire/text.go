package sanlockwire

import (
	"errors"
	"fmt"
	"math"
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

// number reads a decimal number as C does: blanks and a sign may stand before it, what stands behind it is
// ignored, a minus wraps around, and what does not fit 64 bits is the largest number. An M right behind the
// digits multiplies by a mebibyte. Without digits it is 0, and ok is false.
func number(s string) (v uint64, ok bool) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	minus := strings.HasPrefix(s, "-")
	if minus || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	n := len(s) - len(strings.TrimLeft(s, "0123456789"))
	v, err := strconv.ParseUint(s[:n], 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return math.MaxUint64, true
	case err != nil:
		return 0, false
	}
	if strings.HasPrefix(s[n:], "M") {
		v *= megabyte
	}
	if minus {
		v = -v
	}
	return v, true
}

// lenient is number where stock does not ask whether there was one.
func lenient(s string) uint64 {
	v, _ := number(s)
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
		offset, ok := number(fields[1])
		if !ok {
			return r, badText(fmt.Sprintf("offset %q is no number", fields[1]))
		}
		r.Disks = append(r.Disks, Disk{Path: fields[0], Offset: offset})
	}
	r.NumDisks = uint32(len(r.Disks))
	if len(fields) == 0 {
		return r, nil
	}
	if strings.HasPrefix(fields[0], "SH") {
		r.Flags |= ResShared
	} else {
		r.Flags |= ResLVer
		r.LVer = lenient(fields[0])
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
	var l Lockspace
	l.Set(s)
	return l
}

// Set changes the fields that s names, as ParseLockspace reads them; the others stay.
func (l *Lockspace) Set(s string) {
	f := rawFields(s)
	l.Name = leases.NameOf(f[0])
	if len(f) > 1 {
		l.HostID = lenient(f[1])
		l.Disk.set(f[2:])
	}
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

// set changes what the fields PATH and OFFSET, as far as they are there, name.
func (d *Disk) set(fields []string) {
	if len(fields) > 0 {
		path := ImportPath(fields[0])
		d.Path = path[:min(len(path), MaxPath)]
	}
	if len(fields) > 1 {
		d.Offset = lenient(fields[1])
	}
}

// FormatLockspace writes NAME:HOST_ID:PATH:OFFSET with the path as ExportPath writes it.
func FormatLockspace(l Lockspace) string {
	return fmt.Sprintf("%s:%d:%s:%d", l.Name, l.HostID, ExportPath(l.Disk.Path), l.Disk.Offset)
}

// ParseRindex reads LOCKSPACE[:PATH[:OFFSET]], the form of `-x`, and takes everything, as ParseLockspace.
func ParseRindex(s string) Rindex {
	var x Rindex
	x.Set(s)
	return x
}

// Set changes the fields that s names; the others stay, unless s names nothing.
func (x *Rindex) Set(s string) {
	if s == "" {
		*x = Rindex{}
	}
	f := rawFields(s)
	x.Space = leases.NameOf(f[0])
	x.Disk.set(f[1:])
}

// ParseREntry reads NAME[:OFFSET] or :OFFSET, the form of `-e` where a resource index is meant, as
// ParseRindex, except that a backslash is like any other byte: no name has a colon.
func ParseREntry(s string) REntry {
	var e REntry
	e.Set(s)
	return e
}

// Set changes the fields that s names; the others stay.
func (e *REntry) Set(s string) {
	name, offset, ok := strings.Cut(s, ":")
	e.Name = leases.NameOf(name)
	if ok {
		e.Offset = lenient(offset)
	}
}
