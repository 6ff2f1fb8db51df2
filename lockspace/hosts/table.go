package hosts

import (
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// Table is what we have seen of the hosts of one lockspace. It is not safe for concurrent use.
type Table struct {
	self  leases.HostID
	space leases.Name
	ownIO uint32 // stands in for an io_timeout of 0, which old disks have
	fire  uint32
	seen  map[leases.HostID]*host
}

// host is one sector as we know it.
type host struct {
	owner      leases.Owner
	name       leases.Name
	timestamp  uint64
	io         uint32
	firstCheck monotime.Instant
	lastCheck  monotime.Instant
	lastLive   monotime.Instant // when we last saw it change; zero if it never held a record
	lastReq    monotime.Instant
	live       bool // lastLive is set
	event      [3]uint64
	badReads   uint64
}

// Config says whose table it is. OwnIO and Fire are in seconds.
type Config struct {
	Self  leases.HostID
	Space leases.Name
	OwnIO uint32
	Fire  uint32
}

// New returns an empty table.
func New(cfg Config) *Table {
	return &Table{
		self: cfg.Self, space: cfg.Space, ownIO: cfg.OwnIO, fire: cfg.Fire, seen: map[leases.HostID]*host{},
	}
}

// Notice is what an observation showed that somebody may want to hear of.
type Notice struct {
	From     leases.Owner
	NewOwner bool   // a host, or a new incarnation of one, was seen for the first time
	Name     string // its host name
	Bit      bool   // the sender has set our bit and its event fields changed or were renewed
	Event    [3]uint64
}

// Observe takes in the sector of a host as read at now, our time after the read. Any change of owner,
// generation or timestamp is life, even in a record that does not verify: nobody is declared dead over a torn
// sector (spec ondisk 9.26). A sector that was never used is remembered only once it was.
func (t *Table) Observe(now monotime.Instant, id leases.HostID, sector []byte) (Notice, error) {
	l, err := ondisk.DecodeLeader(sector)
	if err != nil {
		return Notice{}, err
	}
	h := t.seen[id]
	if h == nil {
		if l.OwnerID == 0 && l.Timestamp == 0 {
			return Notice{}, nil
		}
		h = &host{firstCheck: now}
		t.seen[id] = h
	}
	h.lastCheck = now
	owner := leases.Owner{Host: leases.HostID(l.OwnerID), Generation: leases.Generation(l.OwnerGeneration)}
	if owner == h.owner && l.Timestamp == h.timestamp {
		return Notice{}, nil
	}
	bad := l.Magic != ondisk.DeltaMagic || !l.SpaceName.Equal(t.space)
	n := Notice{From: owner, Name: l.ResourceName.String()}
	if bad {
		h.badReads++
	} else {
		n.NewOwner = owner != h.owner || !h.name.Equal(l.ResourceName)
		h.owner, h.name, h.io = owner, l.ResourceName, uint32(l.IOTimeout)
	}
	h.timestamp, h.lastLive, h.live = l.Timestamp, now, true
	if id != t.self && !bad && ondisk.BitmapHas(sector, uint64(t.self)) {
		n.Bit, n.Event = true, [3]uint64{l.WriteID, l.WriteGeneration, l.WriteTimestamp}
	}
	return n, nil
}

// times returns the intervals of a host, from its own io_timeout and never less than from least.
func (t *Table) times(h *host, least uint32) timeouts.Set {
	return timeouts.Of(max(h.io, least), t.ownIO, t.fire)
}

// state judges a host by what was seen until now (spec ondisk 3.5, first match counts).
func (t *Table) state(now monotime.Instant, id leases.HostID, h *host, leastIO uint32) leases.Verdict {
	if h.timestamp == 0 {
		return leases.Free
	}
	if id == t.self {
		return leases.Alive
	}
	last := h.firstCheck
	if h.live {
		last = h.lastLive
	}
	times := t.times(h, leastIO)
	switch silent := now.Sub(last); {
	case silent <= times.HostFail() && h.firstCheck == h.lastLive:
		return leases.Unknown
	case silent <= times.HostFail():
		return leases.Alive
	case silent > times.HostDead():
		return leases.Dead
	}
	return leases.Failing
}

// Verdict judges an incarnation by a record that was read for this question. asked is our time before that
// read was begun, so that a slow read makes nobody older; the record must have been observed before. The
// owner's io_timeout is the larger of the one known before and the one just read (spec ondisk 9.3).
func (t *Table) Verdict(asked monotime.Instant, o leases.Owner, fresh ondisk.Leader) leases.Verdict {
	switch {
	case fresh.Timestamp == 0:
		return leases.Free
	case fresh.OwnerID != uint64(o.Host), fresh.OwnerGeneration > uint64(o.Generation):
		return leases.Free
	}
	h := t.seen[o.Host]
	if h == nil {
		return leases.Unknown
	}
	return t.state(asked, o.Host, h, uint32(fresh.IOTimeout))
}

// IO returns the io_timeout in seconds last seen of a host, 0 if it was never seen.
func (t *Table) IO(id leases.HostID) uint32 {
	if h := t.seen[id]; h != nil {
		return h.io
	}
	return 0
}
