package lvmlock

import (
	"slices"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// Holder is a lock on a resource as one holds it on this host.
type Holder struct {
	Client     ClientID // 0 if Persistent
	Mode       lvmwire.Mode
	Persistent bool   // outlives its connection: an LV that is active
	Version    uint32 // told by vg_update, 0 if none was
}

// Locks decides who on this host holds one resource, and what the lock manager must be asked for that. It has
// no clock, no goroutine and does nothing by itself: requests come in by Ask, connections end by Close, Step
// says what to call, Done takes what came of it, and Answers has what is to be told to whom. The lock manager
// sees one lock per resource and host; what the host's clients hold side by side is shared out here.
//
// Where LVM 2.03.16 and 2.03.40 differ it is as 2.03.40, which differs here in nothing that a 2.03.16 command
// could notice: an LV's lock is given free by the lockspace and not here (phase 3b of 2.03.16), and a
// resource that nobody uses may be forgotten (phase 14), as Idle tells.
type Locks struct {
	of      Resource     // Args are those that the held lock was taken with
	mode    lvmwire.Mode // what the lock manager holds for this host
	holders []Holder     // one in EX, or any number in SH; at most one of them persistent
	queue   []*Ask       // in order of arrival
	closing []departure
	known   Cache
	last    ClientID // who asked or was answered last
	under   *job
	stray   bool // giving back what nobody holds failed; not again before the next Resume
	answers []Answer
	phases  []phase
}

// departure is a client that is gone, and whose lock is still to be given back.
type departure struct {
	client ClientID
	paused bool // the lock manager refused to take it back; not again before the next Resume
}

// job is a call under way and whose it is.
type job struct {
	call   Call
	ask    *Ask    // nil if nobody waits for it
	holder *Holder // a copy of the one that is converted or released, nil if there is none
}

// NewLocks returns the Locks of a resource that nobody holds.
func NewLocks(r Resource) *Locks {
	return &Locks{of: Resource{Kind: r.Kind, Name: r.Name}, phases: order()}
}

// Ask puts a request in the queue. There comes one Answer for it, not before the next Step. After a client's
// Close there must be no Ask of it.
func (l *Locks) Ask(a *Ask) {
	l.last = a.Client
	l.queue = append(l.queue, a)
}

// Close tells that a client is gone: its transient lock is given back, and what it asked and was not begun
// yet is answered Canceled. A request of which the call is under way ends as that does.
func (l *Locks) Close(c ClientID) {
	known := func(d departure) bool { return d.client == c }
	if !slices.ContainsFunc(l.closing, known) {
		l.closing = append(l.closing, departure{client: c})
	}
}

// Step does what can be done, until the lock manager must be called (due), or nothing is left to do. While a
// call is under way it does nothing.
func (l *Locks) Step() (call Call, due bool) {
	for l.under == nil {
		if !l.pass() {
			return Call{}, false
		}
		if l.under != nil {
			return l.under.call, true
		}
	}
	return Call{}, false
}

// pass goes through the phases to the first that has something to do. The next pass begins with the first
// phase again, so that none acts upon what was true before another acted.
func (l *Locks) pass() bool {
	for _, does := range l.phases {
		if does(l) {
			return true
		}
	}
	return false
}

// Done takes the end of the call that Step or Clear returned.
func (l *Locks) Done(o Outcome) {
	j := l.under
	if j == nil {
		panic("lvmlock: a call ended that " + l.of.Name + " never made")
	}
	l.under = nil
	switch j.call.Kind {
	case CallLock:
		l.locked(j, o)
	case CallConvert:
		l.converted(j, o)
	case CallUnlock:
		l.unlocked(j, o)
	case CallEnable, CallDisable:
		l.switched(j, o)
	}
}

// Answers returns what ended since it was last called.
func (l *Locks) Answers() []Answer {
	a := l.answers
	l.answers = nil
	return a
}

// Undelivered tells that an answer did not reach its client. If an LV was locked for it, then nobody knows of
// that lock, which may outlive the connection; so it is given back, unless another client asked for the LV or
// was answered meanwhile, and relies on what it saw (spec lvmlockd 3.6.2). The answer counts too: who asked
// earlier, and was refused for the time being, is served by a lock that came since. What may have been an orphan
// is kept: its LV may be active since long before.
func (l *Locks) Undelivered(a Answer) {
	adopts := a.Ask.Flags&(lvmwire.Adopt|lvmwire.AdoptOnly) != 0
	if a.Flags&lvmwire.LVLock == 0 || adopts || a.Ask.Client != l.last {
		return
	}
	flags := a.Ask.Flags&lvmwire.Persistent | lvmwire.LVUnlock
	l.queue = append(l.queue, &Ask{
		Client: a.Ask.Client, Op: lvmwire.OpLock, Mode: lvmwire.UN, Flags: flags, Args: a.Ask.Args, unheard: true,
	})
}

// Cancel answers everything that waits. Only a request whose call is under way ends as that does.
func (l *Locks) Cancel(r lvmwire.Result) {
	for _, a := range slices.Clone(l.queue) {
		if l.under == nil || l.under.ask != a {
			l.end(a, r)
		}
	}
}

// Clear forgets all holders, as the lockspace is left, and returns the call that gives the lock back, if there is
// one. If that fails and the lockspace goes on nevertheless, it is tried again. While a call is under way Clear
// does nothing: wait for its end and Clear again. Who waits is not answered: Cancel before the next Step, which
// would serve them.
func (l *Locks) Clear() (call Call, due bool) {
	if l.under != nil {
		return Call{}, false
	}
	var first *Holder
	if len(l.holders) > 0 {
		first = &l.holders[0]
	}
	l.closing = nil
	if l.mode == lvmwire.UN {
		return Call{}, false
	}
	l.release(nil, first)
	l.holders, l.under.holder = nil, nil
	return l.under.call, true
}

// Mode is how this host holds the resource.
func (l *Locks) Mode() lvmwire.Mode { return l.mode }

// Holders returns a copy of who holds it.
func (l *Locks) Holders() []Holder { return slices.Clone(l.holders) }

// Waiting returns what is not answered yet, in order of arrival.
func (l *Locks) Waiting() []*Ask {
	return slices.DeleteFunc(slices.Clone(l.queue), func(a *Ask) bool { return a.unheard })
}

// Version is the last known number of the value block.
func (l *Locks) Version() uint32 { return l.known.version }

// Args are those that the held lock was taken with; empty if nothing is held.
func (l *Locks) Args() string { return l.of.Args }

// Busy reports whether this host holds the resource.
func (l *Locks) Busy() bool { return l.mode != lvmwire.UN || len(l.holders) > 0 }

// Idle reports whether it may be forgotten: nobody holds it, nobody waits, and no call is under way.
func (l *Locks) Idle() bool {
	return !l.Busy() && len(l.queue) == 0 && l.under == nil && len(l.answers) == 0
}

// transient is the place of a client's own lock, -1 if it has none.
func (l *Locks) transient(c ClientID) int {
	return slices.IndexFunc(l.holders, func(h Holder) bool { return !h.Persistent && h.Client == c })
}

// persistent is the place of the lock that outlives connections, -1 if there is none.
func (l *Locks) persistent() int {
	return slices.IndexFunc(l.holders, func(h Holder) bool { return h.Persistent })
}

// named is the place of the lock that a request is about, its client's own or the persistent one.
func (l *Locks) named(a *Ask) int {
	if a.Flags&lvmwire.Persistent != 0 {
		return l.persistent()
	}
	return l.transient(a.Client)
}

// place finds a holder again after a call; the slice may have moved, who holds has not.
func (l *Locks) place(h *Holder) int {
	if h.Persistent {
		return l.persistent()
	}
	return l.transient(h.Client)
}

// hold records the lock of a request that got it.
func (l *Locks) hold(a *Ask) {
	h := Holder{Client: a.Client, Mode: a.Mode}
	if a.Flags&lvmwire.Persistent != 0 {
		h.Client, h.Persistent = 0, true
	}
	l.holders = append(l.holders, h)
}
