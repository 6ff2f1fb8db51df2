package resource

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/paxos"
)

// retirement says how a grant is given back.
type retirement struct {
	shared bool   // our shared hold begins or goes on
	strict bool   // it is an error if the leader is not ours any more
	rename string // new resource name, "" keeps it
}

// Release gives the lease back. A value block that was changed is written first; that this failed is told
// after the lease has been released all the same, but for a value that may still land on the disk. After a
// fault the lease is Unsettled and no longer anyone's to use: Settle finishes it.
//
// rename, if not empty, becomes the resource's name on disk; it has no effect on a shared hold, nor when
// another host published our ownership (spec ondisk 4.6, 9.27).
func (l *Lease) Release(ctx context.Context, g *Grant, rename string) error {
	if err := l.finish(ctx); err != nil {
		l.loose.shared = false
		return l.fail("release", leases.Again, err)
	}
	if g.Mode == leases.Shared {
		return l.releaseShared(ctx, g)
	}
	how := retirement{strict: true, rename: rename}
	lost := l.flushValue(ctx, g)
	if isTimeout(lost) {
		// The value may land at any time, also on top of the next owner's. The lease stays ours until it has.
		l.leave(g, how)
		return lost
	}
	return errors.Join(l.retireOrLeave(ctx, g, how), lost)
}

// releaseShared takes our mark away: one write, the leader is not touched.
func (l *Lease) releaseShared(ctx context.Context, g *Grant) error {
	b := g.block
	b.Released, b.Shared, b.SharedGeneration = true, false, 0
	if err := firstMajority(l.putBlock(ctx, uint64(g.Owner.Host), b)); err != nil {
		g.block = b
		l.leave(g, retirement{})
		return l.fail("release", causeKind(err), err)
	}
	g.block = b
	l.restWith(proposal(g.Owner), b)
	return nil
}

// giveBack releases a grant that the caller never got. shared keeps our shared hold.
func (l *Lease) giveBack(ctx context.Context, g *Grant, shared bool) error {
	return l.retireOrLeave(ctx, g, retirement{shared: shared})
}

// retireOrLeave remembers a release that failed, for Settle.
func (l *Lease) retireOrLeave(ctx context.Context, g *Grant, r retirement) error {
	err := l.retire(ctx, g, r)
	switch leases.KindOf(err) {
	case leases.ReleaseVersion, leases.ReleaseOwner:
		// The leader is not ours any more: there is nothing to finish.
		return err
	default:
	}
	if err != nil {
		l.leave(g, r)
	}
	return err
}

// leave remembers what Settle must give back, and how.
func (l *Lease) leave(g *Grant, r retirement) {
	l.loose = &loose{self: proposal(g.Owner), round: g.Version, block: g.block, retirement: r}
}

func (l *Lease) retire(ctx context.Context, g *Grant, r retirement) error {
	self := proposal(g.Owner)
	m := paxos.NewRetire(paxos.RetireConfig{
		Self: self, Round: g.Version, Block: g.block, Disks: len(l.cfg.Disks), Shared: r.shared, Strict: r.strict,
	})
	g.block = m.Next().Block
	v := &drive{l: l, self: self, change: func(leader *ondisk.Leader) {
		leader.Flags &^= ondisk.FlagShortHold
		if r.rename != "" {
			leader.ResourceName = leases.NameOf(r.rename)
		}
	}}
	l.wrote = ondisk.Leader{}
	if a := v.run(ctx, m); a.Err != nil {
		return l.fail("release", l.machineKind(a.Err, atLeader), explain(a))
	}
	if !r.shared {
		l.restWith(self, g.block)
	}
	return nil
}

// Unsettled reports that a failed operation left something behind that others may still act upon, or a write
// in flight. Until Settle succeeds the lease must count as being released.
func (l *Lease) Unsettled() bool { return l.loose != nil }

// Settle finishes what a failed operation left: it waits until our writes to the leader and to our host
// block have ended, and then withdraws. A leader write overtaken by the withdrawal could land on top of a
// later owner's. Call it again after an error.
func (l *Lease) Settle(ctx context.Context) error {
	if l.loose == nil {
		return nil
	}
	if err := l.landed(ctx, l.loose.self.Host); err != nil {
		return l.fail("settle", leases.Timeout, err)
	}
	g := &Grant{Version: l.loose.round, Owner: owner(l.loose.self), block: l.loose.block}
	if err := l.retire(ctx, g, retirement{shared: l.loose.shared, rename: l.loose.rename}); err != nil {
		return err
	}
	l.loose = nil
	return nil
}

// settleSoon tries once to settle after a fault that was not a timeout: the storage answers.
func (l *Lease) settleSoon(ctx context.Context, err error) {
	if l.loose == nil || isTimeout(err) {
		return
	}
	// What remains is for the caller's next Settle; the error that matters is the one already at hand.
	_ = l.Settle(ctx)
}

// finish settles before another operation on a grant.
func (l *Lease) finish(ctx context.Context) error {
	if err := l.Settle(ctx); err != nil {
		return fmt.Errorf("an earlier operation on it is still being undone: %w", err)
	}
	return nil
}

// landed waits, for one I/O's time, until no write of ours to the leader or our host block is in flight on a
// majority of the disks, nor one to the value block. On the other disks the device itself keeps a later write
// of ours behind the earlier one, and a leader that lands there late is older than what the majority has.
func (l *Lease) landed(ctx context.Context, host uint64) error {
	ctx, cancel := l.deadline(ctx)
	defer cancel()
	return l.awaitWrites(ctx, host)
}

// inFlight reports whether landed would have to wait.
func (l *Lease) inFlight(ctx context.Context, host uint64) bool {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return l.awaitWrites(ctx, host) != nil
}

func (l *Lease) awaitWrites(ctx context.Context, host uint64) error {
	settle := func(disk int, off int64, n int) error {
		d := l.cfg.Disks[disk]
		return d.Device.Settle(ctx, d.Offset+off, n)
	}
	likely := []ondisk.Geometry{l.geometry}
	if !l.sized {
		likely = []ondisk.Geometry{ondisk.DefaultGeometry(512), ondisk.DefaultGeometry(4096)}
	}
	err := firstMajority(l.each(func(disk int) error {
		for _, g := range likely {
			if err := errors.Join(settle(disk, 0, g.Sector), settle(disk, g.BlockOffset(host), g.Sector)); err != nil {
				return err
			}
		}
		return nil
	}))
	for _, g := range likely {
		if err == nil && g.HasLVB() {
			err = settle(0, g.LVBOffset(), g.Sector)
		}
	}
	return err
}
