package lvmlock

import (
	"slices"
	"testing"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// What is broken on purpose. Places in order() are P0 giveBack … P13 exclude.
const (
	atGiveBack = iota
	atUpdate
	atUnlock
	atDepart
	atTurn
	atAgain
	atShare
	atExclude
)

// instead puts another phase in one's place.
func instead(at int, p phase) func() []phase {
	return func() []phase {
		all := order()
		all[at] = p
		return all
	}
}

func never(*Locks) bool { return false }

// TestExplorerFindsMutants breaks the machine in ways that a hurried change could, one at a time. Each must
// be found, or the explorer's silence about the machine means nothing.
func TestExplorerFindsMutants(t *testing.T) {
	lv := scope{kind: lvmwire.LV, clients: 2, requests: 2, faults: 1, unheard: true, statesMax: 1_000_000}
	vg := scope{kind: lvmwire.VG, clients: 2, requests: 2, faults: 1, removed: true, statesMax: 1_000_000}
	phases := func(sc scope, p func() []phase) scope { sc.phases = p; return sc }
	done := func(sc scope, f func(*Locks, Outcome)) scope { sc.done = f; return sc }
	for name, sc := range map[string]scope{
		"SH is shared with a holder of EX":            phases(vg, instead(atShare, shareAlways)),
		"SH passes a waiting EX":                      phases(vg, instead(atShare, shareAll)),
		"EX is asked for while SH is held":            phases(vg, instead(atExclude, excludeAlways)),
		"a conversion does not look at neighbours":    phases(vg, instead(atAgain, againAlone)),
		"a second persistent lock":                    phases(lv, instead(atAgain, never)),
		"a kept lock stays its client's too":          phases(lv, instead(atAgain, againTwice)),
		"a close forgets the lock":                    phases(vg, instead(atDepart, departLock)),
		"a close forgets the queue":                   phases(vg, instead(atDepart, departQueue)),
		"a refused VG's lock is kept":                 phases(vg, instead(atGiveBack, never)),
		"updates are never answered":                  phases(vg, instead(atUpdate, never)),
		"the last unlock stays between us":            phases(vg, instead(atUnlock, unlockSilently)),
		"an unlock that failed counts":                done(vg, doneAlways(CallUnlock)),
		"a lock that failed counts":                   done(vg, doneAlways(CallLock)),
		"a conversion that failed counts":             done(vg, doneAlways(CallConvert)),
		"an answer is told twice":                     done(vg, doneTwice),
		"a lock that was granted is not told":         done(lv, doneSilently),
		"what nobody heard of is taken from a waiter": done(lv, doneOverlooked),
	} {
		states, _, broken := walk(sc)
		if broken == "" {
			t.Errorf("%s: not found in %d states", name, states)
			continue
		}
		t.Logf("%s: found after %d states: %s", name, states, broken)
	}
}

func shareAlways(l *Locks) bool {
	for _, a := range l.queue {
		if a.Mode == lvmwire.SH && l.mode != lvmwire.UN {
			l.grant(a, Validity{})
			return true
		}
	}
	return l.share()
}

func shareAll(l *Locks) bool {
	a := l.first(func(a *Ask) bool { return a.Mode == lvmwire.SH })
	if a != nil && l.mode == lvmwire.SH {
		l.grant(a, Validity{})
		return true
	}
	return l.share()
}

func excludeAlways(l *Locks) bool {
	a := l.first(func(a *Ask) bool { return a.Op == lvmwire.OpLock && a.Mode == lvmwire.EX })
	if a == nil || a.paused {
		return false
	}
	l.lock(a)
	return true
}

func againAlone(l *Locks) bool {
	for _, a := range l.queue {
		if at := l.transient(a.Client); at >= 0 && a.Mode == lvmwire.EX && l.mode == lvmwire.SH {
			h := l.holders[at]
			l.begin(&job{ask: a, holder: &h, call: Call{Kind: CallConvert, From: h.Mode, To: a.Mode}})
			return true
		}
	}
	return l.again()
}

func againTwice(l *Locks) bool {
	before := slices.Clone(l.holders)
	did := l.again()
	if l.persistent() >= 0 && len(before) == 1 && !before[0].Persistent {
		l.holders = append(l.holders, before[0])
	}
	return did
}

func departLock(l *Locks) bool {
	l.closing = slices.DeleteFunc(l.closing, func(d departure) bool { return l.transient(d.client) >= 0 })
	return l.depart()
}

func departQueue(l *Locks) bool {
	for i, d := range l.closing {
		if l.transient(d.client) < 0 {
			l.closing = slices.Delete(l.closing, i, i+1)
			return true
		}
	}
	return l.depart()
}

func unlockSilently(l *Locks) bool {
	a := l.first(func(a *Ask) bool { return a.Mode == lvmwire.UN })
	if a == nil || l.named(a) < 0 {
		return l.unlock()
	}
	l.holders, l.mode = slices.Delete(l.holders, l.named(a), l.named(a)+1), lvmwire.UN
	l.end(a, lvmwire.OK)
	return true
}

// doneAlways takes every end of one kind of call for a good one.
func doneAlways(k CallKind) func(*Locks, Outcome) {
	return func(l *Locks, o Outcome) {
		if l.under.call.Kind == k {
			o.Err = nil
		}
		l.Done(o)
	}
}

func doneTwice(l *Locks, o Outcome) {
	l.Done(o)
	l.answers = append(l.answers, l.answers...)
}

func doneSilently(l *Locks, o Outcome) {
	grants := l.under.call.Kind == CallLock
	l.Done(o)
	if grants {
		l.answers = nil
	}
}

// doneOverlooked is as the machine was before an answer counted as news that another client relies on.
func doneOverlooked(l *Locks, o Outcome) {
	last := l.last
	l.Done(o)
	l.last = last
}
