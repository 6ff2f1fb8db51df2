package sanlockwire

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/tenurelock/tenure/leases"
)

// The types of state records.
const (
	StateDaemon    uint32 = iota + 1 // Name: our host name
	StateClient                      // Data32: pid; Name: owner name
	StateLockspace                   // Data64: host id; a Lockspace follows
	StateResource                    // Data32: pid; Data64: lver; a Resource and its disks follow
	StateHost                        // Data32: host id; Data64: timestamp
	StateRenewal                     // Data64: timestamp
)

// StateSize is the size in bytes of a state record without its text. The C declaration suggests 76.
const StateSize = 80

// MaxStateText is the longest text of a state record, in bytes, its zero included.
const MaxStateText = 4096

// State is one record of the answers to STATUS, HOST_STATUS and RENEWAL, which follow the header until the
// end of the connection (spec sanlock-daemon 1.9). 80 bytes, then the text, then what the type implies:
//
//	offset 0 type   4 flags   8 data32   12 padding   16 data64, 8   24 name   72 length of text   76 padding
type State struct {
	Type   uint32 // State…
	Flags  uint32
	Data32 uint32
	Data64 uint64
	Name   leases.Name
	Text   string // key=value words, see Words; without the zero that ends it on the wire
	// Space belongs to StateLockspace, Resource to StateResource.
	Space    Lockspace
	Resource Resource
}

// Append adds the record, its text and what its type implies to p. Text beyond MaxStateText is cut off.
func (s State) Append(p []byte) []byte {
	txt := s.Text[:min(len(s.Text), MaxStateText-1)]
	p = binary.LittleEndian.AppendUint32(p, s.Type)
	p = binary.LittleEndian.AppendUint32(p, s.Flags)
	p = binary.LittleEndian.AppendUint32(p, s.Data32)
	p = binary.LittleEndian.AppendUint32(p, 0)
	p = binary.LittleEndian.AppendUint64(p, s.Data64)
	p = append(p, s.Name[:]...)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(txt)+1))
	p = binary.LittleEndian.AppendUint32(p, 0)
	p = append(append(p, txt...), 0)
	switch s.Type {
	case StateLockspace:
		p = s.Space.Append(p)
	case StateResource:
		p = s.Resource.AppendWithDisks(p)
	}
	return p
}

// ReadState reads one record from r. io.EOF is the end of the answer; any other error means that it is
// broken.
func ReadState(r io.Reader) (State, error) {
	var p [StateSize]byte
	var s State
	if _, err := io.ReadFull(r, p[:]); err != nil {
		return s, err
	}
	s.Type = binary.LittleEndian.Uint32(p[0:])
	s.Flags = binary.LittleEndian.Uint32(p[4:])
	s.Data32 = binary.LittleEndian.Uint32(p[8:])
	s.Data64 = binary.LittleEndian.Uint64(p[16:])
	s.Name = leases.Name(p[24:72])
	n := binary.LittleEndian.Uint32(p[72:])
	if n > MaxStateText {
		return s, fmt.Errorf("state record of type %d: a text of %d bytes; at most %d are possible",
			s.Type, n, MaxStateText)
	}
	b := body{from: r}
	b.take(int(n))
	s.Text = text(b.read)
	b.read = nil
	switch s.Type {
	case StateLockspace:
		b.take(LockspaceSize)
		if b.err == nil {
			b.err = s.Space.Decode(b.read)
		}
	case StateResource:
		b.takeResource()
		if b.err == nil {
			_, b.err = s.Resource.DecodeWithDisks(b.read)
		}
	}
	return s, b.err
}

// Words builds the text of a state record.
type Words struct{ b strings.Builder }

// Add appends key=value; value is printed by fmt with the given verb, such as "%d".
func (w *Words) Add(key, verb string, value any) {
	if w.b.Len() > 0 {
		w.b.WriteByte(' ')
	}
	w.b.WriteString(key)
	w.b.WriteByte('=')
	if n, ok := value.(int); ok && verb == "%d" {
		// Nearly every value; a status has thousands of them, and who asks for it must not keep others waiting.
		var digits [20]byte
		w.b.Write(strconv.AppendInt(digits[:0], int64(n), 10))
		return
	}
	fmt.Fprintf(&w.b, verb, value)
}

// String returns the words, separated by single spaces.
func (w *Words) String() string { return w.b.String() }

// Word returns the value of a key in the text of a state record, and whether it is there. A value ends at
// the next space.
func Word(text, key string) (string, bool) {
	for word := range strings.FieldsSeq(text) {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			return v, true
		}
	}
	return "", false
}
