package dlm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// Lockspace is a VG's lockspace in the kernel.
type Lockspace struct {
	manager *Manager
	name    string
	lost    chan struct{}

	mu      sync.Mutex
	wire    *wire // nil: not joined, or closed
	member  bool  // the kernel has the lockspace
	minor   int
	records map[string]*record
	leaving bool
	parted  map[string]bool // given back by a Leave that failed later: their Unlock has nothing to do
}

var (
	_ lvmlock.Lockspace = (*Lockspace)(nil)
	_ lvmlock.Purger    = (*Lockspace)(nil)
)

var errNotJoined = errors.New("the lockspace is not joined")

func newLockspace(m *Manager, name string) *Lockspace {
	return &Lockspace{manager: m, name: name, lost: make(chan struct{}), records: map[string]*record{}, parted: map[string]bool{}}
}

// task is work in the kernel that cannot be called back.
type task[T any] struct {
	do   func() (T, error)
	undo func(T) // nil: nothing to undo
	last func()  // nil: nothing more
}

// finish runs a task to its end on a goroutine of its own, since the kernel may block it. It is undone if nobody waits
// for it any more.
func finish[T any](ctx context.Context, t task[T]) (T, error) {
	type end struct {
		value T
		err   error
	}
	done := make(chan end)
	go func() {
		if t.last != nil {
			defer t.last()
		}
		v, err := t.do()
		select {
		case done <- end{v, err}:
		case <-ctx.Done():
			if err == nil && t.undo != nil {
				t.undo(v)
			}
		}
	}()
	select {
	case e := <-done:
		return e.value, e.err
	case <-ctx.Done():
		var zero T
		return zero, fmt.Errorf("gave up waiting for the cluster, what comes late will be undone: %w", ctx.Err())
	}
}

// membership is an open lockspace.
type membership struct {
	minor int
	dev   Device
	made  bool // by us, now
}

