package device

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// Opener opens devices so that all who open the same one share one File, whatever path led there: lanes,
// and the promise that a sector has one write in flight, belong to the device and not to who uses it.
//
// A File whose last user has closed it stays until nothing of it hangs in the kernel. Who opens the device
// again before that gets the same File, and so still waits for the late writes of the former users.
type Opener struct {
	options Options

	mu     sync.Mutex
	shared []*sharedFile // in order of opening
}

type sharedFile struct {
	*File
	users int // guarded by Opener.mu
}

// NewOpener returns an Opener whose files are opened with o.
func NewOpener(o Options) *Opener { return &Opener{options: o} }

// Open opens path, or joins those who have it open. Close gives back what this call gave.
func (o *Opener) Open(path string) (Device, error) {
	// A File of its own: it says what path means now, and how big that is.
	f, err := Open(path, o.options)
	if err != nil {
		return nil, err
	}
	h := &handle{opener: o, geometry: f.Geometry()}
	o.mu.Lock()
	i := slices.IndexFunc(o.shared, func(s *sharedFile) bool { return s.id == f.id })
	if i < 0 {
		h.file = &sharedFile{File: f, users: 1}
		o.shared = append(o.shared, h.file)
		o.mu.Unlock()
		return h, nil
	}
	h.file = o.shared[i]
	h.file.users++
	o.mu.Unlock()
	return h, f.Close()
}

// Stats returns the counters of every open device, in the order of opening, those that nobody uses any
// more but that have transfers in the kernel included.
func (o *Opener) Stats() []Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]Stats, 0, len(o.shared))
	for _, s := range o.shared {
		all = append(all, s.Stats())
	}
	return all
}

// leave is called when a handle is closed.
func (o *Opener) leave(s *sharedFile) {
	o.mu.Lock()
	s.users--
	unused := s.users == 0
	o.mu.Unlock()
	if unused {
		s.whenDrained(func() { o.forget(s) })
	}
}

// forget closes a file that nobody uses and that has nothing in flight.
func (o *Opener) forget(s *sharedFile) {
	o.mu.Lock()
	i := slices.Index(o.shared, s)
	unused := s.users == 0 && i >= 0
	if unused {
		o.shared = slices.Delete(o.shared, i, i+1)
	}
	o.mu.Unlock()
	if unused {
		s.Close()
	}
}

// handle is one user's view of a shared File.
type handle struct {
	opener   *Opener
	file     *sharedFile
	geometry Geometry
	closed   atomic.Bool
}

// Geometry describes the device as it was when this user opened it.
func (h *handle) Geometry() Geometry { return h.geometry }

func (h *handle) Read(ctx context.Context, off int64, n int) (*Buffer, error) {
	if h.closed.Load() {
		return nil, &OpError{Op: "read", Device: h.geometry.Path, Off: off, Len: n, Err: ErrClosed}
	}
	return h.file.Read(ctx, off, n)
}

func (h *handle) Write(ctx context.Context, off int64, b *Buffer) error {
	if h.closed.Load() {
		n := len(b.Bytes())
		b.Release()
		return &OpError{Op: "write", Device: h.geometry.Path, Off: off, Len: n, Err: ErrClosed}
	}
	return h.file.Write(ctx, off, b)
}

func (h *handle) Settle(ctx context.Context, off int64, n int) error {
	return h.file.Settle(ctx, off, n)
}

// Close gives the handle back. A second Close does nothing.
func (h *handle) Close() error {
	if !h.closed.Swap(true) {
		h.opener.leave(h.file)
	}
	return nil
}
