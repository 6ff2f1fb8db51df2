package device

import (
	"context"
	"runtime"
	"sync"
)

// Late is a transfer that outlived its deadline. Its buffer stays the kernel's until Done is closed.
type Late struct {
	done chan struct{}
	what OpError // the transfer, for Wait's errors

	mu      sync.Mutex
	buf     *Buffer // of a read; given out once by Wait
	taken   bool
	err     error
	cleanup runtime.Cleanup
}

// NewLate returns a Late and the function that completes it, for implementations of Device. buf is the
// buffer of a completed read, nil for a write; ownership goes to whoever calls Wait first. A buffer that
// nobody waits for is released when the Late is garbage.
func NewLate() (l *Late, complete func(buf *Buffer, err error)) {
	l = &Late{done: make(chan struct{})}
	return l, l.complete
}

func (l *Late) complete(buf *Buffer, err error) {
	l.mu.Lock()
	l.buf, l.err = buf, err
	if buf != nil {
		l.cleanup = runtime.AddCleanup(l, (*Buffer).Release, buf)
	}
	l.mu.Unlock()
	close(l.done)
}

// Done is closed when the kernel has answered.
func (l *Late) Done() <-chan struct{} { return l.done }

// Wait returns the answer once the kernel has given it, or an OpError around ctx's error. The buffer of a
// read is the caller's and must be released; it is given once, and the next Wait gets ErrReaped. For a
// write the buffer is nil, and a nil error means that the data is durable.
func (l *Late) Wait(ctx context.Context) (*Buffer, error) {
	select {
	case <-l.done:
		return l.take()
	default:
	}
	select {
	case <-l.done:
		return l.take()
	case <-ctx.Done():
		e := l.what
		e.Started, e.Late, e.Err = true, l, ctx.Err()
		return nil, &e
	}
}

func (l *Late) take() (*Buffer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	if l.taken {
		e := l.what
		e.Started, e.Err = true, ErrReaped
		return nil, &e
	}
	buf := l.buf
	if buf != nil {
		l.cleanup.Stop()
		l.buf, l.taken = nil, true
	}
	return buf, nil
}
