package sanlockd

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/lockspace"
	"github.com/tenurelock/tenure/lockspace/hosts"
)

// drainEvery bounds one wait for writes in flight before it is logged that they are waited for.
const drainEvery = 10 * time.Second

// run is the life of a lockspace: join, serve, stop the users when it is over, leave.
func (s *Server) run(sp *space) {
	err := s.join(sp)
	s.mu.Lock()
	if err != nil {
		sp.addErr = err
		close(sp.added)
		s.closeSpace(sp)
		s.drop(sp)
		s.mu.Unlock()
		sp.log.Error().Err(err).Msgf("add_lockspace fail result %d", resultOf(err))
		return
	}
	// A removal that came during the join wins: nobody has used the lockspace yet.
	if sp.dead {
		sp.addErr = fail("add lockspace", sp.wire.Name, leases.Aborted, errSpaceRemoving)
	} else {
		sp.list = held
	}
	s.tell()
	close(sp.added)
	s.mu.Unlock()
	sp.log.Debug().Msg("add_lockspace done")
	s.watch(sp)
	s.stopUsers(sp)
	s.leave(sp)
}

var errNoWatchdog = errors.New("no watchdog would reset this host when its leases expire: this daemon has no " +
	"connection to wdmd, so it joins nothing while -w 1 (use_watchdog = 1) is in effect; " +
	"with -w 0 (use_watchdog = 0) it runs unprotected")

// join opens the device and joins. Whatever it has opened is in sp.
func (s *Server) join(sp *space) error {
	s.mu.Lock()
	sp.attempt = s.cfg.Clock.Now().Seconds()
	s.mu.Unlock()
	name, host := sp.wire.Name.String(), leases.HostID(sp.wire.HostID)
	dev, err := s.openWithin(sp.ctx, sp.wire.Disk.Path, sp.set.OneIO())
	if err != nil {
		return fail("add lockspace", sp.wire.Name, openKind(err), err)
	}
	var link lockspace.Link
	switch {
	case s.cfg.UseWatchdog != 0 && s.cfg.Watchdog == nil:
		err = errNoWatchdog
	case s.cfg.UseWatchdog != 0:
		link, err = s.cfg.Watchdog(name, host)
	}
	if err != nil {
		dev.Close()
		return fail("add lockspace", sp.wire.Name, leases.WatchdogError, err)
	}
	sp.log.Debug().Msgf("delta_acquire begin %s:%d", name, host)
	ls, err := lockspace.Join(sp.ctx, lockspace.Config{
		Name: name, Host: host, HostName: s.cfg.OurHostName, Device: dev, Offset: int64(sp.wire.Disk.Offset),
		IO: sp.set.IO, Fire: sp.set.Fire, BitmapHold: uint32(s.cfg.BitmapSeconds),
		ReadExtend: s.cfg.RenewalReadExtend, History: s.cfg.RenewalHistory, Clock: *s.cfg.Clock, Link: link,
		Log: sp.log, AllowUnknownFlags: s.cfg.AllowUnknownFlags,
		Number: resultOf,
		Notice: func(n hosts.Notice) { s.notice(sp, n) },
	})
	if err != nil {
		dev.Close()
		if link != nil {
			err = errors.Join(err, link.Close())
		}
		return err
	}
	kb := setMaxSectors(queuesDir, sp.wire.Disk.Path, s.cfg.MaxSectors, ls.Geometry().Align)
	self := ls.Self()
	sp.log.Debug().Msgf("delta_acquire done %d %d %d", self.Host, self.Generation, ls.Renewed().Seconds())
	s.mu.Lock()
	defer s.mu.Unlock()
	sp.ls, sp.dev, sp.maxSectorsKB = ls, dev, kb
	sp.success = ls.Status().AcquireSuccess
	return nil
}

// open opens a device; it takes at most an io_timeout.
func (s *Server) open(path string) (device.Device, error) {
	return s.openWithin(s.root, path, s.cfg.own().OneIO())
}

func (s *Server) openWithin(ctx context.Context, path string, limit time.Duration) (device.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.patience.Open(ctx, path)
}

// openKind tells a device that is not there from one that does not answer.
func openKind(err error) leases.Kind {
	switch {
	case errors.Is(err, context.Canceled):
		return leases.Aborted
	case errors.Is(err, os.ErrDeadlineExceeded):
		return leases.Timeout
	case errors.Is(err, device.ErrStuck):
		return leases.Stuck
	}
	return leases.NoDevice
}