// Join creates the lockspace, or opens that of an earlier daemon. It waits for dlm_controld; there are no generations.
func (s *Lockspace) Join(ctx context.Context, o lvmlock.JoinOptions) (uint64, error) {
	m, err := finish(ctx, task[membership]{
		do: func() (membership, error) { return s.become(o) },
		undo: func(m membership) {
			err := m.dev.Close()
			if m.made {
				err = errors.Join(err, s.manager.remove(m.minor))
			}
			s.manager.log.Info().Err(err).Str("lockspace", s.name).Msg("dlm: left what was joined too late")
		},
	})
	if err != nil {
		r := lvmwire.ManagerError
		switch {
		case errors.Is(err, fs.ErrExist):
			r = lvmwire.Exists
		case errors.Is(err, fs.ErrNotExist) && o.AdoptOnly:
			r = lvmwire.AdoptNone
		}
		return 0, fault("join", "lockspace "+s.name, r, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wire, s.minor, s.member = newWire(m.dev, s.lost), m.minor, true
	return 0, nil
}

// become enters the lockspace as said, and opens it.
func (s *Lockspace) become(o lvmlock.JoinOptions) (membership, error) {
	var m membership
	err := fs.ErrNotExist
	if o.Adopt || o.AdoptOnly {
		m.minor, err = s.manager.kernel.Minor(s.name)
	}
	if errors.Is(err, fs.ErrNotExist) && !o.AdoptOnly {
		m.made = true
		m.minor, err = s.manager.create(s.name)
	}
	if err != nil {
		return membership{}, err
	}
	if m.dev, err = s.manager.kernel.Open(s.name, m.minor); err == nil {
		return m, nil
	}
	if m.made {
		err = errors.Join(err, s.manager.remove(m.minor))
	}
	return membership{}, err
}

// Leave gives every lock back and removes the lockspace. With free, other hosts find the VG's lock marked as removed.
// It waits for calls that are under way. If that cannot be done we are still a member (Busy), and can lock and leave
// again.
func (s *Lockspace) Leave(ctx context.Context, free bool) error {
	s.mu.Lock()
	w, minor, member := s.wire, s.minor, s.member
	s.leaving = true
	records := make([]*record, 0, len(s.records))
	for _, r := range s.records {
		r.users++
		records = append(records, r)
	}
	s.mu.Unlock()
	err := s.giveBack(ctx, records, free)
	if err == nil && w != nil {
		// The device goes first: the kernel forgets one that outlives its lockspace badly.
		s.mu.Lock()
		s.wire = nil
		s.mu.Unlock()
		if failed := w.close(); failed != nil {
			s.manager.log.Info().Err(failed).Str("lockspace", s.name).Msg("dlm: close")
		}
	}
	if err == nil && member {
		_, err = finish(ctx, task[struct{}]{do: func() (struct{}, error) { return struct{}{}, s.remove(minor) }})
	}
	result := lvmwire.ManagerError
	if err != nil && ctx.Err() == nil && s.reopen() {
		result = lvmwire.Busy
	}
	s.mu.Lock()
	s.leaving = false
	s.mu.Unlock()
	if err != nil {
		return fault("leave", "lockspace "+s.name, result, err)
	}
	return nil
}

// reopen makes the lockspace usable again after it could not be left, and says whether it is.
func (s *Lockspace) reopen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.member || s.isLost() {
		return false
	}
	if s.wire != nil {
		return true
	}
	dev, err := s.manager.kernel.Open(s.name, s.minor)
	if err != nil {
		s.manager.log.Warn().Err(err).Str("lockspace", s.name).Msg("dlm: not left, and not to be opened again")
		return false
	}
	s.wire = newWire(dev, s.lost)
	return true
}

// remove ends the membership, which dlm_controld must agree to.
func (s *Lockspace) remove(minor int) error {
	err := s.manager.remove(minor)
	if errors.Is(err, fs.ErrNotExist) && s.isLost() {
		err = nil
	}
	if err == nil {
		s.mu.Lock()
		s.member = false
		s.mu.Unlock()
	}
	return err
}

// giveBack waits for the calls on each record and frees it. A lost lockspace has nothing to give back.
func (s *Lockspace) giveBack(ctx context.Context, records []*record, free bool) error {
	var failed error
	for _, r := range records {
		err := failed
		if err == nil {
			err = r.take(ctx)
		}
		if err != nil {
			s.forget(r)
			failed = err
			continue
		}
		_, err = finish(ctx, task[struct{}]{
			do:   func() (struct{}, error) { return struct{}{}, s.part(r, free) },
			last: func() { s.exit(r) },
		})
		if err != nil && !s.isLost() {
			failed = err
		}
	}
	return failed
}

// part is end, and remembers what was held.
func (s *Lockspace) part(r *record, free bool) error {
	held := r.mode != modeNL
	err := s.end(r, free)
	if held && r.mode == modeNL {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.parted[r.name] = true
	}
	return err
}

// parting says, once, that a lock was given back by a Leave that failed.
func (s *Lockspace) parting(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.parted[name]
	delete(s.parted, name)
	return was
}

// end frees a lock. A VG that is removed leaves word in its value block, which other hosts see while they are members.
func (s *Lockspace) end(r *record, free bool) error {
	if free && r.mode == modeEX && r.kind == lvmwire.VG {
		gone := lvmlock.Value{Version: max(r.version, 1), Removed: true, Set: true}
		if err := s.convert(r, modeNL, &gone); err != nil {
			return err
		}
	}
	return s.drop(r)
}

func (s *Lockspace) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// Hosts counts the other members, which dlm_controld knows for sure.
func (s *Lockspace) Hosts(context.Context) (int, bool, error) {
	n, err := s.manager.cluster.members(s.name)
	if err != nil {
		return 0, false, fault("count", "members of lockspace "+s.name, lvmwire.Refused, err)
	}
	return max(n-1, 0), false, nil
}

// Lost is closed when the kernel has no such lockspace any more, or its device cannot be understood.
func (s *Lockspace) Lost() <-chan struct{} { return s.lost }

// Purge removes the orphans of this host's earlier lives that nobody adopted.
func (s *Lockspace) Purge(ctx context.Context) error {
	w, err := s.open()
	if err == nil {
		_, err = finish(ctx, task[int]{do: func() (int, error) {
			node, err := s.manager.cluster.node()
			if err != nil {
				return 0, err
			}
			return w.tell(command{Verb: verbPurge, Node: node})
		}})
	}
	if err != nil {
		return fault("purge", "lockspace "+s.name, lvmwire.ManagerError, err)
	}
	return nil
}

// open returns the wire, which is there until the last lock is given back.
func (s *Lockspace) open() (*wire, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire == nil {
		return nil, errNotJoined
	}
	return s.wire, nil
}
