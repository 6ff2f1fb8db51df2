package resource

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/paxos"
)

// Request says how a lease is wanted.
type Request struct {
	Mode     leases.Mode
	Version  uint64 // not 0: only if the lease has this version now
	NumHosts uint32 // not 0: write it into the leader; hosts above it are locked out from then on
	NoWait   bool   // do not wait for a silent owner to be dead
	LVB      bool   // read the lease's value block
}

// Acquire takes the lease for self, or says why not: leases.Held, OwnerSilent, LostRace, CommittedOther,
// SharedHeld are contention; WrongVersion, Again and Invalid are the caller's; the rest are faults. It waits
// as long as an owner is silent and not yet dead, unless NoWait; ctx ends that wait with Aborted.
//
// After an error Unsettled tells whether something was left behind that must be settled first.
func (l *Lease) Acquire(
	ctx context.Context, self leases.Owner, req Request, live leases.Liveness,
) (*Grant, error) {
	if err := l.ready(ctx, self); err != nil {
		return nil, err
	}
	g, err := l.acquireMode(ctx, self, req, live)
	if err != nil {
		l.settleSoon(ctx, err)
		return nil, err
	}
	if !req.LVB {
		return g, nil
	}
	if err := l.readValue(ctx, g); err != nil {
		// A value that cannot be read must not be taken for an empty one.
		return nil, errors.Join(l.fail("read the value block of", causeKind(err), err), l.Release(ctx, g, ""))
	}
	return g, nil
}

func (l *Lease) acquireMode(
	ctx context.Context, self leases.Owner, req Request, live leases.Liveness,
) (*Grant, error) {
	if req.Mode == leases.Shared {
		return l.acquireShared(ctx, self, req, live)
	}
	g, sharers, err := l.claim(ctx, self, req, live, false)
	if err != nil {
		return nil, err
	}
	blocked, err := l.liveSharer(ctx, sharers, live)
	if err == nil && blocked == nil {
		return g, nil
	}
	if back := l.giveBack(ctx, g, false); back != nil {
		return nil, errors.Join(l.blockedError(blocked, err), back)
	}
	return nil, l.blockedError(blocked, err)
}

func (l *Lease) blockedError(by *leases.Owner, err error) error {
	if err != nil {
		return l.fail("check the shared holders of", causeKind(err), err)
	}
	return l.fail("acquire", leases.SharedHeld, fmt.Errorf("%v holds it shared and may be alive", *by))
}

// ready refuses what cannot work before any disk is touched, and makes sure that nothing of ours is in
// flight.
func (l *Lease) ready(ctx context.Context, self leases.Owner) error {
	if self.Host == 0 || self.Generation == 0 {
		return l.fail("acquire", leases.Invalid, errors.New("this host has no host id and generation"))
	}
	if err := ctx.Err(); err != nil {
		return l.fail("acquire", leases.Aborted, err)
	}
	if l.loose != nil {
		return l.fail("acquire", leases.Again, errors.New("an earlier operation on it is still being undone"))
	}
	if err := l.landed(ctx, uint64(self.Host)); err != nil {
		return l.fail("acquire", leases.Again, fmt.Errorf("an earlier write to it is still in flight: %w", err))
	}
	return nil
}

// claim runs one claim to its end. The grant is exclusive.
func (l *Lease) claim(
	ctx context.Context, self leases.Owner, req Request, live leases.Liveness, keepShared bool,
) (*Grant, []paxos.Sharer, error) {
	c := paxos.NewClaim(paxos.ClaimConfig{
		Self: proposal(self), Disks: len(l.cfg.Disks), MaxHosts: l.geometry.MaxHosts(), NumHosts: l.numHosts,
		Version: req.Version, NoWait: req.NoWait, KeepShared: keepShared,
	})
	v := &drive{
		l: l, self: proposal(self), live: live, noWait: req.NoWait, change: commitChange(self, req),
		terms: terms{host: uint64(self.Host), numHosts: uint64(req.NumHosts), lvb: req.LVB},
	}
	a := v.run(ctx, c)
	if b := c.Block(); b.Mbal != 0 {
		l.own = b
	}
	if a.Err != nil {
		if c.Exposed() || l.inFlight(ctx, uint64(self.Host)) {
			keep := retirement{shared: keepShared}
			l.loose = &loose{self: proposal(self), round: c.Round(), block: c.Block(), retirement: keep}
		}
		return nil, nil, l.fail("acquire", l.machineKind(a.Err, v.at), explain(a))
	}
	return &Grant{
		Version: c.Round(), Mode: leases.Exclusive, Owner: self, Geometry: l.geometry, block: c.Block(),
	}, c.Sharers(), nil
}

// commitChange is what a commit changes in the leader beside the record. The mark that a shared holder is
// only passing through, and num_hosts, belong to our own commits, not to those that we make for others.
func commitChange(self leases.Owner, req Request) func(*ondisk.Leader) {
	return func(leader *ondisk.Leader) {
		if leader.OwnerID != uint64(self.Host) {
			return
		}
		leader.Flags &^= ondisk.FlagShortHold
		if req.Mode == leases.Shared && leader.Timestamp != 0 {
			leader.Flags |= ondisk.FlagShortHold
		}
		if req.NumHosts != 0 {
			leader.NumHosts = uint64(req.NumHosts) // terms has allowed it
		}
	}
}
