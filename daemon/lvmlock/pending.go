package lvmlock

import (
	"context"
	"sync/atomic"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// verdict is what became of a request, before it is put into a reply.
type verdict struct {
	typ             lvmwire.LockType
	result, manager lvmwire.Result
	flags           lvmwire.Flags
	owner           lvmwire.Owner
	mode            lvmwire.Mode
	vgArgs, lvArgs  string
	generation      uint64
	previous        uint64
}

// pending is a request that a lockspace has to answer, exactly once. Whether the answer or the client's end
// came first is decided in one place, taken: an LV lock must be either told or given back.
type pending struct {
	client       *Client
	req          lvmwire.Request
	internal     bool // may pass while the lockspace is being adopted
	waitStarting bool // waits for the join instead of being refused
	taken        atomic.Bool
	done         chan verdict
}

func newPending(c *Client, req lvmwire.Request) *pending {
	return &pending{client: c, req: req, done: make(chan verdict, 1)}
}

// answer says false if nobody waits any more.
func (p *pending) answer(v verdict) bool {
	if p == nil || !p.taken.CompareAndSwap(false, true) {
		return false
	}
	p.done <- v
	return true
}

// result answers with a result that the lock manager had no part in.
func (p *pending) result(s *space, r lvmwire.Result) bool {
	if p == nil {
		return false
	}
	return p.answer(verdict{typ: p.typ(s), result: r, generation: s.generation, mode: lvmwire.Invalid})
}

// typ is the lock type that the reply shows (spec lvmlockd 2.5.10).
func (p *pending) typ(s *space) lvmwire.LockType {
	if p.req.Type != lvmwire.NoType || p.req.Op == lvmwire.OpStop {
		return p.req.Type
	}
	return s.typ
}

// wait returns the answer. If ctx ends first nobody will be told.
func (p *pending) wait(ctx context.Context, s *space) verdict {
	gone := verdict{typ: p.req.Type, result: lvmwire.Canceled}
	select {
	case v := <-p.done:
		return v
	case <-ctx.Done():
	case <-s.gone:
		if s.engine.ctx.Err() == nil {
			gone.result = lvmwire.NoLockspace
		}
	}
	if p.taken.CompareAndSwap(false, true) {
		return gone
	}
	return <-p.done
}
