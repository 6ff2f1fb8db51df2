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
	pauseTransfers  = 8
	pauseLeast      = time.Millisecond
	pauseMost       = time.Second
	ballotTransfers = 16 // a ballot's time: five transfers, and stock's may be three times as slow as ours
	ownerPause      = time.Second
)

// drive is one run of a machine.
type drive struct {
	l      *Lease
	self   paxos.Proposal
	terms  terms                // of every leader that is read
	live   leases.Liveness      // nil for a machine that never asks
	noWait bool                 // the claim does not wait for a silent owner
	change func(*ondisk.Leader) // on every leader written
	at     step
	outbid int // pauses so far

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
		claim.Answered(verdict(answer, v.noWait))
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

// look is a full look. Where another host is in the middle of a ballot for a lease that is free, that ballot
// goes first: to outbid it would cost its host its whole back-off, which for a stock host is up to a second, and
// us a ballot too. This is a courtesy and not a rule: it is shown once to a ballot, and for so long as one may
// take.
func (v *drive) look(ctx context.Context, m machine) {
	views, errs := v.l.gather(ctx, v.terms, true)
	if v.at == atLook && v.l.courteous(views, errs, v.self) && v.yield(ctx) {
		views, errs = v.l.gather(ctx, v.terms, true)
	}
	v.l.report(m, views, errs)
}

// courteous reports whether somebody else goes first: whose ballot is new to us; or, if we had the lease last and
// somebody else had or sought it not long before, whoever comes now.
func (l *Lease) courteous(views []paxos.View, errs []error, self paxos.Proposal) bool {
	if number := rival(views, errs, self.Host); number > l.yielded {
		l.yielded, l.contended = number, true
		return true
	}
	if errs[0] != nil {
		return false
	}
	if last := views[0].Record; last.Owner.Host != self.Host {
		l.contended = last.Owner.Host != 0 || l.contended
		return false
	} else if !last.Free() || !l.contended {
		return false
	}
	l.contended = false
	return true
}

// yield waits until somebody has the lease, by the first disk, or a ballot's time is over. It reports false if ctx
// ended.
func (v *drive) yield(ctx context.Context) bool {
	pause := max(v.l.pace, pauseLeast)
	for limit := min(pause*ballotTransfers, pauseMost); limit > 0; limit -= pause {
		if sleep(ctx, pause) != nil {
			return false
		}
		began := time.Now()
		if now, err := v.l.view(ctx, 0, v.terms, 0); err != nil || !now.Record.Free() {
			break
		}
		limit -= time.Since(began)
	}
	return true
}

// rival returns the highest number of a ballot of another host for the next version of a lease that a disk shows to
// be free, 0 if there is none.
func rival(views []paxos.View, errs []error, self uint64) uint64 {
	most := uint64(0)
	for d, v := range views {
		if errs[d] != nil || !v.Record.Free() {
			continue
		}
		for i, b := range v.Blocks {
			if b.Round == v.Record.Round+1 && !b.Released && uint64(i)+1 != self {
				most = max(most, b.Mbal)
			}
		}
	}
	return most
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
