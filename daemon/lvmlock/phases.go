package lvmlock

import (
	"math"
	"slices"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// phase does the first thing of its kind that is to be done, if there is one.
type phase func(*Locks) bool

// order is that of spec lvmlockd 3.5, by whose numbers the phases are told. What ends a lock comes before
// what begins one. Phases 3b, 3c and 14 are not of one resource, and 9b is the test lock manager's.
func order() []phase {
	return []phase{
		(*Locks).giveBack, // before all: what the lock manager holds for nobody
		(*Locks).update,   // P1
		(*Locks).unlock,   // P2
		(*Locks).depart,   // P3
		(*Locks).turn,     // P4
		(*Locks).again,    // P5 to P9
		(*Locks).share,    // P10, P11
		(*Locks).exclude,  // P10, P12, P13
	}
}

// giveBack unlocks what nobody holds: a lock came whose value block forbids to use it.
func (l *Locks) giveBack() bool {
	if l.mode == lvmwire.UN || len(l.holders) > 0 || l.stray {
		return false
	}
	l.release(nil, nil)
	return true
}

// update (P1) takes the number that a VG's metadata will have, to be written when EX is given up.
func (l *Locks) update() bool {
	a := l.first(func(a *Ask) bool { return a.Op == lvmwire.OpUpdate })
	if a == nil {
		return false
	}
	at := l.transient(a.Client)
	switch {
	case at < 0:
		l.end(a, lvmwire.NotFound)
	case l.mode != lvmwire.EX:
		l.end(a, lvmwire.BadRequest)
	case a.Flags&lvmwire.NextVersion != 0:
		l.holders[at].Version = l.known.version + 1
		l.end(a, lvmwire.OK)
	case a.Version < 0 || a.Version > math.MaxUint32:
		// It would not fit the block; commands do not look at this answer.
		l.end(a, lvmwire.BadRequest)
	default:
		// A number that is not above the known one is not written later, and told OK here.
		l.holders[at].Version = uint32(a.Version)
		l.end(a, lvmwire.OK)
	}
	return true
}

// unlock (P2) ends locks, and refuses requests that no phase would take.
func (l *Locks) unlock() bool {
	a := l.first(func(a *Ask) bool { return !legal(a) || a.Op == lvmwire.OpLock && a.Mode == lvmwire.UN })
	if a == nil {
		return false
	}
	if !legal(a) {
		l.end(a, lvmwire.BadRequest)
		return true
	}
	if a.unheard && a.Client != l.last {
		l.end(a, lvmwire.OK)
		return true
	}
	if at := l.named(a); at >= 0 {
		l.drop(a, at)
		return true
	}
	if a.Flags&lvmwire.UnlockCancel != 0 {
		mine := func(b *Ask) bool { return b != a && b.Client == a.Client && b.Op == lvmwire.OpLock }
		if b := l.first(mine); b != nil {
			l.end(b, lvmwire.Canceled)
		}
		l.end(a, lvmwire.Canceled)
		return true
	}
	l.end(a, lvmwire.NotFound)
	return true
}

// depart (P3) cleans up after clients that are gone: what they asked, then their lock. If the lock manager
// cannot take that back it is tried again, as nobody else would ever ask for it.
func (l *Locks) depart() bool {
	for i, d := range l.closing {
		if d.paused {
			continue
		}
		for _, a := range slices.Clone(l.queue) {
			if a.Client == d.client && !a.unheard {
				l.end(a, lvmwire.Canceled)
			}
		}
		if at := l.transient(d.client); at >= 0 {
			l.drop(nil, at)
		} else {
			l.closing = slices.Delete(l.closing, i, i+1)
		}
		return true
	}
	return false
}

// turn (P4) moves the global lock to this VG or away from it, which needs that nobody holds it. Whether there
// is one elsewhere is known to the lockspaces only.
func (l *Locks) turn() bool {
	a := l.first(func(a *Ask) bool { return a.Op == lvmwire.OpEnable || a.Op == lvmwire.OpDisable })
	switch {
	case a == nil:
		return false
	case l.mode != lvmwire.UN || l.of.Kind != lvmwire.GL:
		l.end(a, lvmwire.BadRequest)
	case a.Op == lvmwire.OpEnable:
		l.begin(&job{ask: a, call: Call{Kind: CallEnable}})
	default:
		l.begin(&job{ask: a, call: Call{Kind: CallDisable}})
	}
	return true
}

// again (P5 to P9) is for requests that meet a lock of their own, or the persistent one, which is
// everybody's.
func (l *Locks) again() bool {
	for _, a := range l.queue {
		if a.Op != lvmwire.OpLock {
			continue
		}
		own, lasting := l.transient(a.Client), l.persistent()
		wants := a.Flags&lvmwire.Persistent != 0
		switch {
		case !wants && own >= 0: // P5
			l.same(a, own)
		case wants && lasting >= 0: // P6
			l.same(a, lasting)
		case !wants && lasting >= 0: // P7
			l.lean(a, l.holders[lasting].Mode)
		case wants && own >= 0: // P8
			l.keep(a, own)
		default:
			continue
		}
		return true
	}
	return false
}

// same (P5, P6, P9) is a request for a lock that is held already: in this mode, or to be converted to it.
func (l *Locks) same(a *Ask, at int) {
	h := l.holders[at]
	switch {
	case h.Mode == a.Mode:
		l.end(a, lvmwire.Already)
	case a.Mode == lvmwire.EX && len(l.holders) > 1:
		// Others on this host hold SH too. Waiting for them could be for ever, if they want the same.
		l.end(a, lvmwire.Again)
	default:
		l.begin(&job{ask: a, holder: &h, call: Call{
			Kind: CallConvert, From: h.Mode, To: a.Mode, Value: l.next(&h), Options: options(a),
		}})
	}
}

// lean (P7) lets a command use an LV that is active here. Nothing is recorded: the persistent lock stands for
// it.
func (l *Locks) lean(a *Ask, lasting lvmwire.Mode) {
	if lasting == lvmwire.EX || a.Mode == lvmwire.SH {
		l.end(a, lvmwire.OK)
		return
	}
	l.endWith(Answer{Ask: a, Result: lvmwire.Exists, Flags: lvmwire.SHExists})
}

// keep (P8) makes a command's own lock one that outlives it. It must be the mode wanted: a conversion is
// P9's.
func (l *Locks) keep(a *Ask, own int) {
	h := &l.holders[own]
	if h.Mode != a.Mode {
		l.end(a, lvmwire.Exists)
		return
	}
	h.Client, h.Persistent = 0, true
	l.end(a, lvmwire.OK)
}

// share (P11) grants SH to those who asked before the first that wants EX. If this host has SH already the
// lock manager is not asked.
func (l *Locks) share() bool {
	if l.mode == lvmwire.EX || l.stray { // P10: they wait for the holder, however long it takes
		return false
	}
	for _, a := range l.queue {
		switch {
		case a.Op != lvmwire.OpLock:
		case a.Mode == lvmwire.EX:
			return false
		case l.mode == lvmwire.SH:
			l.grant(a, Validity{})
			return true
		case !a.paused:
			l.lock(a)
			return true
		}
	}
	return false
}

// exclude (P13) asks for EX, for the first that wants it, once nobody on this host holds anything (P10, P12).
// While it waits, so do all behind it: a host's readers do not starve its writer.
func (l *Locks) exclude() bool {
	if l.mode != lvmwire.UN {
		return false
	}
	a := l.first(func(a *Ask) bool { return a.Op == lvmwire.OpLock && a.Mode == lvmwire.EX })
	if a == nil || a.paused {
		return false
	}
	l.lock(a)
	return true
}

// legal says whether a request is one that some phase takes. NL is a mode that nothing holds.
func legal(a *Ask) bool {
	switch a.Op {
	case lvmwire.OpLock:
		return a.Mode == lvmwire.UN || a.Mode == lvmwire.SH || a.Mode == lvmwire.EX
	case lvmwire.OpUpdate, lvmwire.OpEnable, lvmwire.OpDisable:
		return true
	default:
		return false
	}
}

// first is the first in the queue of a kind, nil if there is none.
func (l *Locks) first(is func(*Ask) bool) *Ask {
	if i := slices.IndexFunc(l.queue, is); i >= 0 {
		return l.queue[i]
	}
	return nil
}
