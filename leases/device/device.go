package device

import "context"

// Geometry describes an open device.
type Geometry struct {
	Path       string // as given to Open
	SectorSize int    // smallest transfer in bytes: logical block size of a block device, 512 for a regular file
	Size       int64  // bytes
	IsBlock    bool   // a block device, not a regular file
}

// Device is shared storage addressed in bytes, moved in whole sectors. Implementations are safe for
// concurrent use. The deadline is that of the context; a context without one waits for ever.
type Device interface {
	Geometry() Geometry
	// Read returns n bytes from off in an aligned buffer that the caller must Release. off and n must be
	// multiples of the sector size. A transfer beyond the end, wherever off is there, is an OpError around
	// ErrShort.
	Read(ctx context.Context, off int64, n int) (*Buffer, error)
	// Write writes all of b at off and takes ownership of b, whatever it returns: after a timeout the
	// kernel may still read it. It returns when the data is durable (O_DIRECT|O_SYNC). While an earlier
	// write to any of the same sectors is in flight, however late, Write waits for it; if its own deadline
	// comes first it has written nothing (OpError.Started is false).
	Write(ctx context.Context, off int64, b *Buffer) error
	// Settle waits until no write to [off, off+n) is in flight any more: what was issued before the call
	// has reached the disk or failed. It returns ctx's error if that does not happen in time.
	Settle(ctx context.Context, off int64, n int) error
	// Close gives the descriptor back. Transfers that still hang in the kernel keep theirs until they end.
	Close() error
}
