package hosts

import (
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// unknownIO stands in for an io_timeout of 0 on disk, in seconds. Stock stores the low 8 bits, so a host that
// has 0 there may keep its lease by 256. Our own io_timeout says nothing about it (spec ondisk 9.3, 9.14).
const unknownIO = timeouts.MaxIO + 1

// Table is what we have seen of the hosts of one lockspace. It is not safe for concurrent use.
type Table struct {
	cfg   Config
	seen  map[leases.HostID]*host
	whole bool // all sectors were seen once
}

// Config says whose table it is.
type Config struct {
	Self  leases.HostID
	Space leases.Name
	Fire  uint32        // seconds from a host's last pet of its watchdog to its reset
	Hold  time.Duration // how long a bit that was raised for us counts as one request (spec ondisk 3.6)
	Look  time.Duration // how often renewals look at the others: our own renewal interval

	// AllowUnknownFlags judges hosts by time although their records carry features of a newer sanlock, by
	// which they may be alive without renewing (spec ondisk 8).
	AllowUnknownFlags bool
}

// instance is what must change in a sector for its host to be alive.
type instance struct {
	owner     leases.Owner
	timestamp uint64
}

// host is one sector as we know it.
type host struct {
	last      instance // as last read, whether it verifies or not
	bad       bool     // the last read did not verify
	foreign   bool     // the last record that verified carries features that we do not know
	owner     leases.Owner
	name      leases.Name
	timestamp uint64
	io        uint32

	firstCheck monotime.Instant
	lastCheck  monotime.Instant
	lastLive   monotime.Instant // when we last saw it change, or saw it first
	moved      bool             // its sector has changed since we saw it first
	lastReq    monotime.Instant
	requested  bool // lastReq is set

	told     instance // as last told by Observe
	toldName leases.Name
}

// New returns an empty table.
func New(cfg Config) *Table { return &Table{cfg: cfg, seen: map[leases.HostID]*host{}} }

// Event is what a host tells others with its renewals. Number 0 is none.
type Event struct{ Generation, Number, Data uint64 }

// Notice is what an observation showed that somebody may want to hear of.
type Notice struct {
	From leases.Owner
	Name string // host name of the sender
	// Timestamp is that of the sender's record, in seconds of its clock.
	Timestamp uint64
	NewOwner  bool // a host, or a new incarnation of one, was seen for the first time
	Event     Event
	Deliver   bool // our bit is raised and there is an event: tell it to whoever listens, again if need be
	Examine   bool // our bit was newly raised: look for requests for the leases that we hold
}

// See takes in the sector of a host as it was read, at a time not before that read. Any change of owner,
// generation or timestamp is life, even in a record that does not verify; nothing else of such a record is
// believed (spec ondisk 3.5, 9.26). A sector that was never used is not remembered. The error is that of
// ondisk.CheckDelta.
func (t *Table) See(now monotime.Instant, id leases.HostID, sector []byte) error {
	_, _, err := t.see(now, id, sector)
	return err
}

// see returns the host, or nil if it was never there, and its record.
func (t *Table) see(now monotime.Instant, id leases.HostID, sector []byte) (*host, *ondisk.Leader, error) {
	l, err := ondisk.DecodeLeader(sector)
	if err != nil {
		return nil, nil, err
	}
	err = l.CheckDelta(t.cfg.Space)
	is := instance{
		leases.Owner{Host: leases.HostID(l.OwnerID), Generation: leases.Generation(l.OwnerGeneration)}, l.Timestamp,
	}
	h := t.seen[id]
	if h == nil {
		if is.owner.Host == 0 && is.timestamp == 0 {
			return nil, nil, err
		}
		h = &host{last: is, firstCheck: now, lastLive: now, moved: t.whole}
		t.seen[id] = h
	}
	if is != h.last {
		h.lastLive, h.moved = now, true
	}
	h.lastCheck, h.last, h.bad = now, is, err != nil
	if err != nil {
		return h, nil, err
	}
	h.owner, h.name, h.timestamp, h.io = is.owner, l.ResourceName, l.Timestamp, uint32(l.IOTimeout)
	h.foreign = l.UnknownFlags() != 0 || l.Version&0xffff > ondisk.DeltaVersion&0xffff
	return h, &l, nil
}

// Whole tells the table that it has been shown all sectors that are in use. A host that it is shown from now on for the
// first time has come since: its sector has changed, and so it is alive.
func (t *Table) Whole() { t.whole = true }

// Observe is See, and tells what the host's record says to others: once for each change that Observe itself
// has seen, whatever See was shown in between.
func (t *Table) Observe(now monotime.Instant, id leases.HostID, sector []byte) (Notice, error) {
	h, l, err := t.see(now, id, sector)
	if err != nil || h == nil || h.last == h.told {
		return Notice{}, err
	}
	n := Notice{
		From: h.owner, Name: h.name.String(), Timestamp: h.timestamp,
		NewOwner: h.owner != h.told.owner || !h.name.Equal(h.toldName),
	}
	h.told, h.toldName = h.last, h.name
	if id == t.cfg.Self || !ondisk.BitmapHas(sector, uint64(t.cfg.Self)) {
		return n, nil
	}
	n.Event = Event{Generation: l.WriteID, Number: l.WriteGeneration, Data: l.WriteTimestamp}
	n.Deliver = n.Event.Number != 0
	if !h.requested || now.Sub(h.lastReq) >= t.cfg.Hold {
		n.Examine = true
		h.lastReq, h.requested = now, true
	}
	return n, nil
}

// state judges a host by what was seen until now (spec ondisk 3.5, first match counts). leastIO is the least
// io_timeout that may be assumed, in seconds.
func (t *Table) state(now monotime.Instant, id leases.HostID, h *host, leastIO uint32) leases.Verdict {
	switch {
	case !h.bad && h.timestamp == 0:
		return leases.Free
	case id == t.cfg.Self:
		return leases.Alive
	}
	return t.silence(now, h, leastIO)
}

// silence judges a host by how long it has not changed, and by its own io_timeout.
func (t *Table) silence(now monotime.Instant, h *host, leastIO uint32) leases.Verdict {
	times := timeouts.Of(max(h.io, leastIO), unknownIO, t.cfg.Fire)
	switch silent := now.Sub(h.lastLive); {
	case silent <= times.HostFail() && !h.moved:
		return leases.Unknown
	case silent <= times.HostFail():
		return leases.Alive
	case silent > times.HostDead() && !h.bad && (!h.foreign || t.cfg.AllowUnknownFlags):
		return leases.Dead
	}
	return leases.Failing
}

// Verdict judges an incarnation by a record that was read for this question, that verifies, and that was
// observed after it was read. asked is our time before that read began, so that a slow read makes nobody
// older. The owner's io_timeout is the larger of the one known before and the one just read (spec ondisk
// 9.3).
//
// A free record of an older generation than the one asked for is a remnant, of a format or of a write that
// came late, and says nothing about that incarnation: then only silence counts.
func (t *Table) Verdict(asked monotime.Instant, o leases.Owner, fresh ondisk.Leader) leases.Verdict {
	h := t.seen[o.Host]
	switch {
	case fresh.OwnerID != uint64(o.Host), fresh.OwnerGeneration > uint64(o.Generation):
		return leases.Free
	case fresh.Timestamp == 0 && fresh.OwnerGeneration == uint64(o.Generation):
		return leases.Free
	case h == nil:
		return leases.Unknown
	case fresh.Timestamp == 0:
		return t.silence(asked, h, uint32(fresh.IOTimeout))
	}
	v := t.state(asked, o.Host, h, uint32(fresh.IOTimeout))
	overdue := t.cfg.Look != 0 && asked.Sub(h.lastLive) > t.overdue(h, uint32(fresh.IOTimeout))
	if overdue && (v == leases.Alive || v == leases.Unknown) {
		return leases.Failing
	}
	return v
}

// lookSlack is what a renewal and a look may come late without meaning anything.
const lookSlack = 3 * time.Second

// overdue is the silence after which a host is still listed as before but has missed a renewal that we should
// have seen. Who asks for its leases then waits for what comes of it, as with stock, and is not refused.
func (t *Table) overdue(h *host, leastIO uint32) time.Duration {
	return timeouts.Of(max(h.io, leastIO), unknownIO, t.cfg.Fire).Renewal() + t.cfg.Look + lookSlack
}

// Generation returns the generation last seen of a host id, 0 if none was.
func (t *Table) Generation(id leases.HostID) leases.Generation {
	if h := t.seen[id]; h != nil {
		return h.owner.Generation
	}
	return 0
}
