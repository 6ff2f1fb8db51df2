package sanlockd

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/resource"
)

// leaseKey identifies a lease on this host: disks are not part of it.
type leaseKey struct{ space, name string }

func keyOf(r sanlockwire.Resource) leaseKey { return leaseKey{r.Space.String(), r.Name.String()} }

// list says where a lease, or a lockspace, is in its life on this host.
type list uint8

// The lists of leases. A lockspace is on adding, held (stock's "spaces") or removing.
const (
	adding   list = iota // being acquired
	held                 //
	removing             // being given back; nobody may have it meanwhile
	orphan               // held for nobody: its client died and it is persistent
)

// holding is a lease that this host acquires, holds, gives back, or keeps for nobody. An exclusive one has
// one token, a shared one any number. All fields are guarded by Server.mu, except that whoever has set busy
// works with lease and grant.
type holding struct {
	id, reused uint32
	key        leaseKey
	home       *space
	list       list
	moved      uint64               // when it came to its list, in moves
	wire       sanlockwire.Resource // names, flags and disks of the first token
	mode       leases.Mode
	disks      []resource.Disk
	lease      *resource.Lease
	grant      *resource.Grant
	memory     resource.Memory // of how it was left last time
	busy       bool            // an operation is at work on it
	examine    bool            // it is to be looked at for a request
	valueSet   bool            // its value block was changed; status says so until the release, as in stock
	restrict   uint32          // of the client that acquired it exclusively; a shared lease shows none
	tokens     []*token
	lastPID    int32 // of the token that went last
}

// token is one client's hold on a lease.
type token struct {
	id      uint32
	c       *client
	h       *holding
	flags   uint32 // of the resource in the request
	lver    uint64 // 0 while it was never acquired exclusively
	adopted bool   // the lease was an orphan
	// What a request may do to the client, as it had said by the time of the acquire.
	restrict uint32
	kill     sanlockwire.Killpath
}

// retiredID remembers a lease that is not held any more: its number, so that it gets the same again, and how
// it was left on its disks, so that the next acquire needs fewer and shorter reads.
type retiredID struct {
	key        leaseKey
	id, reused uint32
	disks      []sanlockwire.Disk
	memory     resource.Memory
}

const maxRetired = 1024

// newHolding puts a lease on the adding list. s.mu is held.
func (s *Server) newHolding(home *space, r sanlockwire.Resource) *holding {
	h := &holding{key: keyOf(r), home: home, wire: r, mode: leases.Exclusive, busy: true}
	if r.Shared() {
		h.mode = leases.Shared
	}
	if i := slices.IndexFunc(s.retired, func(f retiredID) bool { return f.key == h.key }); i >= 0 {
		h.id, h.reused = s.retired[i].id, s.retired[i].reused+1
		if slices.Equal(s.retired[i].disks, r.Disks) {
			h.memory = s.retired[i].memory
		}
		s.retired = slices.Delete(s.retired, i, i+1)
	} else {
		s.lastID.lease++
		h.id = s.lastID.lease
	}
	s.holdings[h.key] = h
	s.move(h, adding)
	return h
}

// move puts a lease on a list. s.mu is held.
func (s *Server) move(h *holding, to list) {
	s.moved++
	h.list, h.moved = to, s.moved
	s.tell()
}

// forget drops a lease: it is free on disk, or not ours to touch any more. What of it may still be in flight
// stays known to its lockspace, which is not left before that has ended. s.mu is held.
func (s *Server) forget(h *holding) {
	if s.holdings[h.key] != h {
		return
	}
	delete(s.holdings, h.key)
	for _, t := range h.tokens {
		t.h = nil
	}
	h.tokens = nil
	gone := retiredID{key: h.key, id: h.id, reused: h.reused, disks: h.wire.Disks}
	if h.lease != nil {
		gone.memory = h.lease.Memory()
	}
	s.retired = append(s.retired, gone)
	if len(s.retired) > maxRetired {
		s.retired = slices.Delete(s.retired, 0, 1)
	}
	// Also a write that decides nothing, landing late, could wipe out what a later owner of our host id wrote.
	h.home.wreckage = closeLanded(append(h.home.wreckage, h.disks...))
	s.tell()
}

// newToken gives c a hold that it does not see yet. s.mu is held.
func (s *Server) newToken(c *client, h *holding, r sanlockwire.Resource) *token {
	s.lastID.token++
	t := &token{id: s.lastID.token, c: c, h: h, flags: r.Flags, restrict: c.restricted, kill: c.kill}
	if h.list == adding && !r.Shared() {
		h.restrict = c.restricted
	}
	h.tokens = append(h.tokens, t)
	return t
}

// attach makes a token visible: from here on its client has the lease. s.mu is held.
func attach(t *token) {
	if i := slices.Index(t.c.tokens, nil); i >= 0 {
		t.c.tokens[i] = t
		return
	}
	t.c.tokens = append(t.c.tokens, t)
}

// detach takes a token from its client and its lease, and returns the lease if that was its last token.
// s.mu is held.
func (s *Server) detach(t *token) *holding {
	if i := slices.Index(t.c.tokens, t); i >= 0 {
		t.c.tokens[i] = nil
	}
	h := t.h
	if h == nil {
		return nil
	}
	t.h = nil
	h.lastPID = t.c.pid.Load()
	h.tokens = slices.DeleteFunc(h.tokens, func(o *token) bool { return o == t })
	s.tell()
	if len(h.tokens) > 0 {
		return nil
	}
	return h
}

