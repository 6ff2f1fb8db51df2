package device

import (
	"context"
	"sync"
)

// maxLateOpens bounds how many opens of one path may hang in the kernel with nobody waiting for them.
const maxLateOpens = 8

// Patience opens devices before a deadline, or says that it could not. The kernel has no deadline for that: a
// file server that has gone lets an open hang for as long as it likes. What is opened too late is closed
// again.
type Patience struct {
	open func(path string) (Device, error)

	mu   sync.Mutex
	late map[string]int // opens that hang and that nobody waits for
}

// NewPatience returns a Patience that opens with open.
func NewPatience(open func(path string) (Device, error)) *Patience {
	return &Patience{open: open, late: map[string]int{}}
}

// opened is how an open has ended.
type opened struct {
	dev Device
	err error
}

// Open opens path. When ctx ends first, the error is an OpError around ctx's error. It is one around ErrStuck
// at once while many opens of the path hang.
func (p *Patience) Open(ctx context.Context, path string) (Device, error) {
	p.mu.Lock()
	stuck := p.late[path] >= maxLateOpens
	p.mu.Unlock()
	if stuck {
		return nil, &OpError{Op: "open", Device: path, Err: ErrStuck}
	}
	done := make(chan opened, 1)
	go func() {
		dev, err := p.open(path)
		done <- opened{dev, err}
	}()
	select {
	case o := <-done:
		return o.dev, o.err
	case <-ctx.Done():
		p.count(path, 1)
		go p.reap(path, done)
		return nil, &OpError{Op: "open", Device: path, Err: ctx.Err()}
	}
}

// reap closes what was opened too late. It lives as long as the open hangs.
func (p *Patience) reap(path string, done <-chan opened) {
	if o := <-done; o.err == nil {
		o.dev.Close()
	}
	p.count(path, -1)
}

func (p *Patience) count(path string, more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late[path] += more; p.late[path] == 0 {
		delete(p.late, path)
	}
}

// Late returns how many opens hang with nobody waiting for them.
func (p *Patience) Late() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, late := range p.late {
		n += late
	}
	return n
}
