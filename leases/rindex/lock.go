package rindex

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/resource"
)

// Member is this host as a member of the index's lockspace.
type Member struct {
	Self     leases.Owner
	Live     leases.Liveness
	Clock    monotime.Clock
	Geometry ondisk.Geometry // of the lockspace, a first guess

	// Reserve keeps a lease from this host's own clients, or says that one of them has it: on disk they and
	// we are the same owner. free ends that; it is called once.
	Reserve func(space, name leases.Name) (free func(), err error)

	Jitter            func() float64 // as in resource.Config
	AllowUnknownFlags bool
}

// hold is a lease that we take for the time of a change.
type hold struct {
	lease *resource.Lease
	grant *resource.Grant // nil: not acquired, or its place has been written over
	free  func()
	at    int64 // byte offset of its place
}

// Lock takes the index's own lease for m, or says who has it, without waiting for a silent owner. Whether it
// succeeds or fails, Unlock must be called until it returns nil.
func (x *Index) Lock(ctx context.Context, m Member) error {
	x.member = &m
	h, err := x.take(ctx, x.cfg.Space, leases.NameOf(ondisk.IndexLeaseName), x.leaseAt())
	x.lock = h
	if err != nil {
		return x.failed("lock", err)
	}
	return nil
}

// take acquires the exclusive lease of a name at an offset. The hold that it returns, also with an error,
// must be given to drop; it is nil if nothing was done.
func (x *Index) take(ctx context.Context, space, name leases.Name, at uint64) (*hold, error) {
	m := x.member
	free, err := m.Reserve(space, name)
	if err != nil {
		return nil, err
	}
	h := &hold{free: free, at: int64(at)}
	h.lease, err = resource.New(resource.Config{
		Space: space, Name: name, Disks: []resource.Disk{{Device: x.cfg.Device, Offset: int64(at)}},
		Geometry: x.sizes, Times: x.cfg.Times, Clock: m.Clock, Jitter: m.Jitter,
		AllowUnknownFlags: m.AllowUnknownFlags,
	})
	if err != nil {
		free()
		return nil, err
	}
	h.grant, err = h.lease.Acquire(ctx, m.Self, resource.Request{Mode: leases.Exclusive, NoWait: true}, m.Live)
	return h, err
}

// drop gives a hold back.
func (x *Index) drop(ctx context.Context, h *hold) error {
	if h == nil {
		return nil
	}
	err := h.giveBack(ctx)
	if err == nil {
		h.free()
	}
	return err
}

func (h *hold) giveBack(ctx context.Context) error {
	if h.lease.Unsettled() {
		// The grant, if there was one, is part of what is settled.
		h.grant = nil
		return ours(h.lease.Settle(ctx))
	}
	if h.grant == nil {
		return nil
	}
	g := h.grant
	h.grant = nil
	return ours(h.lease.Release(ctx, g, ""))
}

// ours drops the errors that say that the lease is not there to be given back any more: its place was written
// over, or it has gone to another host.
func ours(err error) error {
	gone := []leases.Kind{
		leases.ReleaseVersion, leases.ReleaseOwner, leases.BadMagic, leases.WrongResource, leases.WrongSpace,
	}
	if slices.Contains(gone, leases.KindOf(err)) {
		return nil
	}
	return err
}

var errInFlight = errors.New("a write to it is still in flight")

// Unlock gives back what Lock and the changes since have taken, after every write of ours has ended: a late
// one would undo what the next host does. After an error it must be called again, for as long as this host
// is a member of the lockspace.
func (x *Index) Unlock(ctx context.Context) error {
	if err := x.Settle(ctx); err != nil {
		return x.fail("unlock", leases.Timeout, errors.Join(errInFlight, err))
	}
	for len(x.taken) > 0 {
		if err := x.drop(ctx, x.taken[0]); err != nil {
			return x.failed("unlock", err)
		}
		x.taken = x.taken[1:]
	}
	if err := x.drop(ctx, x.lock); err != nil {
		return x.failed("unlock", err)
	}
	x.lock, x.member = nil, nil
	return nil
}

// Settle waits, for one I/O's time, until none of our writes to the index and its resources is in flight. The
// leases that we took settle their own in Unlock.
func (x *Index) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, x.cfg.Times.OneIO())
	defer cancel()
	for len(x.dirty) > 0 {
		if err := x.cfg.Device.Settle(ctx, x.dirty[0].off, int(x.dirty[0].n)); err != nil {
			return err
		}
		x.dirty = x.dirty[1:]
	}
	return nil
}

// Abandon forgets what is held, because this host is no member any more and must write nothing: only the
// reservations end. It returns the byte offsets of what our writes may still be in flight to, each with up to
// ondisk's largest area behind it.
func (x *Index) Abandon() []int64 {
	var at []int64
	for _, s := range x.dirty {
		at = append(at, s.off)
	}
	for _, h := range append(slices.Clip(x.taken), x.lock) {
		if h == nil {
			continue
		}
		at = append(at, h.at)
		h.free()
	}
	x.taken, x.lock, x.member, x.dirty = nil, nil, nil, nil
	return at
}

var errNotLocked = errors.New("its lease must be held for that")

func (x *Index) locked() error {
	if x.lock == nil || x.lock.grant == nil {
		return x.fail("change", leases.Invalid, errNotLocked)
	}
	return nil
}

// occupant is what lies where a resource could be.
type occupant struct {
	leader ondisk.Leader
	lease  bool // a lease, good or damaged
	bad    error
}

// peek reads the first sector of a place. Beyond the end of the device there is nothing.
func (x *Index) peek(ctx context.Context, at uint64) (occupant, error) {
	b, err := x.read(ctx, at, x.sizes.Sector)
	if kindOf(err) == leases.ShortTransfer {
		return occupant{}, nil
	}
	if err != nil {
		return occupant{}, err
	}
	defer b.Release()
	l, err := ondisk.DecodeLeader(b.Bytes())
	if err != nil || l.Magic != ondisk.PaxosMagic {
		return occupant{}, err
	}
	return occupant{leader: l, lease: true, bad: l.CheckPaxos(x.header.Space, leases.Name{}, 0)}, nil
}

// seize makes sure that nobody has the lease at a place, and that nobody gets it before it has been written
// over: if there is one it is acquired. Anything but a nil error means: hands off.
func (x *Index) seize(ctx context.Context, at uint64) (*hold, error) {
	o, err := x.peek(ctx, at)
	if err != nil || !o.lease {
		return nil, err
	}
	if o.bad != nil {
		return nil, fmt.Errorf("a lease at %d that cannot be trusted: %w", at, o.bad)
	}
	h, err := x.take(ctx, o.leader.SpaceName, o.leader.ResourceName, at)
	if h != nil {
		x.taken = append(x.taken, h)
	}
	return h, err
}

// overwritten takes note that the place of a hold has been written: there is nothing to give back on disk.
func (h *hold) overwritten() {
	if h != nil {
		h.grant = nil
	}
}
