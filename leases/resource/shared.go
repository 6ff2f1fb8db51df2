package resource

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/paxos"
)

// acquireShared takes the lease exclusively for a moment, marks our host block shared, and frees the leader
// (spec ondisk 4.7). When others are passing through in the same way it starts over at once: the leader is
// then free again before their callers could have been told, where stock fails all but one (spec 9.10).
func (l *Lease) acquireShared(
	ctx context.Context, self leases.Owner, req Request, live leases.Liveness,
) (*Grant, error) {
	v := &drive{l: l, self: proposal(self)}
	for try := 0; ; try++ {
		g, _, err := l.claim(ctx, self, req, live, false)
		if err == nil {
			return g, l.share(ctx, g)
		}
		if !l.passing(err) || l.loose != nil {
			return nil, err
		}
		if try >= l.cfg.SharedRetries {
			return nil, l.fail("acquire shared", leases.SharedRetries,
				fmt.Errorf("%d tries met other hosts that were just taking it: %w", try+1, err))
		}
		if err := sleep(ctx, v.backOff()); err != nil {
			return nil, l.fail("acquire shared", leases.Aborted, err)
		}
	}
}

// passing reports whether err may be over in a moment: a race, or an owner that only wants to share.
func (l *Lease) passing(err error) bool {
	switch leases.KindOf(err) {
	case leases.LostRace, leases.CommittedOther:
		return true
	case leases.Held:
		for d := range l.cfg.Disks {
			if l.have[d] && l.leaders[d].Flags&ondisk.FlagShortHold != 0 {
				return true
			}
		}
	default:
	}
	return false
}

// share turns an exclusive hold into a shared one.
func (l *Lease) share(ctx context.Context, g *Grant) error {
	if err := l.retire(ctx, g, retirement{shared: true, strict: true}); err != nil {
		// Half shared is not held: undo it, so that nobody waits for us.
		l.leave(g, retirement{})
		return err
	}
	g.Mode = leases.Shared
	return nil
}

// liveSharer returns the first of the hosts that the ballot saw sharing the lease that may still be alive. A
// verdict needs a fresh read of the host's delta lease, never the table of the last renewal (spec ondisk 9.4).
//
// The marks of those that are gone stay: a write of ours to another host's block that landed very late would
// take the mark, and the vote, from the host after it has come back. Stock clears the block (spec ondisk 9.5).
func (l *Lease) liveSharer(
	ctx context.Context, sharers []paxos.Sharer, live leases.Liveness,
) (*leases.Owner, error) {
	for _, s := range sharers {
		generation, err := l.shares(ctx, s.Host)
		if err != nil {
			return nil, err
		}
		if generation == 0 {
			continue
		}
		holder := leases.Owner{Host: leases.HostID(s.Host), Generation: leases.Generation(generation)}
		v, err := live.Probe(ctx, holder)
		if err != nil {
			return nil, err
		}
		if !v.Gone() {
			return &holder, nil
		}
	}
	return nil, nil //nolint:nilnil // nobody stands in the way
}

// shares reads a host's block again and returns the generation with which it shares the lease, 0 if it does
// not: a majority of the disks says so, where a sharer has its mark on a majority. (Stock asks the first disk
// alone, spec ondisk 4.14.) A mark without a generation is none, as for stock (spec ondisk 2.6).
func (l *Lease) shares(ctx context.Context, host uint64) (generation uint64, err error) {
	var seen [paxos.MaxDisks]ondisk.HostBlock
	errs := l.each(func(d int) error {
		b, err := l.read(ctx, d, l.geometry.BlockOffset(host), l.geometry.Sector)
		if err != nil {
			return err
		}
		defer b.Release()
		seen[d], err = ondisk.DecodeHostBlock(b.Bytes())
		return err
	})
	without := 0
	for d, err := range errs {
		switch {
		case err != nil:
		case seen[d].Shared() && seen[d].Mode.Generation != 0:
			generation = max(generation, seen[d].Mode.Generation)
		default:
			without++
		}
	}
	switch {
	case without >= paxos.Majority(len(errs)):
		return 0, nil
	case generation == 0:
		return 0, firstMajority(errs)
	}
	return generation, nil
}

// Convert changes how g is held. To exclusive it fails with SharedHeld while other hosts share the lease; to
// shared it writes the value block first if that was changed. leases.Already: g is held like that.
//
// After any other error g.Mode tells how it is held: shared, in both directions, because once a conversion to
// shared has begun other hosts may find the lease shared whatever we were told of our writes. Only where the
// value block may still land is nothing begun, and it stays exclusive. leases.ReleaseOwner, ReleaseVersion:
// the leader named us no more, somebody has taken the lease from a living owner.
func (l *Lease) Convert(
	ctx context.Context, g *Grant, to leases.Mode, noWait bool, live leases.Liveness,
) error {
	if to == g.Mode {
		return l.fail("convert", leases.Already, fmt.Errorf("it is already held %v", to))
	}
	if err := l.finish(ctx); err != nil {
		return l.fail("convert", leases.Again, err)
	}
	if to == leases.Exclusive {
		err := l.unshare(ctx, g, noWait, live)
		if err != nil {
			l.settleSoon(ctx, err)
		}
		return err
	}
	lost := l.flushValue(ctx, g)
	if isTimeout(lost) {
		return lost
	}
	g.Mode = leases.Shared
	return errors.Join(l.retireOrLeave(ctx, g, retirement{shared: true, strict: true}), lost)
}

// unshare takes the lease exclusively while our own shared mark stays, so that a failure leaves us sharing.
func (l *Lease) unshare(ctx context.Context, g *Grant, noWait bool, live leases.Liveness) error {
	if err := l.landed(ctx, uint64(g.Owner.Host)); err != nil {
		return l.fail("convert", leases.Again, err)
	}
	req := Request{Mode: leases.Exclusive, NoWait: noWait}
	l.own, l.rest = g.block, rest{}
	won, sharers, err := l.claim(ctx, g.Owner, req, live, true)
	g.block = l.own // whatever came of it: what is written next must not forget this vote
	if err != nil {
		return err
	}
	blocked, err := l.liveSharer(ctx, sharers, live)
	if err == nil && blocked == nil {
		plain := won.block
		plain.Shared, plain.SharedGeneration, plain.Released = false, 0, false
		if err = firstMajority(l.putBlock(ctx, uint64(g.Owner.Host), plain)); err == nil {
			g.block, g.Version, g.Mode = plain, won.Version, leases.Exclusive
			return nil
		}
	}
	// Still sharing: free the leader, mark our vote released (spec ondisk 9.9).
	if back := l.giveBack(ctx, won, true); back != nil {
		return errors.Join(l.blockedError(blocked, err), back)
	}
	g.block = won.block
	return l.blockedError(blocked, err)
}

// firstMajority returns nil if most of the errors are nil, else one of them.
func firstMajority(errs []error) error {
	good, some := 0, error(nil)
	for _, err := range errs {
		if err == nil {
			good++
		} else {
			some = err
		}
	}
	if good >= paxos.Majority(len(errs)) {
		return nil
	}
	return some
}
