package lockspace

import (
	"context"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/monotime"
)

// A renewal begins half a second after it is due, and so does the next try after one that failed. The pause
// lets the first one come soon after a join without following on its heels.
const renewPause = 500 * time.Millisecond

// renewing is the goroutine that renews. It may hang in a transfer; nobody waits for it but Leave, which
// cancels the transfer's wait first.
func (s *Space) renewing(ctx context.Context) {
	next := s.cfg.Clock.Now().Add(renewPause)
	for {
		if !sleep(ctx, next.Sub(s.cfg.Clock.Now())) {
			return
		}
		if s.Cause() != nil {
			// Renewing what is lost would tell others that we live on.
			return
		}
		next = s.renewOnce(ctx)
	}
}

// renewOnce tries one renewal and returns when the next one is due.
func (s *Space) renewOnce(ctx context.Context) monotime.Instant {
	tried := s.cfg.Clock.Now()
	asleep := s.cfg.Clock.Asleep()
	r, err := s.lease.Renew(ctx, s.extra(tried), s.observe)
	if ctx.Err() != nil {
		return tried
	}
	s.note(tried, r, err)
	if err != nil {
		s.renewalFailed(err)
		return s.cfg.Clock.Now().Add(renewPause)
	}
	s.mu.Lock()
	s.renewed, s.asleep, s.ready = r.At, asleep, true
	s.mu.Unlock()
	if err := s.tellLink(r.At); err != nil {
		s.lose(err)
	}
	return r.At.Add(s.times.Renewal() + renewPause)
}

func (s *Space) renewalFailed(err error) {
	kind := leases.KindOf(err)
	s.cfg.Log.Error().Str("space", s.cfg.Name).Err(err).
		Uint64("last_success", uint64(s.Renewed().Seconds())).Msg("renewal error")
	switch kind {
	case leases.BadMagic, leases.BadVersion, leases.BadSectorSize, leases.WrongSpace, leases.BadChecksum,
		leases.RenewOwner, leases.RenewDiffer:
		s.lose(&leases.Error{Op: "renew", Space: s.cfg.Name, Kind: kind, Err: err})
	default:
	}
}

// tellLink pets the watchdog until the lease's end. A link that does not take it fails the membership.
func (s *Space) tellLink(renewed monotime.Instant) error {
	if s.cfg.Link == nil {
		return nil
	}
	if err := s.cfg.Link.Live(renewed.Seconds(), renewed.Add(s.times.RenewalFail()).Seconds()); err != nil {
		return &leases.Error{Op: "tell the watchdog", Space: s.cfg.Name, Kind: leases.WatchdogError, Err: err}
	}
	return nil
}

// observe is shown each sector of a renewal's read.
func (s *Space) observe(id leases.HostID, sector []byte) {
	s.mu.Lock()
	n, err := s.table.Observe(s.cfg.Clock.Now(), id, sector)
	s.mu.Unlock()
	if err == nil && n.NewOwner && id != s.cfg.Host && n.From.Generation != 0 {
		s.cfg.Log.Warn().Str("space", s.cfg.Name).Uint64("host", uint64(n.From.Host)).
			Uint64("gen", uint64(n.From.Generation)).Str("name", n.Name).Msg("host seen")
	}
}

// extra collects the bits that are still to be shown; those that were set too long ago are forgotten.
func (s *Space) extra(now monotime.Instant) delta.Extra {
	hold := s.times.BitmapHold()
	if s.cfg.BitmapHold != 0 {
		hold = time.Duration(s.cfg.BitmapHold) * time.Second
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := delta.Extra{Event: s.event}
	for id, set := range s.bits {
		if now.Sub(set) > hold {
			delete(s.bits, id)
		} else if id != s.cfg.Host {
			e.Bitmap = append(e.Bitmap, id)
		}
	}
	return e
}

// Notify sets a host's bit in our renewals for a while, so that it looks at the requests for its leases.
func (s *Space) Notify(id leases.HostID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bits[id] = s.cfg.Clock.Now()
}

// sleep waits for d and reports false if ctx ended first.
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