// watch returns when the lockspace is lost or to be removed.
func (s *Server) watch(sp *space) {
	select {
	case <-sp.ls.Lost():
		s.lost(sp)
	case <-sp.ctx.Done():
	}
}

// lost marks a lockspace whose membership is lost. There is no way back.
func (s *Server) lost(sp *space) {
	age := s.cfg.Clock.Now().Sub(sp.ls.Renewed())
	s.mu.Lock()
	if cause := sp.ls.Cause(); leases.KindOf(cause) != leases.Lost {
		sp.corrupt = resultOf(cause)
	}
	s.end(sp, true)
	s.mu.Unlock()
	sp.log.Error().Msgf("check_our_lease failed %d", age/time.Second)
	sp.log.Error().Err(sp.ls.Cause()).Msg("its users are stopped now")
}

// leave ends the membership of a lockspace that nobody uses any more. The host id is freed only when nothing
// of ours can reach the leases' disks any more: a write that arrived after others have taken a lease would
// make two owners.
func (s *Server) leave(sp *space) {
	s.mu.Lock()
	sp.list = removing
	s.mu.Unlock()
	s.giveBackAll(sp)
	s.mu.Lock()
	s.purge(sp)
	wreckage := sp.wreckage
	s.tell()
	s.mu.Unlock()
	began := time.Now()
	for !s.landed(context.Background(), wreckage, nil, drainEvery) {
		sp.log.Error().Msg("writes to leases are still in flight; the host id is kept until they have ended")
	}
	if err := sp.ls.Leave(context.Background()); err != nil {
		sp.log.Error().Err(err).Msg("leave")
	}
	s.mu.Lock()
	async := sp.async
	s.mu.Unlock()
	if async {
		sleep(s.root, removingLasts-time.Since(began))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeSpace(sp)
	s.drop(sp)
	sp.log.Debug().Msg("free lockspace")
}

// giveBackAll frees on disk what the users of a removed lockspace held when they were stopped, orphans
// included. Stock leaves that owned by a host id that is free.
func (s *Server) giveBackAll(sp *space) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.busy.Go(func() {
		defer cancel()
		select {
		case <-sp.ls.Lost():
		case <-ctx.Done():
		}
	})
	for {
		h := s.nextLeft(sp)
		if h == nil {
			return
		}
		if err := h.lease.Release(ctx, h.grant, ""); err != nil {
			sp.log.Error().Uint32("r", h.id).Err(err).Msg("release with its lockspace; it is free when the host id is")
		}
		s.mu.Lock()
		h.busy = false
		s.forget(h)
		s.mu.Unlock()
	}
}

// nextLeft takes a lease of a lockspace that is being left, or nil if there is none or nothing may be written.
func (s *Server) nextLeft(sp *space) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp.failed || sp.ls.Cause() != nil {
		return nil
	}
	for _, h := range s.holdings {
		if h.home == sp && h.grant != nil && !h.busy {
			h.busy = true
			return h
		}
	}
	return nil
}

// purge forgets every lease of a lockspace that is left: it stays on disk as it is, and counts for nothing
// there once the host id is free or dead. s.mu is held.
func (s *Server) purge(sp *space) {
	for _, h := range s.holdings {
		if h.home == sp {
			s.forget(h)
		}
	}
}

// closeSpace gives devices back. s.mu is held.
func (s *Server) closeSpace(sp *space) {
	if sp.dev != nil {
		sp.dev.Close()
	}
	for _, l := range sp.listeners {
		l.close()
	}
	closeDisks(sp.wreckage)
	sp.dev, sp.wreckage = nil, nil
}

// landed waits until no write to the disks is in flight, at most limit, and reports whether none is. If none
// was in the first place it rests for the limit first when rest is not nil, and reports false only when ctx
// has ended.
func (s *Server) landed(ctx context.Context, disks []resource.Disk, rest *space, limit time.Duration) bool {
	began := time.Now()
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, d := range disks {
		if err := settle(wait, d); err != nil {
			return rest != nil && ctx.Err() == nil
		}
	}
	if rest == nil {
		return true
	}
	if time.Since(began) > hadToWait {
		return true
	}
	return sleep(ctx, limit)
}

// hadToWait tells a wait for a write in flight from a look that found none.
const hadToWait = 10 * time.Millisecond

// settle waits for the writes to one place of a lease. With a context that has ended it only looks whether
// there are any.
func settle(ctx context.Context, d resource.Disk) error {
	return d.Device.Settle(ctx, d.Offset, 8*ondisk.MiB)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var _ Opener = (*device.Opener)(nil)
