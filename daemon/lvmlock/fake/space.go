package fake

import (
	"context"
	"fmt"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// space is one daemon's membership in a lockspace.
type space struct {
	manager *Manager
	name    string
	lost    chan struct{}
	failed  bool            // with cluster.mu
	calls   map[string]bool // resources with a call under way, with cluster.mu
}

// Join makes the host a member. One that is a member already must say that it takes over what an earlier
// daemon left.
func (s *space) Join(ctx context.Context, o lvmlock.JoinOptions) (uint64, error) {
	m := s.manager
	if _, err := m.begin(ctx, Op{Name: "join", Space: s.name}); err != nil {
		return 0, err
	}
	if !o.NoDelay {
		if err := wait(ctx, m.cfg.JoinDelay); err != nil {
			return 0, &lvmlock.Error{Op: "join", What: s.name, Result: lvmwire.IOTimeout, Err: err}
		}
	}
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	a := m.cluster.area(s.name)
	switch earlier := a.members[m.host]; {
	case earlier != nil && !o.Adopt && !o.AdoptOnly:
		return 0, refuse("join", s.name, lvmwire.Exists)
	case earlier == nil && o.AdoptOnly:
		return 0, refuse("adopt", s.name, lvmwire.AdoptNone)
	case earlier == nil:
		a.generations[m.host]++
	}
	if !a.decided {
		a.decided, a.enabled = true, !m.cluster.anyEnabled()
	}
	a.members[m.host] = s
	if m.cfg.Type != lvmwire.Sanlock {
		return 0, nil
	}
	return a.generations[m.host], nil
}

// Leave gives back what this daemon holds. If an earlier one left locks the host stays a member (Busy).
func (s *space) Leave(ctx context.Context, free bool) error {
	m := s.manager
	if _, err := m.begin(ctx, Op{Name: "leave", Space: s.name}); err != nil {
		return err
	}
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	a := m.cluster.area(s.name)
	if a.members[m.host] != s {
		return nil
	}
	if a.orphans(m.host, s) {
		return refuse("leave", s.name, lvmwire.Busy)
	}
	a.drop(m.host, s)
	delete(a.members, m.host)
	if m.cfg.GlobalAnywhere {
		a.decided, a.enabled = false, false
	}
	if free || m.cfg.Type != lvmwire.Sanlock && len(a.members) == 0 { // dlm keeps its value blocks in its members
		delete(m.cluster.areas, s.name)
	}
	return nil
}

// Lock takes a resource, or an orphan if the options say so.
func (s *space) Lock(
	ctx context.Context, r lvmlock.Resource, mode lvmwire.Mode, o lvmlock.LockOptions,
) (value lvmlock.Value, err error) {
	op := Op{Name: "lock", Resource: r.Name, Mode: mode}
	err = s.do(ctx, op, func(a *area) error {
		res, host := a.resource(r.Name), s.manager.host
		mine, held := res.holders[host]
		switch {
		case mode != lvmwire.SH && mode != lvmwire.EX || held && mine.by == s:
			return s.misused(op, "it is held in mode %d", mine.mode)
		case held && !o.Adopt && !o.AdoptOnly:
			return s.refuse(op, lvmwire.Orphan)
		case held && mine.mode != mode:
			return s.refuse(op, lvmwire.AdoptRetry)
		case !held && o.AdoptOnly:
			return s.refuse(op, lvmwire.AdoptNone)
		case r.Kind == lvmwire.GL && s.manager.cfg.Type == lvmwire.Sanlock && !a.enabled:
			return s.refuse(op, lvmwire.Unattached)
		}
		if other, found := res.conflict(host, mode); found {
			return s.taken(op, a, other)
		}
		res.holders[host] = holder{mode: mode, by: s}
		value = res.value
		return nil
	})
	return value, err
}

// Convert changes the mode of what this daemon holds.
func (s *space) Convert(
	ctx context.Context, r lvmlock.Resource, from, to lvmwire.Mode, value *lvmlock.Value,
) error {
	op := Op{Name: "convert", Resource: r.Name, Mode: to}
	return s.do(ctx, op, func(a *area) error {
		res, host := a.resource(r.Name), s.manager.host
		mine := res.holders[host]
		if mine.by != s || mine.mode != from || to != lvmwire.SH && to != lvmwire.EX || from == to {
			return s.misused(op, "it is held in mode %d, not %d", mine.mode, from)
		}
		if other, found := res.conflict(host, to); found {
			return s.taken(op, a, other)
		}
		res.write(from, value)
		res.holders[host] = holder{mode: to, by: s}
		return nil
	})
}

// Unlock gives back what this daemon holds.
func (s *space) Unlock(
	ctx context.Context, r lvmlock.Resource, from lvmwire.Mode, value *lvmlock.Value,
) error {
	op := Op{Name: "unlock", Resource: r.Name}
	return s.do(ctx, op, func(a *area) error {
		res, host := a.resource(r.Name), s.manager.host
		if mine := res.holders[host]; mine.by != s || mine.mode != from {
			return s.misused(op, "it is held in mode %d, not %d", mine.mode, from)
		}
		res.write(from, value)
		delete(res.holders, host)
		return nil
	})
}

// Hosts counts the other members.
func (s *space) Hosts(ctx context.Context) (others int, unsure bool, err error) {
	err = s.do(ctx, Op{Name: "hosts"}, func(a *area) error {
		others = len(a.members) - 1
		return nil
	})
	return others, false, err
}

// Lost is closed by Lose.
func (s *space) Lost() <-chan struct{} { return s.lost }

// Purge lets go of what an earlier daemon left and nobody adopted.
func (s *space) Purge(ctx context.Context) error {
	return s.do(ctx, Op{Name: "purge"}, func(a *area) error {
		host := s.manager.host
		for _, r := range a.resources {
			if h, ok := r.holders[host]; ok && h.by != s {
				delete(r.holders, host)
			}
		}
		return nil
	})
}

// write changes the value block, which only EX may.
func (r *resource) write(from lvmwire.Mode, value *lvmlock.Value) {
	if value != nil && from == lvmwire.EX {
		r.value = *value
		r.value.Set = true
	}
}

// do makes one call of a member. Two side by side for the same resource are against the contract.
func (s *space) do(ctx context.Context, op Op, f func(*area) error) error {
	m := s.manager
	op.Space = s.name
	if err := s.enter(op); err != nil {
		return err
	}
	defer s.exit(op)
	after, err := m.begin(ctx, op)
	if err == nil {
		err = s.carryOut(op, f)
	}
	// What happened has happened: the end of ctx only cuts the wait short.
	_ = wait(ctx, after)
	return err
}

func (s *space) carryOut(op Op, f func(*area) error) error {
	m := s.manager
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	a := m.cluster.area(s.name)
	switch {
	case s.failed:
		return s.refuse(op, lvmwire.LockIO)
	case a.members[m.host] != s:
		return s.refuse(op, lvmwire.NoLockspace)
	}
	return f(a)
}

func (s *space) enter(op Op) error {
	s.manager.cluster.mu.Lock()
	defer s.manager.cluster.mu.Unlock()
	if op.Resource == "" {
		return nil
	}
	if s.calls[op.Resource] {
		return s.misused(op, "another call is under way")
	}
	if s.calls == nil {
		s.calls = map[string]bool{}
	}
	s.calls[op.Resource] = true
	return nil
}

func (s *space) exit(op Op) {
	s.manager.cluster.mu.Lock()
	defer s.manager.cluster.mu.Unlock()
	delete(s.calls, op.Resource)
}

func (s *space) refuse(op Op, r lvmwire.Result) *lvmlock.Error {
	return refuse(op.Name, s.name+":"+op.Resource, r)
}

// misused is the answer to a call that is against the contract.
func (s *space) misused(op Op, why string, args ...any) *lvmlock.Error {
	e := s.refuse(op, lvmwire.BadRequest)
	e.Err = fmt.Errorf("host %d: "+why, append([]any{s.manager.host}, args...)...)
	return e
}

// taken is the answer when another host is in the way. Sanlock says of SH that a moment later it may work, as
// several hosts that take it at once disturb each other.
func (s *space) taken(op Op, a *area, other uint64) *lvmlock.Error {
	e := s.refuse(op, lvmwire.Again)
	if s.manager.cfg.Type == lvmwire.Sanlock {
		e.Retry = op.Mode == lvmwire.SH
		e.Owner = lvmwire.Owner{
			HostID: other, Generation: a.generations[other], State: "LIVE", Name: fmt.Sprintf("host%d", other),
		}
	}
	return e
}
