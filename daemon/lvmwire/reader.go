package lvmwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// terminator ends every message, in both directions.
const terminator = "\n##\n"

// MaxMessage is how long a message may be, its terminator included, in bytes. Stock allows 16 MiB or any length; the
// longest that LVM sends have some kilobytes (spec lvmlockd 1.2.4).
const MaxMessage = 1 << 20

// firstRead is how much a Reader asks for at a time, bytes. A request of LVM's fits.
const firstRead = 1024

// ErrTooLong says that a peer sent MaxMessage bytes without an end. What follows cannot be told from the middle of
// that message, so the connection is of no more use.
var ErrTooLong = errors.New("message too long")

// Reader cuts a stream into messages. Unlike stock it looks for the first terminator, so that a message is never
// taken for the tail of another one that came with it (spec lvmlockd 1.2.5).
type Reader struct {
	source  io.Reader
	data    []byte // read and not returned yet, after the first done bytes
	done    int    // length of what Next returned, and its terminator
	scanned int    // no terminator starts before this
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader { return &Reader{source: r} }

// Next returns the next message without its terminator; it is valid until the next call. At a stream's end between two
// messages it returns io.EOF, inside of one io.ErrUnexpectedEOF. Other errors are the stream's or ErrTooLong.
func (r *Reader) Next() ([]byte, error) {
	r.data = append(r.data[:0], r.data[r.done:]...)
	r.done, r.scanned = 0, 0
	for {
		if i := bytes.Index(r.data[r.scanned:], []byte(terminator)); i >= 0 {
			end := r.scanned + i
			r.done = end + len(terminator)
			return r.data[:end], nil
		}
		r.scanned = max(0, len(r.data)-len(terminator)+1)
		if len(r.data) >= MaxMessage {
			return nil, fmt.Errorf("%w: %d bytes without an end", ErrTooLong, len(r.data))
		}
		if err := r.more(); err != nil {
			return nil, err
		}
	}
}

// Buffered returns how many bytes wait behind the message that Next returned.
func (r *Reader) Buffered() int { return len(r.data) - r.done }

// more reads once, at most up to MaxMessage.
func (r *Reader) more() error {
	room := min(max(firstRead, len(r.data)), MaxMessage-len(r.data))
	old := len(r.data)
	if cap(r.data)-old < room {
		r.data = append(make([]byte, 0, old+room), r.data...)
	}
	n, err := r.source.Read(r.data[old : old+room])
	r.data = r.data[:old+n]
	switch {
	case n > 0:
		// A stream that fails for good says so again.
		return nil
	case errors.Is(err, io.EOF) && old > 0:
		return io.ErrUnexpectedEOF
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}
