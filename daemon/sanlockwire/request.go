package sanlockwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/tenurelock/tenure/leases"
)

// What one request may hold (spec sanlock-daemon 1.4).
const (
	MaxResources = 8
	MaxDisks     = 4
	MaxValue     = 4096 // bytes of a lock value block
	MaxBody      = MaxResources*(ResourceSize+MaxDisks*DiskSize) + OptionsSize
	// maxDiscard bounds what is read away of a request that is refused before its body is understood.
	maxDiscard = 1 << 20
)

// RefusedError says that the header is a request, but its body is not one that the command can have. The body
// was read away as far as the header's length tells its end; the request must be answered with ResultOf(err).
type RefusedError struct {
	Cmd uint32
	Err error // a *leases.Error, for its Kind
}

// Error names the command and the complaint.
func (e *RefusedError) Error() string {
	c, _ := CommandOf(e.Cmd)
	return c.Name + " request refused: " + e.Err.Error()
}

// Unwrap returns the complaint.
func (e *RefusedError) Unwrap() error { return e.Err }

func refuse(h Header, k leases.Kind, format string, args ...any) error {
	return &RefusedError{Cmd: h.Cmd, Err: &leases.Error{Op: "read", Kind: k, Err: fmt.Errorf(format, args...)}}
}

// ReadHeader reads 32 bytes and returns them decoded, together with what Check says. The errors of r are
// returned as they are: io.EOF before the first byte is the end of the connection, io.ErrUnexpectedEOF a
// header cut short.
func ReadHeader(r io.Reader) (Header, error) {
	var p [HeaderSize]byte
	var h Header
	if _, err := io.ReadFull(r, p[:]); err != nil {
		return h, err
	}
	if err := h.Decode(p[:]); err != nil {
		return h, err
	}
	return h, h.Check()
}

// ReadRequest reads one request: the header and exactly the body that its command implies, so that the next
// byte of r begins the next request.
//
// A *DroppedError says that 32 bytes were dropped and the next request may be read; a *RefusedError that the
// request must be answered with its result and the next one may be read; any other error is r's, and the end
// of the connection.
func ReadRequest(r io.Reader) (Header, []byte, error) {
	h, err := ReadHeader(r)
	if err != nil {
		return h, nil, err
	}
	body, err := ReadBody(r, h)
	return h, body, err
}

// ReadBody reads the body of a request whose header was read and checked. Errors are those of ReadRequest,
// except that there is no *DroppedError.
func ReadBody(r io.Reader, h Header) ([]byte, error) {
	c, _ := CommandOf(h.Cmd)
	b := body{from: r, header: h}
	switch c.Body {
	case NoBody:
	case OneDisk:
		b.take(DiskSize)
	case OneLockspace:
		b.take(LockspaceSize)
	case LockspaceEvent:
		b.take(LockspaceSize + HostEventSize)
	case NamedResource:
		b.take(ResourceSize)
	case Paths:
		b.take(KillpathSize)
	case OneRindex:
		b.take(RindexSize)
	case RindexEntry:
		b.take(RindexSize + REntrySize)
	case OneResource:
		b.takeResource()
	case AcquireResources:
		b.takeAcquire()
	case ReleaseResources:
		b.takeRelease()
	case ResourceWithValue:
		b.takeValue()
	}
	return b.read, b.err
}

// body is read piece by piece; after an error nothing more is read.
type body struct {
	from   io.Reader
	header Header
	read   []byte
	err    error
}

func (b *body) take(n int) {
	if b.err != nil {
		return
	}
	at := len(b.read)
	b.read = append(b.read, make([]byte, n)...)
	if _, err := io.ReadFull(b.from, b.read[at:]); err != nil {
		b.read = b.read[:at]
		b.err = cut(err)
	}
}

// cut makes an end in the middle of a body distinguishable from one between requests.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// refuse reads away what the header's length says is left and remembers the complaint.
func (b *body) refuse(k leases.Kind, format string, args ...any) {
	if b.err != nil {
		return
	}
	left := int64(b.header.Length) - HeaderSize - int64(len(b.read))
	if left > 0 {
		if _, err := io.CopyN(io.Discard, b.from, min(left, maxDiscard)); err != nil {
			b.err = cut(err)
			return
		}
	}
	b.err = refuse(b.header, k, format, args...)
}

func (b *body) takeResource() {
	at := len(b.read)
	b.take(ResourceSize)
	if b.err != nil {
		return
	}
	n := binary.LittleEndian.Uint32(b.read[at+resourceDisksAt:])
	if n == 0 || n > MaxDisks {
		b.refuse(leases.OutOfRange, "a resource with %d disks; 1 to %d are possible", n, MaxDisks)
		return
	}
	b.take(int(n) * DiskSize)
}

// count returns the number of resources that the header announces. A negative number counts as none, as
// in stock.
func (b *body) count() int {
	n := int32(b.header.Data)
	if n > MaxResources {
		b.refuse(leases.TooBig, "%d resources; at most %d are possible", n, MaxResources)
	}
	return int(max(n, 0))
}

func (b *body) takeAcquire() {
	for n := b.count(); n > 0 && b.err == nil; n-- {
		b.takeResource()
	}
	b.take(OptionsSize)
}

func (b *body) takeRelease() {
	switch flags := b.header.Flags; {
	case flags&ReleaseAll != 0 && flags&ReleaseOrphan == 0:
		// Stock's command line sends the resources that were named beside -a 1; its daemon ignores them.
		if n := b.count(); int64(b.header.Length) == int64(HeaderSize+n*ResourceSize) {
			b.take(n * ResourceSize)
		}
	case flags&ReleaseRename != 0 && int32(b.header.Data) < 2:
		b.refuse(leases.Invalid, "a rename of %d resources; it needs the held one and the new name", b.header.Data)
	case flags&ReleaseOrphan != 0 && int32(b.header.Data) < 1:
		b.refuse(leases.Invalid, "a release of orphans that names none")
	default:
		n := b.count()
		b.take(n * ResourceSize)
	}
}

func (b *body) takeValue() {
	b.take(ResourceSize)
	n := int64(b.header.Length) - HeaderSize - ResourceSize
	switch {
	case b.err != nil:
	case n < 0:
		b.refuse(leases.Invalid, "a length of %d bytes has no room for a value", b.header.Length)
	case n > MaxValue:
		b.refuse(leases.TooBig, "a value of %d bytes; at most %d are possible", n, MaxValue)
	default:
		b.take(int(n))
	}
}
