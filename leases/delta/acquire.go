package delta

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

var errSlowClaim = errors.New("so much time passed between reading the record and writing a claim " +
	"that another host may have claimed it unseen; try again")

// Claim is a host id that was acquired.
type Claim struct {
	Owner  leases.Owner
	At     monotime.Instant // before the claim was written: the lease counts from here
	Waited time.Duration    // the short delay that was kept after the claim
}

// sighting is a record, and when we began to read it.
type sighting struct {
	record ondisk.Leader
	began  monotime.Instant
	asleep time.Duration
}

// Acquire takes the host id (spec ondisk 3.2). It takes 2 io_timeouts for a free id or one that this host
// held under the same name, and first 8 io_timeouts and the fire time for one of another name that then turns
// out to be silent. leases.HostIDBusy: somebody lives there. leases.Aborted: ctx ended during a wait.
// leases.Timeout: a transfer took too long; the claim may be on disk, and is nobody's.
//
// Once the claim is written, the end of ctx is obeyed only when the short delay is over: only then is it
// certain whether the claim stands, and a claim that does is freed again.
func (l *Lease) Acquire(ctx context.Context) (Claim, error) {
	if err := l.settle(ctx); err != nil {
		return Claim{}, err
	}
	found, err := l.look(ctx)
	if err != nil {
		return Claim{}, err
	}
	if found.record.Timestamp != 0 && !found.record.ResourceName.Equal(leases.NameOf(l.cfg.HostName)) {
		if found, err = l.outwait(ctx, found); err != nil {
			return Claim{}, err
		}
	}
	at, mine, err := l.claim(ctx, found)
	if err != nil {
		return Claim{}, err
	}
	wait := l.shortDelay(&found.record)
	through := context.WithoutCancel(ctx)
	if err := sleep(through, wait); err != nil {
		return Claim{}, l.fail("join", leases.Aborted, err)
	}
	if err := l.confirm(through, &mine); err != nil {
		return Claim{}, err
	}
	l.last, l.sure, l.held, l.used = mine, true, true, uint64(l.cfg.Host)
	if err := ctx.Err(); err != nil {
		return Claim{}, l.undo(through, at, err)
	}
	owner := leases.Owner{Host: l.cfg.Host, Generation: leases.Generation(mine.OwnerGeneration)}
	return Claim{Owner: owner, At: at, Waited: wait}, nil
}

// undo frees a host id that is not wanted any more, unless the claim is so old that the write could come after
// somebody else's.
func (l *Lease) undo(ctx context.Context, at monotime.Instant, why error) error {
	aborted := l.fail("join", leases.Aborted, why)
	left := l.cfg.Times.RenewalFail() - l.cfg.Clock.Now().Sub(at)
	if left <= 0 {
		return aborted
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	return errors.Join(aborted, l.Release(ctx))
}

// shortDelay is the wait after a claim of the record that was found. Both io_timeouts count: a rival that
// read the same record may be as slow as that one allows, or as ours does (spec ondisk 9.13).
func (l *Lease) shortDelay(found *ondisk.Leader) time.Duration {
	theirs := timeouts.Of(uint32(found.IOTimeout), l.cfg.Times.IO, l.cfg.Times.Fire)
	return max(theirs.ShortDelay(), l.cfg.Times.ShortDelay())
}

// confirm makes sure that our claim still stands.
func (l *Lease) confirm(ctx context.Context, mine *ondisk.Leader) error {
	now, err := l.look(ctx)
	if err != nil {
		return err
	}
	if now.record != *mine {
		return l.fail("join", leases.HostIDBusy, fmt.Errorf(
			"%q took host id %d at the same time; give each host an id of its own",
			now.record.ResourceName, l.cfg.Host))
	}
	return nil
}

// settle waits for what an earlier membership of this process may still have in flight to our sector.
func (l *Lease) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Times.RenewalWrite())
	defer cancel()
	if err := l.cfg.Device.Settle(ctx, l.at(), l.cfg.Geometry.Sector); err != nil {
		return l.fault("join", err)
	}
	return nil
}

// outwait waits until the other name in our sector must have been reset by its watchdog, and looks whether it
// has moved meanwhile. An io_timeout of 0 is that of a host with 256 seconds, of which stock stores 8 bits.
//
// leases.Corrupt: the record is of a newer sanlock's minor version. A host that has it may live without
// renewing, and whoever takes its id takes all its leases (spec ondisk 8).
func (l *Lease) outwait(ctx context.Context, found sighting) (sighting, error) {
	if err := checkTimed(&found.record, l.cfg.AllowUnknownFlags); err != nil {
		return found, l.fault("join", err)
	}
	theirs := timeouts.Of(uint32(found.record.IOTimeout), timeouts.MaxIO+1, l.cfg.Times.Fire)
	if err := sleep(ctx, theirs.HostDead()); err != nil {
		return found, l.fail("join", leases.Aborted, err)
	}
	now, err := l.look(ctx)
	if err != nil {
		return found, err
	}
	if now.record != found.record && now.record.Timestamp != 0 {
		return found, l.fail("join", leases.HostIDBusy, fmt.Errorf(
			"host id %d is in use by %q, which renews it; give each host an id of its own",
			l.cfg.Host, now.record.ResourceName))
	}
	return now, nil
}

// claim writes our record over the one that was found. A rival that claims the same record waits 2 of its
// io_timeouts and then believes that it was alone: our write must be on disk by then, or never count.
func (l *Lease) claim(ctx context.Context, found sighting) (monotime.Instant, ondisk.Leader, error) {
	// 1 second where the record does not say: rivals go by their own io_timeouts then, whatever those are.
	window := timeouts.Of(uint32(found.record.IOTimeout), 1, 0).ShortDelay()
	at := l.cfg.Clock.Now()
	mine := found.record
	mine.Timestamp = stamp(at)
	mine.IOTimeout = uint16(l.cfg.Times.IO)
	mine.OwnerID, mine.OwnerGeneration = uint64(l.cfg.Host), found.record.OwnerGeneration+1
	mine.ResourceName = leases.NameOf(l.cfg.HostName)
	left := window - at.Sub(found.began)
	if left <= 0 {
		return at, mine, l.fail("join", leases.Timeout, errSlowClaim)
	}
	if err := l.put(ctx, min(left, l.cfg.Times.OneIO()), &mine, nil); err != nil {
		return at, mine, l.fault("join", err)
	}
	if l.cfg.Clock.Now().Sub(found.began)+l.cfg.Clock.Asleep()-found.asleep > window {
		return at, mine, l.fail("join", leases.Timeout, errSlowClaim)
	}
	return at, mine, nil
}

// look reads our sector and checks it.
func (l *Lease) look(ctx context.Context) (sighting, error) {
	s := sighting{asleep: l.cfg.Clock.Asleep(), began: l.cfg.Clock.Now()}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Times.OneIO())
	defer cancel()
	b, err := l.cfg.Device.Read(ctx, l.at(), l.cfg.Geometry.Sector)
	if err != nil {
		return s, l.fault("join", err)
	}
	defer b.Release()
	s.record, err = ondisk.DecodeLeader(b.Bytes())
	if err == nil {
		err = s.record.CheckDelta(l.cfg.Space)
	}
	if err == nil {
		err = checkKnown(&s.record, l.cfg.AllowUnknownFlags)
	}
	if err != nil {
		return s, l.fault("join", err)
	}
	return s, nil
}