// bequeath disposes of a token whose client has died. s.mu is held.
func (s *Server) bequeath(t *token) {
	h := s.detach(t)
	switch {
	case h == nil:
	case h.home.isOver():
		s.leaveBehind(h)
	case t.flags&sanlockwire.ResPersistent != 0:
		s.move(h, orphan)
	default:
		s.giveBackLater(h)
	}
}

// leaveBehind ends a lease of a lockspace that is over. What a removed one had is given back on disk when it
// is left; of one that was lost nothing may be written any more. s.mu is held.
func (s *Server) leaveBehind(h *holding) {
	if h.home.failed || h.grant == nil {
		s.forget(h)
		return
	}
	s.move(h, removing)
}

// giveBackLater releases a lease in the background; it counts as being released until that is done. s.mu is
// held.
func (s *Server) giveBackLater(h *holding) {
	s.move(h, removing)
	h.home.ops++
	s.busy.Go(func() {
		defer s.endOp(h.home)
		if err := s.giveBack(h, ""); err != nil {
			h.home.log.Error().Uint32("r", h.id).Err(err).Msg("release of a client's lease that died or gave it up")
		}
	})
}

// giveBack releases a lease that is on the removing list, on disk unless its lockspace is over. After a
// failure it stays on the list, and is settled in the background. The caller has counted the operation.
func (s *Server) giveBack(h *holding, rename string) error {
	if !s.seize(h) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.leaveBehind(h)
		return nil
	}
	err := h.lease.Release(h.home.ctx, h.grant, rename)
	s.mu.Lock()
	defer s.mu.Unlock()
	h.busy = false
	s.settleOrForget(h)
	return err
}

// seize waits until no other operation is at work on the lease and makes it ours. It reports false if the
// lockspace is over: nothing may be written any more.
func (s *Server) seize(h *holding) bool {
	mine := false
	// The wait ends: an operation takes a few transfers, each with a deadline, and ends early with its space.
	_ = s.await(context.Background(), func() bool {
		if h.busy {
			return false
		}
		mine = !h.home.isOver()
		h.busy = mine
		return true
	})
	return mine
}

// settleOrForget ends a release or an acquire that failed. s.mu is held.
func (s *Server) settleOrForget(h *holding) {
	if !h.lease.Unsettled() || h.home.isOver() {
		s.forget(h)
		return
	}
	s.move(h, removing)
	h.busy = true
	h.home.ops++
	s.busy.Go(func() {
		defer s.endOp(h.home)
		s.settle(h)
		s.mu.Lock()
		defer s.mu.Unlock()
		h.busy = false
		s.forget(h)
	})
}

// settle withdraws what a failed operation left on disk, for as long as the lockspace lives.
func (s *Server) settle(h *holding) {
	times := h.home.times()
	pause := times.OneIO()
	for !s.over(h.home) {
		err := h.lease.Settle(h.home.ctx)
		if err == nil {
			return
		}
		h.home.log.Error().Uint32("r", h.id).Err(err).Msg("release is not finished, will be tried again")
		if !s.landed(h.home.ctx, h.disks, h.home, pause) {
			return
		}
		pause = 2 * times.OneIO()
	}
}

// settleHeld withdraws what a failed conversion left on disk while the lease stays held. Its end is near once
// the lease is being released: that settles it too. The caller has counted the operation.
func (s *Server) settleHeld(h *holding) {
	ctx, pause := h.home.ctx, h.home.times().OneIO()
	for s.landed(ctx, h.disks, h.home, pause) {
		if !s.seize(h) {
			return
		}
		var err error
		if stays := s.isHeld(h); stays {
			err = h.lease.Settle(ctx)
		}
		s.mu.Lock()
		h.busy = false
		s.tell()
		s.mu.Unlock()
		if err == nil {
			return
		}
		h.home.log.Error().Uint32("r", h.id).Err(err).Msg("convert is not undone, will be tried again")
		pause = 2 * h.home.times().OneIO()
	}
}

func (s *Server) isHeld(h *holding) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holdings[h.key] == h && h.list == held
}

// sorted returns the leases on a list, newest first. s.mu is held.
func (s *Server) sorted(on list) []*holding {
	var all []*holding
	for _, h := range s.holdings {
		if h.list == on {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b *holding) int { return cmp.Compare(b.moved, a.moved) })
	return all
}

// find returns the token by which c holds a lease, or nil. s.mu is held.
func (c *client) find(r sanlockwire.Resource) *token {
	for _, t := range c.tokens {
		if t != nil && t.h != nil && t.h.key == keyOf(r) {
			return t
		}
	}
	return nil
}

// holds reports whether c has a token. s.mu is held.
func (c *client) holds() bool {
	return slices.ContainsFunc(c.tokens, func(t *token) bool { return t != nil })
}

// closeLanded closes the disks that no write is in flight to, and returns the others.
func closeLanded(disks []resource.Disk) []resource.Disk {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	return slices.DeleteFunc(disks, func(d resource.Disk) bool {
		if settle(now, d) != nil {
			return false
		}
		d.Device.Close()
		return true
	})
}

func closeDisks(disks []resource.Disk) {
	for _, d := range disks {
		d.Device.Close()
	}
}

var errNotHeld = errors.New("the client does not hold it")

// openDisks opens the places of a lease.
func (s *Server) openDisks(r sanlockwire.Resource) ([]resource.Disk, error) {
	var disks []resource.Disk
	for _, d := range r.Disks {
		dev, err := s.open(d.Path)
		if err != nil {
			closeDisks(disks)
			return nil, err
		}
		disks = append(disks, resource.Disk{Device: dev, Offset: int64(d.Offset)})
	}
	return disks, nil
}
