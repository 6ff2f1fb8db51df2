package resource

import (
	"context"
	"fmt"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/paxos"
)

// machine is what Claim and Retire have in common.
type machine interface {
	SetTime(now uint64)
	Next() paxos.Action
	Saw(disk int, v paxos.View, err error)
	Wrote(disk int, err error)
}

// asker is the part of a claim that wants to know about its owner and to rest.
type asker interface {
	Answered(v paxos.Verdict)
	Resumed()
}

// The back-off after a ballot that is ahead of ours: a random part of some transfers' time, doubling. Stock
// draws from a whole second, whatever the storage takes (spec ondisk 4.3 step 9).
//
// Whoever gives way comes back with a ballot number above all it has seen, so among hosts that keep asking
// each has the same chance at every try, and the doubling spreads them until one gets through. There is no
// queue: a lease in constant demand goes to whom chance favours, as with stock. A host cannot starve the
// others by asking more often, since it gives way itself to every ballot that is ahead.
const (
	pauseTransfers = 8
	pauseLeast     = time.Millisecond
	pauseMost      = time.Second
	ownerPause     = time.Second
)

// drive is one run of a machine.
type drive struct {
	l      *Lease
	self   paxos.Proposal
	terms  terms                // of every leader that is read
	live   leases.Liveness      // nil for a machine that never asks
	change func(*ondisk.Leader) // on every leader written
	at     step
	outbid int // pauses so far

	yielded bool          // another host's ballot was let go first once
	glanced bool          // the first look of a claim is over
	left    ondisk.Leader // how we left the leader, for the full look that comes instead of a glance
}

// run does what the machine owes until it is done or ctx ends, and returns the last action.
func (v *drive) run(ctx context.Context, m machine) paxos.Action {
	for {
		m.SetTime(v.l.now())
		a := m.Next()
		switch a.Do {
		case paxos.Look:
			if !v.glance(ctx, m) {
				v.look(ctx, m)
				v.compare()
			}
		case paxos.ReadLeader:
			v.at = atLook
			v.l.look(ctx, m, v.terms, false)
		case paxos.WriteBlock:
			v.at = atBallot
			v.l.writeBlock(ctx, m, v.self.Host, a.Block)
		case paxos.WriteLeader:
			v.at = atLeader
			v.l.writeLeader(ctx, m, a.Record, v.change)
		case paxos.Ask, paxos.Pause:
			if err := v.attend(ctx, m, a); err != nil {
				return paxos.Action{Do: paxos.Done, Owner: a.Owner, Err: err}
			}
		case paxos.Done:
			return a
		default:
			panic(fmt.Sprintf("resource: machine wants %+v", a))
		}
	}
}

// attend answers a question about the owner, or rests. It fails only where nothing is in flight.
func (v *drive) attend(ctx context.Context, m machine, a paxos.Action) error {
	claim, ok := m.(asker)
	if !ok {
		panic(fmt.Sprintf("resource: machine wants %+v", a))
	}
	v.at = atLook
	if a.Do == paxos.Ask {
		answer, err := v.live.Probe(ctx, owner(a.Owner))
		if err != nil {
			return err
		}
		claim.Answered(verdict(answer))
		return nil
	}
	wait := ownerPause
	if a.Why == paxos.Outbid {
		wait = v.backOff()
	}
	if err := sleep(ctx, wait); err != nil {
		return err
	}
	claim.Resumed()
	return nil
}

// look is a full look. Where another host is in the middle of a ballot for a lease that is free, it is given
// the time of one before we judge: to outbid it would cost it its whole back-off, which for a stock host is
// up to a second, and us a ballot too. This is a courtesy and not a rule; it is shown once in a claim.
func (v *drive) look(ctx context.Context, m machine) {
	views, errs := v.l.gather(ctx, v.terms, true)
	if v.at == atLook && !v.yielded && rivals(views, errs, v.self.Host) {
		v.yielded = true
		if sleep(ctx, v.backOff()) == nil {
			views, errs = v.l.gather(ctx, v.terms, true)
		}
	}
	v.l.report(m, views, errs)
}

// rivals reports whether a disk shows a free leader and a ballot of another host for the next version.
func rivals(views []paxos.View, errs []error, self uint64) bool {
	for d, v := range views {
		if errs[d] != nil || !v.Record.Free() {
			continue
		}
		for i, b := range v.Blocks {
			if b.Round == v.Record.Round+1 && !b.Released && uint64(i)+1 != self {
				return true
			}
		}
	}
	return false
}

func (v *drive) backOff() time.Duration {
	limit := max(v.l.pace, pauseLeast) * pauseTransfers << min(v.outbid, 16)
	v.outbid++
	return max(pauseLeast, time.Duration(v.l.cfg.Jitter()*float64(min(limit, pauseMost))))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return &leases.Error{Op: "wait", Kind: leases.Aborted, Err: ctx.Err()}
	}
}
