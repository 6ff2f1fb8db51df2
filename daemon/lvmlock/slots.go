package lvmlock

import (
	"context"
	"slices"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// freePatience is how long free_lv waits for another command that has the LV: for its end to be noticed.
const freePatience = time.Second

// slotOp is something done to the places of LV locks. A space does one at a time: each searches for what
// another changes.
type slotOp struct {
	p *pending
	f func(ctx context.Context) (lvArgs string, err error)
	l *lane // kept busy meanwhile, nil: none
}

// slot queues what is done to the places of LV locks.
func (s *space) slot(o slotOp) {
	if o.l != nil {
		o.l.calling = true
	}
	s.slots = append(s.slots, o)
	s.nextSlot()
}

// nextSlot begins the first that waits.
func (s *space) nextSlot() {
	if s.slotBusy || len(s.slots) == 0 || s.calls >= maxCalls {
		return
	}
	o := s.slots[0]
	s.slots = s.slots[1:]
	s.slotBusy = true
	s.call(func() func() {
		args, err := o.f(s.engine.ctx)
		return func() {
			s.slotBusy = false
			if err != nil {
				s.log.Warn().Err(err).Str("request", o.p.req.Name).Msg("the lock manager says no")
			}
			r := ResultOf(err)
			o.p.answer(verdict{
				typ: o.p.typ(s), result: r, manager: r, vgArgs: o.p.req.VGArgs, lvArgs: args, generation: s.generation,
			})
			s.letGo(o.l)
			s.nextSlot()
		}
	})
}

// letGo ends a lane's part in a slotOp.
func (s *space) letGo(l *lane) {
	if l == nil {
		return
	}
	l.calling = false
	s.pump(l)
}

// findFree says whether one more LV lock fits (spec lvmlockd 4.7).
func (s *space) findFree(p *pending) {
	f, ok := s.locks.(SlotFinder)
	if !ok {
		p.result(s, lvmwire.OK)
		return
	}
	s.slot(slotOp{p: p, f: func(ctx context.Context) (string, error) {
		return "", f.FindFree(ctx, p.req.LVSize)
	}})
}

// freeLV gives the place of an LV's lock back. It is refused while anyone on this host holds or wants the LV. Who is
// about to go is waited for: a command that frees an LV may come before the end of another was noticed. What the asker
// itself holds until it ends is given back first: lvconvert frees the LV that it has made a pool of, and still locks.
func (s *space) freeLV(p *pending) {
	key := keyOf(p.req)
	if key.name == "" {
		p.result(s, lvmwire.BadRequest)
		return
	}
	if l := s.lanes[key]; l != nil && l.used() {
		if !l.passing() {
			p.result(s, lvmwire.Busy)
			return
		}
		l.frees = append(l.frees, p)
		l.locks.Close(p.client.id)
		s.pump(l)
		s.engine.spawn(func() { s.limitFree(l, p) })
		return
	}
	f, ok := s.locks.(SlotFinder)
	if !ok {
		p.result(s, lvmwire.OK)
		return
	}
	l := s.lane(key, p.req.LVArgs)
	if l == nil {
		p.result(s, lvmwire.NoMemory)
		return
	}
	r := Resource{Kind: lvmwire.LV, Name: key.name, Args: p.req.LVArgs}
	s.slot(slotOp{p: p, l: l, f: func(ctx context.Context) (string, error) { return "", f.FreeLV(ctx, r) }})
}

// used says that somebody holds or wants the resource, or that it is not known because a call is under way.
func (l *lane) used() bool { return l.calling || l.locks.Busy() || len(l.waiters) > 0 }

// passing says that a resource may be used no more in a moment: what uses it goes away with a client.
func (l *lane) passing() bool {
	return l.calling || !slices.ContainsFunc(l.locks.Holders(), func(h Holder) bool { return h.Persistent })
}

// retryFrees serves again those that wait for l to be free.
func (s *space) retryFrees(l *lane) {
	if len(l.frees) == 0 || l.used() && l.passing() {
		return
	}
	frees := l.frees
	l.frees = nil
	for _, p := range frees {
		s.serve(p)
	}
}

// limitFree refuses a request that waited too long for l to be free. A call under way is waited for: it ends.
func (s *space) limitFree(l *lane, p *pending) {
	for again := true; again; {
		select {
		case <-time.After(freePatience):
		case <-s.gone:
			return
		case <-s.engine.ctx.Done():
			return
		}
		s.do(func() {
			i := slices.Index(l.frees, p)
			if again = i >= 0 && l.calling; i >= 0 && !again {
				l.frees = slices.Delete(l.frees, i, i+1)
				p.result(s, lvmwire.Busy)
			}
		})
	}
}

// initLV makes an LV's lock in a started VG.
func (s *space) initLV(p *pending) {
	switch s.state {
	case starting, adopting:
		p.result(s, lvmwire.Starting)
		return
	case stopping:
		p.result(s, lvmwire.NoLockspace)
		return
	case running:
	}
	a, ok := s.manager.(LVAllocator)
	if !ok {
		p.answer(verdict{typ: p.typ(s), vgArgs: p.req.VGArgs, generation: s.generation})
		return
	}
	if p.req.LVUUID == "" {
		p.result(s, lvmwire.BadRequest)
		return
	}
	vg := s.vg
	if p.req.VGArgs != "" {
		vg.Args = p.req.VGArgs
	}
	s.slot(slotOp{p: p, f: func(ctx context.Context) (string, error) {
		return a.InitLV(ctx, vg, s.locks, p.req.LVUUID, p.req.PrevLVArgs)
	}})
}
