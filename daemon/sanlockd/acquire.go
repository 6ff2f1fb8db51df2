package sanlockd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/resource"
)

var (
	errSpaceNotActive = errors.New("its lockspace is not joined here, or is failing or being removed")
	errTakerDied      = errors.New("the process that it was acquired for has died meanwhile")
	errBeingReleased  = errors.New("it is being released on this host, try again")
	errBeingAcquired  = errors.New("another client of this host is acquiring or converting it")
	errHeldHere       = errors.New("a client of this host holds it")
	errOrphanHere     = errors.New("a client of this host died and left it as an orphan")
	errNoOrphan       = errors.New("there is no such orphan")
	errPassedOn       = errors.New("its lockspace was lost or removed meanwhile")
)

// acquire takes all the resources for c, or none (spec sanlock-daemon 2.3).
func (s *Server) acquire(c *client, h sanlockwire.Header, rs []sanlockwire.Resource, name leases.Name) error {
	s.mu.Lock()
	c.name = name.String()
	dead := c.dead
	var missing error
	var noSpace string
	for _, r := range rs {
		if sp := s.active(r.Space); missing == nil && (sp == nil || sp.isOver()) {
			missing = acquireError(r, leases.NoSpace, errSpaceNotActive)
			noSpace = fmt.Sprintf("found %d failed %d name %v", bit(sp != nil)-1, bit(sp != nil), r.Space)
		}
	}
	s.mu.Unlock()
	switch {
	case dead:
		return &sanlockwire.Result{Number: resultStale, Text: errTakerDied.Error()}
	case missing != nil:
		s.log.Error().Msgf("cmd_acquire %v invalid lockspace %s", c, noSpace)
		return missing
	}
	var got []*token
	for _, r := range rs {
		t, refusedAs, err := s.take(c, r, h.Flags)
		if err != nil {
			s.logRefusal(c, refusedAs, err)
			s.giveUp(got)
			return err
		}
		got = append(got, t)
	}
	if err := s.confirm(c, got); err != nil {
		s.giveUp(got)
		return err
	}
	return nil
}

// confirm makes the tokens visible, unless the client has died or a lockspace is over. From the moment at
// which it says yes, whoever stops the users of the lockspace finds this client.
func (s *Server) confirm(c *client, got []*token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.dead {
		return fail("acquire", leases.Name{}, leases.TargetDied, errTakerDied)
	}
	for _, t := range got {
		if t.h == nil || t.h.home.isOver() {
			return fail("acquire", leases.Name{}, leases.NoSpace, errPassedOn)
		}
	}
	for _, t := range got {
		attach(t)
	}
	return nil
}

// giveUp releases tokens that their client never saw.
func (s *Server) giveUp(got []*token) {
	for _, t := range got {
		s.mu.Lock()
		h := s.detach(t)
		if h != nil && t.adopted && !h.home.isOver() {
			// It was nobody's before and is nobody's again; it was not ours to free.
			s.move(h, orphan)
			h = nil
		}
		if h != nil {
			s.move(h, removing)
			h.home.beginOp()
		}
		s.mu.Unlock()
		if h == nil {
			continue
		}
		if err := s.giveBack(h, ""); err != nil {
			h.home.log.Error().Uint32("r", h.id).Err(err).Msg("release after an acquire that failed")
		}
		s.endOp(h.home)
	}
}

