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
	fail := func(err error) (Device, error) { return nil, &OpError{Op: "open", Device: path, Err: err} }
	id, err := identify(path)
	if err != nil {
		return fail(err)
	}
	s := o.join(id)
	if s == nil {
		f, err := Open(path, o.options)
		if err != nil {
			return nil, err
		}
		if s = o.add(f); s.File != f {
			f.Close()
		}
	}
	// The size may have changed since the first user opened the device.
	g, _, err := s.direct.describe(path)
	if err != nil {
		o.leave(s)
		return fail(err)
	}
	return &handle{opener: o, file: s, geometry: g}, nil
}

// join counts one more user of a device that is open, and returns nil if it is not.
func (o *Opener) join(id identity) *sharedFile {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.find(id)
}

// add makes f known and counts its first user, unless somebody else has opened the same device meanwhile.
func (o *Opener) add(f *File) *sharedFile {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.find(f.id); s != nil {
		return s
	}
	s := &sharedFile{File: f, users: 1}
	o.shared = append(o.shared, s)
	return s
}

// find counts one more user of a device that is open. mu is held.
func (o *Opener) find(id identity) *sharedFile {
	for _, s := range o.shared {
		if s.id == id {
			s.users++
			return s
		}
	}
	return nil
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
