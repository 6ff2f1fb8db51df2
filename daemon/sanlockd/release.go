package sanlockd

import (
	"errors"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

var (
	errNoOrphanNamed = &leases.Error{
		Op: "release orphans", Kind: leases.Invalid, Err: errors.New("name a lease or a lockspace"),
	}
	errNoNewName = &leases.Error{
		Op: "rename", Kind: leases.Invalid, Err: errors.New("name the lease that is held, then its new name"),
	}
)

// releaseCommand carries out RELEASE in its four forms and returns the result number.
func (s *Server) releaseCommand(c *client, h sanlockwire.Header, rs []sanlockwire.Resource) int32 {
	var result int32
	switch {
	case h.Flags&sanlockwire.ReleaseOrphan != 0:
		if len(rs) == 0 {
			return resultOf(errNoOrphanNamed)
		}
		return s.releaseOrphans(rs[0])
	case h.Flags&sanlockwire.ReleaseAll != 0:
		result = s.releaseAll(c)
	case h.Flags&sanlockwire.ReleaseRename != 0:
		if len(rs) < 2 {
			return resultOf(errNoNewName)
		}
		result = s.releaseOne(c, rs[0], rs[1].Name.String())
	default:
		for _, r := range rs {
			// The others are released all the same; the last complaint is the answer.
			if one := s.releaseOne(c, r, ""); one != 0 {
				result = one
			}
		}
	}
	s.mu.Lock()
	if !c.holds() {
		// It has done what it was to be stopped for, and may acquire again.
		c.killCount = 0
		c.flags &^= runpathSent
	}
	s.mu.Unlock()
	return result
}

func (s *Server) releaseAll(c *client) int32 {
	s.mu.Lock()
	all := append([]*token(nil), c.tokens...)
	s.mu.Unlock()
	var result int32
	for _, t := range all {
		if t == nil {
			continue
		}
		if one := s.releaseToken(t, ""); one != 0 {
			result = one
		}
	}
	return result
}

func (s *Server) releaseOne(c *client, r sanlockwire.Resource, rename string) int32 {
	s.mu.Lock()
	t := c.find(r)
	s.mu.Unlock()
	if t == nil {
		s.log.Error().Msgf("cmd_release %v no resource %v", c, r.Name)
		return resultFailed
	}
	return s.releaseToken(t, rename)
}

// releaseToken gives a token back; the last one of its lease is given back on disk.
func (s *Server) releaseToken(t *token, rename string) int32 {
	s.mu.Lock()
	h := s.detach(t)
	if h != nil {
		s.move(h, removing)
		h.home.beginOp()
	}
	s.mu.Unlock()
	if h == nil {
		return 0
	}
	defer s.endOp(h.home)
	err := s.giveBack(h, rename)
	if err != nil {
		h.home.log.Error().Uint32("r", h.id).Err(err).Msgf("release result %d", resultOf(err))
	}
	return resultOf(err)
}

// releaseOrphans gives back the orphans of a lockspace, or the one that is named, in the background, and
// returns how many.
func (s *Server) releaseOrphans(r sanlockwire.Resource) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int32
	for _, h := range s.sorted(orphan) {
		if h.key.space != r.Space.String() || !r.Name.IsEmpty() && h.key.name != r.Name.String() {
			continue
		}
		n++
		if h.home.isOver() {
			s.leaveBehind(h)
		} else {
			s.giveBackLater(h)
		}
	}
	return n
}

var errSharedHere = errors.New("another client of this host holds it shared")

// convert changes how c holds a lease. To exclusive it is refused while other clients of this host share it:
// stock grants it, and two clients hold the lease (spec sanlock-daemon 2.4).
func (s *Server) convert(c *client, h sanlockwire.Header, r sanlockwire.Resource) error {
	refuse := func(k leases.Kind, why error) error {
		return &leases.Error{Op: "convert", Space: r.Space.String(), Resource: r.Name.String(), Kind: k, Err: why}
	}
	to := leases.Exclusive
	if r.Shared() {
		to = leases.Shared
	}
	s.mu.Lock()
	t := c.find(r)
	if t == nil {
		s.mu.Unlock()
		return refuse(leases.NotFound, errNotHeld)
	}
	lease := t.h
	s.mu.Unlock()
	if !s.seize(lease) {
		return refuse(leases.NoSpace, errPassedOn)
	}
	s.mu.Lock()
	lease.home.beginOp()
	shared := len(lease.tokens) > 1
	if to == lease.mode || shared {
		lease.busy = false
	}
	s.mu.Unlock()
	defer s.endOp(lease.home)
	switch {
	case to == lease.mode:
		return refuse(leases.Already, errors.New("it is held like that"))
	case shared:
		return refuse(leases.Again, errSharedHere)
	}
	noWait := h.Flags&sanlockwire.ConvertOwnerNoWait != 0
	err := lease.lease.Convert(lease.home.ctx, lease.grant, to, noWait, lease.home.ls)
	return s.converted(t, lease, err)
}

// converted takes note of how a conversion ended. Nobody is told that a lease is exclusive when its lockspace
// is over by then.
func (s *Server) converted(t *token, h *holding, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.busy = false
	h.mode = h.grant.Mode
	if h.mode == leases.Exclusive {
		t.lver = h.grant.Version
		t.flags &^= sanlockwire.ResShared
	} else {
		t.flags |= sanlockwire.ResShared
	}
	if h.lease.Unsettled() && !h.home.isOver() {
		h.home.beginOp()
		s.busy.Go(func() {
			defer s.endOp(h.home)
			s.settleHeld(h)
		})
	}
	s.tell()
	switch {
	case h.home.isOver():
		return fail("convert", h.home.wire.Name, leases.NoSpace, errPassedOn)
	case leases.KindOf(err) == leases.Aborted && h.home.dead:
		return fail("convert", h.home.wire.Name, leases.NoSpace, errPassedOn)
	}
	return err
}
