package fake

import (
	"context"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// Op is a call, as a Fault function sees it.
type Op struct {
	Host     uint64
	Name     string // as the method: "lock", "convert", "unlock", "join", "leave", "init_vg", …
	Space    string // "lvm_vg"
	Resource string
	Mode     lvmwire.Mode
}

// Fault is what goes wrong with a call. A call that fails has no effect, as the contract of lvmlock.Lockspace
// says.
type Fault struct {
	Before time.Duration // passes before the call has its effect
	After  time.Duration // passes before its end is told
	Err    error
}

// begin waits and fails as Fault says, and returns how long the end is to be kept back.
func (m *Manager) begin(ctx context.Context, op Op) (after time.Duration, err error) {
	op.Host = m.host
	var f Fault
	if m.cfg.Fault != nil {
		f = m.cfg.Fault(op)
	}
	if err := wait(ctx, f.Before); err != nil {
		return 0, &lvmlock.Error{Op: op.Name, What: op.Space, Result: lvmwire.IOTimeout, Err: err}
	}
	return f.After, f.Err
}

// wait sleeps, unless the context ends before.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Lose makes this host's lockspace fail: it is told so, and whatever it calls fails from now on. What it
// holds stays held, as nobody else can know that it has stopped using it.
func (m *Manager) Lose(name string) {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	if s := m.cluster.area(name).members[m.host]; s != nil && !s.failed {
		s.failed = true
		close(s.lost)
	}
}

// Die ends the host: a moment later the others have taken over its locks. What it wrote last in EX nobody
// knows.
func (m *Manager) Die() {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	for _, a := range m.cluster.areas {
		for _, r := range a.resources {
			if r.holders[m.host].mode == lvmwire.EX {
				r.value = lvmlock.Value{}
			}
		}
		a.drop(m.host, nil)
		if s := a.members[m.host]; s != nil {
			s.failed = true
			delete(a.members, m.host)
		}
	}
}
