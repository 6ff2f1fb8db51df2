package lvmlock_test

import (
	"context"
	"sync"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// hooked is a lock manager in memory whose calls a test may hold up or make fail.
type hooked struct {
	*fake.Manager

	mu    sync.Mutex
	hooks map[string]hook
	calls []string
}

// hook is called instead of a call on the lock manager; call carries that out.
type hook func(ctx context.Context, call func() error) error

func newHooked(typ lvmwire.LockType) *hooked {
	return &hooked{Manager: newFake(typ), hooks: map[string]hook{}}
}

// on sets the hook of a call, named "lock u1", "unlock VGLK", "join lvm_vg1", "leave lvm_vg1", …; nil takes
// it away.
func (m *hooked) on(call string, f hook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks[call] = f
}

// fail makes a call fail with a result.
func (m *hooked) fail(call string, r lvmwire.Result) {
	m.on(call, func(context.Context, func() error) error {
		return &lvmlock.Error{Op: call, What: "a test", Result: r}
	})
}

// hold makes a call wait until release is called.
func (m *hooked) hold(call string) (release func()) {
	open := make(chan struct{})
	m.on(call, func(ctx context.Context, call func() error) error {
		select {
		case <-open:
			return call()
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return sync.OnceFunc(func() { close(open) })
}

// count is how often a call was made.
func (m *hooked) count(call string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, c := range m.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (m *hooked) run(ctx context.Context, name string, call func() error) error {
	m.mu.Lock()
	m.calls = append(m.calls, name)
	f := m.hooks[name]
	m.mu.Unlock()
	if f == nil {
		return call()
	}
	return f(ctx, call)
}

// Running may fail.
func (m *hooked) Running(ctx context.Context) error {
	return m.run(ctx, "running", func() error { return m.Manager.Running(ctx) })
}

// InitVG may be slow.
func (m *hooked) InitVG(ctx context.Context, vg lvmlock.VG, o lvmlock.InitOptions) (args string, err error) {
	err = m.run(ctx, "init lvm_"+vg.Name, func() error {
		args, err = m.Manager.InitVG(ctx, vg, o)
		return err
	})
	return args, err
}

// Prepare wraps the lockspace.
func (m *hooked) Prepare(
	ctx context.Context, vg lvmlock.VG, o lvmlock.PrepareOptions,
) (s lvmlock.Lockspace, previous uint64, err error) {
	name := "lvm_" + vg.Name
	if vg.Name == "lvm_global" {
		name = vg.Name
	}
	err = m.run(ctx, "prepare "+name, func() error {
		s, previous, err = m.Manager.Prepare(ctx, vg, o)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	h := &hookedSpace{Lockspace: s, m: m, name: name, lost: make(chan struct{})}
	if g, ok := s.(globalSpace); ok {
		return &hookedGlobal{hookedSpace: h, globalSpace: g}, previous, nil
	}
	return h, previous, nil
}

// globalSpace is what sanlock's lockspaces can do beside.
type globalSpace interface {
	lvmlock.GlobalLocker
	lvmlock.SlotFinder
	lvmlock.Member
}

type hookedSpace struct {
	lvmlock.Lockspace
	m    *hooked
	name string
	lost chan struct{}
}

type hookedGlobal struct {
	*hookedSpace
	globalSpace
}

func (s *hookedSpace) Join(ctx context.Context, o lvmlock.JoinOptions) (generation uint64, err error) {
	err = s.m.run(ctx, "join "+s.name, func() error {
		generation, err = s.Lockspace.Join(ctx, o)
		return err
	})
	return generation, err
}

func (s *hookedSpace) Leave(ctx context.Context, free bool) error {
	return s.m.run(ctx, "leave "+s.name, func() error { return s.Lockspace.Leave(ctx, free) })
}

func (s *hookedSpace) Lock(
	ctx context.Context, r lvmlock.Resource, m lvmwire.Mode, o lvmlock.LockOptions,
) (v lvmlock.Value, err error) {
	err = s.m.run(ctx, "lock "+r.Name, func() error {
		v, err = s.Lockspace.Lock(ctx, r, m, o)
		return err
	})
	return v, err
}

func (s *hookedSpace) Convert(
	ctx context.Context, r lvmlock.Resource, from, to lvmwire.Mode, v *lvmlock.Value,
) error {
	return s.m.run(ctx, "convert "+r.Name, func() error { return s.Lockspace.Convert(ctx, r, from, to, v) })
}

func (s *hookedSpace) Unlock(ctx context.Context, r lvmlock.Resource, from lvmwire.Mode, v *lvmlock.Value) error {
	return s.m.run(ctx, "unlock "+r.Name, func() error { return s.Lockspace.Unlock(ctx, r, from, v) })
}

func (s *hookedSpace) Hosts(ctx context.Context) (others int, unsure bool, err error) {
	err = s.m.run(ctx, "hosts "+s.name, func() error {
		others, unsure, err = s.Lockspace.Hosts(ctx)
		return err
	})
	return others, unsure, err
}

func (s *hookedSpace) Lost() <-chan struct{} { return s.lost }
