package sanlockd

import (
	"context"
	"syscall"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// The force modes of a request (spec ondisk 4.9).
const (
	forceKill     = 1
	forceGraceful = 2
)

// doExamineLockspace looks for requests for the leases of a lockspace. The answer is always 0.
func (s *Server) doExamineLockspace(c *client, r request) {
	l, err := spaceOf(r)
	if err == nil {
		s.examine(func(h *holding) bool { return h.key.space == l.Name.String() })
	}
	s.debugCmd(r.Cmd, "cmd_examine %d,%d %v", c.slot, c.fd, l.Name)
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

// doExamineResource looks for a request for one lease. The answer is always 0.
func (s *Server) doExamineResource(c *client, r request) {
	var res sanlockwire.Resource
	err := res.Decode(r.body)
	if err == nil {
		s.examine(func(h *holding) bool { return h.key == keyOf(res) })
	}
	s.debugCmd(r.Cmd, "cmd_examine %d,%d %v:%v", c.slot, c.fd, res.Space, res.Name)
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

// examine marks the held leases that match. Each lockspace's are looked at one after the other, in the
// background: a lease that is marked twice in the meantime is looked at once.
func (s *Server) examine(match func(*holding) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.sorted(held) {
		if !match(h) || h.home.isOver() {
			continue
		}
		h.examine = true
		if h.home.examining {
			continue
		}
		h.home.examining = true
		h.home.beginOp()
		s.busy.Go(func() { s.examining(h.home) })
	}
}

// examining looks at the marked leases of a lockspace until there are none.
func (s *Server) examining(sp *space) {
	defer s.endOp(sp)
	for {
		s.mu.Lock()
		h := s.nextExamined(sp)
		sp.examining = h != nil
		s.mu.Unlock()
		if h == nil {
			return
		}
		req, err := s.requestFor(sp.ctx, h)
		if err != nil {
			sp.log.Error().Uint32("r", h.id).Err(err).Msg("examine")
			continue
		}
		s.heed(h, req)
	}
}

// nextExamined takes the mark from one of the leases that have it. s.mu is held.
func (s *Server) nextExamined(sp *space) *holding {
	if sp.isOver() {
		return nil
	}
	for _, h := range s.sorted(held) {
		if h.home == sp && h.examine {
			h.examine = false
			return h
		}
	}
	return nil
}

// requestFor reads the request record of a lease on disks of its own: the holder's release must not wait for
// a look.
func (s *Server) requestFor(ctx context.Context, h *holding) (ondisk.Request, error) {
	s.mu.Lock()
	r := h.wire
	s.mu.Unlock()
	disks, err := s.openDisks(r)
	if err != nil {
		return ondisk.Request{}, err
	}
	defer closeDisks(disks)
	lease, err := s.look(&r, disks, h.home.ls.Geometry())
	if err != nil {
		return ondisk.Request{}, err
	}
	return lease.TakeRequest(ctx)
}

// heed does to the holder of an exclusive lease what a request wants (spec sanlock-daemon 2.6), once for each
// look. A shared lease has no holder that a request could mean: stock takes the pid 0, and kills itself.
func (s *Server) heed(h *holding, req ondisk.Request) {
	s.mu.Lock()
	var o *order
	if s.holdings[h.key] == h && h.list == held && h.mode == leases.Exclusive && len(h.tokens) == 1 {
		// The grant may be a conversion's now.
		if t := h.tokens[0]; req.LVer > t.lver {
			o = requested(t, req.ForceMode)
		}
	}
	s.mu.Unlock()
	switch {
	case o != nil:
		h.home.log.Error().Uint32("r", h.id).Msgf("request to release %s:%s lver %d force mode %d", h.key.space,
			h.key.name, req.LVer, req.ForceMode)
		s.carryOut(h.home, *o)
	case req.LVer != 0 && req.ForceMode > forceGraceful:
		h.home.log.Error().Uint32("r", h.id).Msgf("request with unknown force mode %d ignored", req.ForceMode)
	}
}

// requested decides what a request does to a client; nil is nothing. Server.mu is held.
func requested(t *token, mode uint32) *order {
	c := t.c
	if c.proc == nil || c.dead {
		return nil
	}
	o := &order{c: c, proc: c.proc, count: 1}
	switch mode {
	case forceKill:
		o.sig = syscall.SIGKILL
		if t.restrict&sanlockwire.RestrictSigkill != 0 {
			o.sig = syscall.SIGTERM
		}
	case forceGraceful:
		if t.kill.Path != "" {
			kill := t.kill
			o.run = &kill // the pid is never appended here
			return o
		}
		o.sig = syscall.SIGTERM
		if t.restrict&sanlockwire.RestrictSigterm != 0 {
			o.sig = syscall.SIGKILL
		}
	default:
		return nil
	}
	return o
}
