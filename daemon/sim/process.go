package sim

import (
	"errors"
	"io"
	"sync"
	"time"
)

// process is a process as the kernel has it. What it does to the world outside of its memory goes through
// wait.
type process struct {
	mu      sync.Mutex
	is      condition
	changed chan struct{}
	files   []io.Closer
	slow    time.Duration // from when something is sent to this process until it can be read
}

func newProcess() *process { return &process{changed: make(chan struct{})} }

var errKilled = errors.New("the process was killed")

// wait returns when the process runs: at once, or after a SIGCONT. The error says that it never will again.
func (p *process) wait() error {
	for {
		p.mu.Lock()
		is, changed := p.is, p.changed
		p.mu.Unlock()
		if is == working {
			return nil
		}
		if is == cut {
			return errKilled
		}
		<-changed
	}
}

// stop is SIGSTOP.
func (p *process) stop() { p.set(hanging) }

// proceed is SIGCONT.
func (p *process) proceed() { p.set(working) }

// kill is SIGKILL: the kernel closes what the process has open.
func (p *process) kill() {
	p.set(cut)
	p.mu.Lock()
	files := p.files
	p.files = nil
	p.mu.Unlock()
	for _, f := range files {
		f.Close()
	}
}

func (p *process) set(to condition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.is == cut {
		return
	}
	p.is = to
	close(p.changed)
	p.changed = make(chan struct{})
}

// owns says that the process has f open.
func (p *process) owns(f io.Closer) {
	p.mu.Lock()
	over := p.is == cut
	if !over {
		p.files = append(p.files, f)
	}
	p.mu.Unlock()
	if over {
		f.Close()
	}
}

// SlowToRead makes what is sent to the process from now on arrive so much later.
func (p *process) SlowToRead(late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = late
}

func (p *process) lateness() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slow
}

// runs reports whether the process runs now.
func (p *process) runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.is == working
}
