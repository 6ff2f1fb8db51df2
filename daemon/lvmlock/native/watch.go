package native

import (
	"context"
	"time"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// Lost is closed when the lockspace fails, or is gone, or the daemon is.
func (s *space) Lost() <-chan struct{} { return s.lost }

// watch starts what notices that. The daemon hangs up on who waits for events when the lockspace ends, or
// itself; that it cannot renew, and so has begun to end it, must be asked for.
func (s *space) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.watchers.Go(func() { s.awaitEnd(ctx) })
	s.watchers.Go(func() { s.watchRenewals(ctx) })
}

// lose says that the membership is lost, unless we are ending it ourselves.
func (s *space) lose(why string, err error) {
	s.mu.Lock()
	first := !s.gone && !s.leaving
	s.gone = s.gone || first
	s.mu.Unlock()
	if first {
		s.m.cfg.Log.Error().Err(err).Stringer("space", s.name).Msg("lost: " + why)
		close(s.lost)
	}
}

// ended reports whether there is nothing left to watch.
func (s *space) ended(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone || ctx.Err() != nil
}

// awaitEnd waits until the daemon ends the lockspace. If it takes no more who wait, watchRenewals is left.
func (s *space) awaitEnd(ctx context.Context) {
	for !s.ended(ctx) {
		_ = s.m.ask(ctx, func(c *client.Conn) error {
			if err := c.RegEvent(ctx, sanlockwire.Lockspace{Name: s.name}); err != nil {
				return err
			}
			for {
				if _, err := c.NextEvent(ctx); err != nil {
					return err
				}
			}
		})
		if s.ended(ctx) {
			return
		}
		s.check(ctx) // it may have hung up for other reasons
		if pause(ctx, registerPause) != nil {
			return
		}
	}
}

// watchRenewals looks whether the daemon goes on renewing: our own timestamp moves then.
func (s *space) watchRenewals(ctx context.Context) {
	s.mu.Lock()
	interval, silent := max(shortestWait, s.ioTimeout/2), failIO*s.ioTimeout/2
	s.mu.Unlock()
	var last uint64
	moved := time.Now()
	for !s.ended(ctx) {
		if pause(ctx, interval) != nil {
			return
		}
		hosts, err := s.hosts(ctx, s.vg.HostID)
		if err == nil && len(hosts) == 1 && hosts[0].Timestamp != last {
			last, moved = hosts[0].Timestamp, time.Now()
			continue
		}
		if err != nil && kindOf(err) != leases.Again || time.Since(moved) > silent {
			s.check(ctx)
		}
	}
}

// check asks whether the lockspace is joined and alive: only then the daemon takes a setting that it has
// already.
func (s *space) check(ctx context.Context) {
	err := s.m.ask(ctx, func(c *client.Conn) error {
		return c.SetConfig(ctx, s.space(), sanlockwire.ConfigUsedByOrphans)
	})
	if err == nil || ctx.Err() != nil {
		return
	}
	_, answered := said(err)
	switch k := kindOf(err); {
	case !answered:
		s.lose("the daemon is gone", err)
	case k == leases.NoSpace:
		s.lose("it cannot be renewed", err)
	case k == leases.NotFound:
		s.lose("the daemon has left it", err)
	}
}