// take takes one lease for c, without letting c see it yet. An error comes with what this host knows the
// lease as, which may be nothing.
func (s *Server) take(c *client, r sanlockwire.Resource, flags uint32) (*token, *holding, error) {
	s.mu.Lock()
	t, fresh, err := s.takeHere(c, r, flags)
	if !fresh {
		h := s.holdings[keyOf(r)]
		s.mu.Unlock()
		return t, h, err
	}
	sp := s.active(r.Space)
	if sp == nil || sp.isOver() {
		s.mu.Unlock()
		return nil, nil, acquireError(r, leases.NoSpace, errSpaceNotActive)
	}
	h := s.newHolding(sp, r)
	t = s.newToken(c, h, r)
	sp.beginOp()
	s.mu.Unlock()
	if h.reused == 0 {
		sp.log.Warn().Uint32("r", h.id).Msgf("resource %s", placeText(r))
	}
	defer s.endOp(sp)

	ctx, cancel := context.WithCancel(sp.ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	err = s.takeFromDisk(ctx, h, r, flags)
	s.mu.Lock()
	defer s.mu.Unlock()
	h.busy = false
	if err == nil {
		t.lver = exclusiveVersion(h.grant)
		s.move(h, held)
		return t, nil, nil
	}
	s.detach(t)
	if h.lease == nil {
		s.forget(h)
	} else {
		s.settleOrForget(h)
	}
	if leases.KindOf(err) == leases.Aborted {
		err = s.whyGivenUp(c, sp, err)
	}
	return nil, h, err
}

// whyGivenUp puts the reason in place of a wait that was given up. s.mu is held.
func (s *Server) whyGivenUp(c *client, sp *space, err error) error {
	switch {
	case sp.dead:
		return fail("acquire", sp.wire.Name, leases.NoSpace, errPassedOn)
	case c.dead:
		return fail("acquire", sp.wire.Name, leases.TargetDied, errTakerDied)
	}
	return err
}

// exclusiveVersion is the version that a token shows: only an exclusive hold has one (spec 2.2).
func exclusiveVersion(g *resource.Grant) uint64 {
	if g.Mode == leases.Exclusive {
		return g.Version
	}
	return 0
}

// takeHere decides what can be decided without the disk, by the state of the lease on this host. fresh means
// that it has none. s.mu is held.
func (s *Server) takeHere(c *client, r sanlockwire.Resource, flags uint32) (t *token, fresh bool, err error) {
	refuse := func(k leases.Kind, why error) (*token, bool, error) { return nil, false, acquireError(r, k, why) }
	h := s.holdings[keyOf(r)]
	if h == nil {
		if flags&sanlockwire.AcquireOrphanOnly != 0 {
			return refuse(leases.NotFound, errNoOrphan)
		}
		return nil, true, nil
	}
	shared := h.mode == leases.Shared
	switch h.list {
	case removing:
		return refuse(leases.Again, errBeingReleased)
	case adding:
		return refuse(leases.Busy, errBeingAcquired)
	case orphan:
		if flags&(sanlockwire.AcquireOrphan|sanlockwire.AcquireOrphanOnly) == 0 || shared != r.Shared() {
			return refuse(leases.OrphanExists, errOrphanHere)
		}
		if h.home.isOver() {
			return refuse(leases.NoSpace, errSpaceNotActive)
		}
		t = s.newToken(c, h, r)
		t.lver, t.adopted = exclusiveVersion(h.grant), true
		s.move(h, held)
		return t, false, nil
	default:
	}
	switch {
	case !shared || !r.Shared():
		return refuse(leases.Exists, errHeldHere)
	case h.busy:
		return refuse(leases.Busy, errBeingAcquired)
	}
	return s.newToken(c, h, r), false, nil
}

// takeFromDisk acquires a lease that nobody on this host has.
func (s *Server) takeFromDisk(ctx context.Context, h *holding, r sanlockwire.Resource, flags uint32) error {
	disks, err := s.openDisks(r)
	if err != nil {
		return err
	}
	lease, err := resource.New(resource.Config{
		Space: r.Space, Name: r.Name, Disks: disks, Geometry: h.home.ls.Geometry(), Times: h.home.ls.Times(),
		Clock: *s.cfg.Clock, SharedRetries: s.cfg.SharedRetries, Jitter: s.cfg.Random,
		AllowUnknownFlags: s.cfg.AllowUnknownFlags, Memory: h.memory,
	})
	if err != nil {
		closeDisks(disks)
		return err
	}
	s.mu.Lock()
	h.lease, h.disks = lease, disks
	s.mu.Unlock()
	req := resource.Request{
		Mode: h.mode, NoWait: flags&sanlockwire.AcquireOwnerNoWait != 0, LVB: flags&sanlockwire.AcquireLVB != 0,
	}
	if r.Flags&sanlockwire.ResLVer != 0 {
		req.Version = r.LVer
	}
	if r.Flags&sanlockwire.ResNumHosts != 0 {
		req.NumHosts = r.Data32
	}
	grant, err := lease.Acquire(ctx, h.home.ls.Self(), req, h.home.ls)
	if err != nil {
		return err
	}
	s.mu.Lock()
	h.grant = grant
	s.mu.Unlock()
	return nil
}

func acquireError(r sanlockwire.Resource, kind leases.Kind, err error) error {
	return &leases.Error{Op: "acquire", Space: r.Space.String(), Resource: r.Name.String(), Kind: kind, Err: err}
}

// quiet are the results of an acquire that are everyday life, and those that are so when quiet_fail is set.
var (
	quiet      = []leases.Kind{leases.Exists, leases.Again, leases.Busy, leases.SharedHeld}
	quietFails = []leases.Kind{leases.Held, leases.LostRace, leases.CommittedOther, leases.OwnerSilent}
)

// logRefusal says, in words that begin as stock's, why a lease was not given to a client.
func (s *Server) logRefusal(c *client, h *holding, err error) {
	log := s.log
	if h != nil {
		log = h.home.log.With().Uint32("r", h.id).Logger()
	}
	level := zerolog.ErrorLevel
	k := leases.KindOf(err)
	if slices.Contains(quiet, k) || s.cfg.QuietFail != 0 && slices.Contains(quietFails, k) {
		level = zerolog.DebugLevel
	}
	log.WithLevel(level).Msgf("cmd_acquire %v acquire_token %d%s", c, resultOf(err), because(err))
}

// placeText is a lease with its first disk, as stock's log has it.
func placeText(r sanlockwire.Resource) string {
	if len(r.Disks) == 0 {
		return fmt.Sprintf("%v:%v", r.Space, r.Name)
	}
	return fmt.Sprintf("%v:%v:%.256s:%d", r.Space, r.Name, r.Disks[0].Path, r.Disks[0].Offset)
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}
