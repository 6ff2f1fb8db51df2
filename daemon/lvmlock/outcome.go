package lvmlock

import (
	"errors"
	"slices"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// ResultOf is what a client is told of a lock manager's error: its Result, or ManagerError if it is not an
// *Error.
func ResultOf(err error) lvmwire.Result {
	if err == nil {
		return lvmwire.OK
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Result != lvmwire.OK {
		return e.Result
	}
	return lvmwire.ManagerError
}

// options are what a request says about how to lock.
func options(a *Ask) LockOptions {
	return LockOptions{
		Adopt:     a.Flags&lvmwire.Adopt != 0,
		AdoptOnly: a.Flags&lvmwire.AdoptOnly != 0,
		Repair:    a.Flags&lvmwire.Repair != 0,
	}
}

// begin makes a call the one under way.
func (l *Locks) begin(j *job) {
	if j.call.Kind != CallLock {
		j.call.Resource = l.of
	}
	l.under = j
}

// lock asks the lock manager for what a request wants. An LV's place comes with each request, as it may have
// moved; what is held is given back where it was taken (spec lvmlockd 3.6.1). A command's own lock of an LV is
// never made of an orphan: that is most often the lock of an LV that is active, and would end with the command.
func (l *Locks) lock(a *Ask) {
	r, o := l.of, options(a)
	r.Args = a.Args
	if l.of.Kind == lvmwire.LV && a.Flags&lvmwire.Persistent == 0 {
		if o.AdoptOnly {
			l.end(a, lvmwire.AdoptNone)
			return
		}
		o.Adopt = false
	}
	l.begin(&job{ask: a, call: Call{
		Kind: CallLock, Resource: r, From: lvmwire.UN, To: a.Mode, Options: o,
	}})
}

// drop ends a holder's lock. The lock manager is told when it was the last; a is nil if the holder is gone.
func (l *Locks) drop(a *Ask, at int) {
	if len(l.holders) > 1 {
		l.holders = slices.Delete(l.holders, at, at+1)
		l.end(a, lvmwire.OK)
		return
	}
	l.release(a, &l.holders[at])
}

// release begins to give the lock back, for its last holder or for nobody.
func (l *Locks) release(a *Ask, h *Holder) {
	j := &job{ask: a, call: Call{Kind: CallUnlock, From: l.mode, To: lvmwire.UN}}
	if h != nil {
		kept := *h
		j.holder, j.call.Value = &kept, l.next(h)
	}
	l.begin(j)
}

// locked ends the phases 11 and 13.
func (l *Locks) locked(j *job, o Outcome) {
	a := j.ask
	a.said = o.Err
	if o.Err != nil {
		l.refused(a, o.Err)
		return
	}
	l.mode, l.of.Args = j.call.To, j.call.Resource.Args
	var v Validity
	if hasValue(l.of.Kind) {
		if o.Value.Removed && o.Value.Set && o.Value.Version != 0 {
			// The VG is no more (dlm). The lock came nevertheless; it has no holder, so giveBack ends it.
			l.end(a, lvmwire.Removed)
			return
		}
		v = l.known.Read(o.Value)
	}
	l.grant(a, v)
}

// refused ends a request that the lock manager did not grant, or lets it wait for the next try. What stays
// Again may be over in a moment: the GL and a VG are held for one command only, and of an LV the lock manager
// knows.
func (l *Locks) refused(a *Ask, err error) {
	result := ResultOf(err)
	e, ok := errors.AsType[*Error](err)
	mayPass := hasValue(l.of.Kind) || ok && e.Retry
	if result == lvmwire.Again && mayPass && a.retries <= a.MaxRetries {
		a.retries++
		a.paused = true
		return
	}
	l.end(a, result)
	if result == lvmwire.Unattached {
		l.detach()
	}
}

// detach is for a global lock that is not in this VG any more. Who waits is told so, and looks for it
// elsewhere.
func (l *Locks) detach() {
	l.known = Cache{}
	for _, a := range slices.Clone(l.queue) {
		if a.Op == lvmwire.OpLock && a.Mode != lvmwire.UN {
			l.end(a, lvmwire.Unattached)
		}
	}
}

// grant records a lock and tells so.
func (l *Locks) grant(a *Ask, v Validity) {
	a.said = nil // an earlier refusal is no news, if SH came from a neighbour
	l.hold(a)
	answer := Answer{Ask: a, Validity: v}
	if l.of.Kind == lvmwire.LV {
		answer.Flags = lvmwire.LVLock
	}
	l.endWith(answer)
	gone := func(d departure) bool { return d.client == a.Client }
	if slices.ContainsFunc(l.closing, gone) {
		// Its answer reaches nobody, and a persistent lock would not end with the client.
		l.Undelivered(answer)
	}
}

// converted ends phase 9.
func (l *Locks) converted(j *job, o Outcome) {
	j.ask.said = o.Err
	if o.Err == nil {
		l.mode = j.call.To
		if at := l.place(j.holder); at >= 0 {
			l.holders[at].Mode = j.call.To
			if j.call.Value != nil {
				l.holders[at].Version = j.call.Value.Version
			}
		}
		l.wrote(j.call.Value)
	}
	l.end(j.ask, ResultOf(o.Err))
}

// unlocked ends the phases 2 and 3, giveBack and Clear. After an error the lock is still held.
func (l *Locks) unlocked(j *job, o Outcome) {
	if j.ask != nil {
		j.ask.said = o.Err
	}
	if o.Err == nil {
		l.wrote(j.call.Value)
	}
	switch {
	case o.Err == nil:
		if j.holder != nil {
			l.holders = slices.Delete(l.holders, l.place(j.holder), l.place(j.holder)+1)
		}
		l.mode, l.of.Args = lvmwire.UN, ""
	case j.ask == nil:
		l.pauseRelease(j.holder)
	}
	l.end(j.ask, ResultOf(o.Err))
}

// switched ends phase 4. An answer comes in any case, and a global lock that went away takes its queue with
// it.
func (l *Locks) switched(j *job, o Outcome) {
	j.ask.said = o.Err
	l.end(j.ask, ResultOf(o.Err))
	if o.Err == nil && j.call.Kind == CallDisable {
		l.detach()
	}
}

func (l *Locks) wrote(v *Value) {
	if v != nil {
		l.known.Wrote(*v)
	}
}

// end answers a request, if there is one.
func (l *Locks) end(a *Ask, r lvmwire.Result) {
	if a != nil {
		l.endWith(Answer{Ask: a, Result: r})
	}
}

// endWith takes a request out of the queue and adds to its answer what the lock manager said.
func (l *Locks) endWith(answer Answer) {
	a := answer.Ask
	l.queue = slices.DeleteFunc(l.queue, func(b *Ask) bool { return a == b })
	if a.unheard {
		return
	}
	l.last = a.Client
	answer.ManagerValue, answer.Err = ResultOf(a.said), a.said
	if e, ok := errors.AsType[*Error](a.said); ok {
		answer.Owner = e.Owner
	}
	l.answers = append(l.answers, answer)
}
