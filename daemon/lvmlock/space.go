package lvmlock

import (
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// state is where a lockspace is in its life (spec lvmlockd 3.4).
type state uint8

const (
	starting state = iota // until the join ended; everything is answered Starting
	adopting              // joined, but only adoption may use it
	running
	stopping // until the lock manager has let go of it
)

// globalSpace holds the global lock of a lock manager that has no place for it in each VG. In the table it
// has a name that no VG's lockspace can have.
const (
	globalSpace = "lvm_global"
	globalKey   = " lvm_global"
)

// spaceName is what a VG's lockspace is called in the lock manager.
func spaceName(vg string) string { return "lvm_" + vg }

// space is a VG's lockspace. One goroutine, run, owns everything in it but status; others reach it with post.
// It never waits for the lock manager: each call has a goroutine of its own, which posts the outcome.
type space struct {
	engine  *Engine
	log     zerolog.Logger
	name    string
	key     string // in Engine.spaces
	global  bool   // lvm_global
	serial  uint64
	vg      VG
	typ     lvmwire.LockType
	manager LockManager
	inbox   chan func()
	gone    chan struct{} // closed when run has ended

	state      state
	killed     bool // no more locks: storage was lost (spec 3.4.8)
	lonely     bool // lvm_global, and the last VG of its type went away
	ended      bool
	locks      Lockspace // nil until joined
	lost       <-chan struct{}
	generation uint64
	lanes      map[laneKey]*lane
	calls      int     // under way
	ready      []*lane // that wait for calls to become fewer
	parked     []*pending
	quiet      []func() // to be called when no LV's call is under way
	slots      []slotOp
	slotBusy   bool
	leaving    *teardown
	needed     time.Time // when the lock manager last refused to let it go
	alarm      *time.Timer
	refusals   map[laneKey]refusal

	mu     sync.Mutex
	status status
}

// status is what others may know of a space without asking its goroutine.
type status struct {
	state      state
	idle       bool
	killed     bool
	enabled    bool
	locks      Lockspace
	generation uint64
}

// admit makes a space of a VG and starts its goroutine, or returns the one that there is.
func (e *Engine) admit(vg VG, m LockManager) (s *space, fresh bool) {
	name, key := spaceName(vg.Name), spaceName(vg.Name)
	if vg.Name == globalSpace && vg.UUID == "" {
		name, key = globalSpace, globalKey
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.spaces[key]; s != nil {
		return s, false
	}
	if e.closed || len(e.spaces) >= maxSpaces {
		return nil, false
	}
	e.lastSpace++
	s = &space{
		engine: e, log: e.log.With().Str("space", name).Logger(), name: name, key: key, global: key == globalKey,
		serial: e.lastSpace, vg: vg, typ: m.Type(), manager: m, inbox: make(chan func()), gone: make(chan struct{}),
		lanes: map[laneKey]*lane{}, refusals: map[laneKey]refusal{}, alarm: time.NewTimer(time.Hour),
	}
	s.alarm.Stop()
	e.spaces[key] = s
	e.work.Go(s.run)
	return s, true
}

// lookup returns the space of that name, nil if there is none.
func (e *Engine) lookup(name string) *space {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.spaces[name]
}

// listSpaces returns the spaces, oldest first. e.mu is held.
func (e *Engine) listSpaces() []*space {
	all := make([]*space, 0, len(e.spaces))
	for _, s := range e.spaces {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *space) int {
		if a.serial < b.serial {
			return -1
		}
		return 1
	})
	return all
}

// all returns the spaces, oldest first.
func (e *Engine) all() []*space {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listSpaces()
}

// post has f called by the space's goroutine, and says false if that has ended. It must not be called from
// there.
func (s *space) post(f func()) bool {
	select {
	case s.inbox <- f:
		return true
	case <-s.gone:
		return false
	}
}

// do is post, and waits until f has returned and its effect can be seen.
func (s *space) do(f func()) {
	done := make(chan struct{})
	posted := s.post(func() {
		f()
		s.publish()
		close(done)
	})
	if posted {
		<-done
	}
}

func (s *space) run() {
	defer close(s.gone)
	defer s.alarm.Stop()
	for !s.ended {
		select {
		case f := <-s.inbox:
			f()
		case now := <-s.alarm.C:
			s.resume(now)
		case <-s.lost:
			s.lose()
		case <-s.engine.ctx.Done():
			return
		}
		s.settle()
		s.publish()
	}
}

// call runs f beside the goroutine, and then the function that f returns in it.
func (s *space) call(f func() func()) {
	s.calls++
	ok := s.engine.spawn(func() {
		then := f()
		s.post(func() {
			s.calls--
			then()
		})
	})
	if !ok {
		s.calls--
	}
}

// settle does what had to wait for calls to end.
func (s *space) settle() {
	for len(s.ready) > 0 && s.calls < maxCalls {
		l := s.ready[0]
		s.ready = s.ready[1:]
		l.queued = false
		s.pump(l)
	}
	if len(s.quiet) > 0 && !s.locking() {
		waiting := s.quiet
		s.quiet = nil
		for _, f := range waiting {
			f()
		}
	}
	s.nextSlot()
	if s.lonely && s.state == running && s.idle() && s.engine.deserted(s.typ) {
		s.log.Info().Msg("no VG needs the global lock any more: stopping")
		s.beginStop(nil, false)
	}
	s.advance()
}

// publish lets others see the state, and wakes them if it changed.
func (s *space) publish() {
	now := status{state: s.state, idle: s.idle(), killed: s.killed, locks: s.locks, generation: s.generation}
	s.mu.Lock()
	was := s.status
	now.enabled = was.enabled
	s.status = now
	s.mu.Unlock()
	if was.state != now.state || was.idle != now.idle {
		s.engine.mu.Lock()
		s.engine.announce()
		s.engine.mu.Unlock()
	}
}

// now returns what was published.
func (s *space) now() status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// setEnabled notes whether the VG's place for the global lock is enabled.
func (s *space) setEnabled(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.enabled = on
}

// idle says that nothing is locked, waited for or under way.
func (s *space) idle() bool {
	if s.calls > 0 || len(s.parked) > 0 || len(s.quiet) > 0 {
		return false
	}
	for _, l := range s.lanes {
		if l.locks.Busy() || len(l.waiters) > 0 {
			return false
		}
	}
	return true
}

// locking says that a call for an LV is under way, so that it is not known whether it is locked.
func (s *space) locking() bool {
	for key, l := range s.lanes {
		if key.kind == lvmwire.LV && l.calling {
			return true
		}
	}
	return false
}

// holdsLV says that an LV is locked.
func (s *space) holdsLV() bool {
	for key, l := range s.lanes {
		if key.kind == lvmwire.LV && l.locks.Busy() {
			return true
		}
	}
	return false
}

// end takes the space out of the table; run ends after this.
func (s *space) end() {
	e := s.engine
	s.ended = true
	e.mu.Lock()
	delete(e.spaces, s.key)
	e.forget(s.key)
	last := !s.global && e.vgs(s.typ) == 0
	global := e.spaces[globalKey]
	e.announce()
	e.mu.Unlock()
	e.touch()
	if last && global != nil && global.typ == s.typ {
		e.spawn(func() { global.post(func() { global.lonely = true }) })
	}
}

// vgs counts the VGs of a lock type. e.mu is held.
func (e *Engine) vgs(t lvmwire.LockType) int {
	n := 0
	for _, s := range e.spaces {
		if !s.global && s.typ == t {
			n++
		}
	}
	return n
}

// deserted says that there is no VG of a lock type.
func (e *Engine) deserted(t lvmwire.LockType) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.vgs(t) == 0
}
