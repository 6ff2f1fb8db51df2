package lockspace

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
)

// A renewal begins half a second after it is due, and so does the next try after one that failed. The pause
// lets the first one come soon after a join without following on its heels. A share of spread is added that
// differs between lockspaces, so that those which were joined together do not renew together for ever.
const (
	renewPause = 500 * time.Millisecond
	spread     = 500 * time.Millisecond
	// burst is what the beginnings of renewals are rounded down to: those of many lockspaces come in bursts, with
	// one wake-up of the process each, and still some at a time.
	burst = 250 * time.Millisecond
)

// pauseOf is renewPause and the lockspace's share of spread.
func pauseOf(space string, host leases.HostID) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(space)) // never fails
	return renewPause + time.Duration((uint64(h.Sum32())+uint64(host)*2654435761)%1000)*spread/1000
}

// renewing is the goroutine that renews. It may hang in a transfer; losing the membership ends that wait.
func (s *Space) renewing(ctx context.Context) {
	next := s.cfg.Clock.Now().Add(s.pause)
	for sleep(ctx, onGrid(next).Sub(s.cfg.Clock.Now())) && s.Cause() == nil {
		next = s.renewOnce(ctx)
	}
}

func onGrid(at monotime.Instant) monotime.Instant {
	return monotime.Instant(time.Duration(at).Truncate(burst))
}

// renewOnce tries one renewal, looks at the other hosts, and returns when the next renewal is due.
func (s *Space) renewOnce(ctx context.Context) monotime.Instant {
	tried, asleep := s.cfg.Clock.Now(), s.cfg.Clock.Asleep()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return tried
	}
	r, err := s.lease.Renew(ctx, s.extra(tried), s.observe)
	<-s.turn
	if ctx.Err() != nil {
		return tried
	}
	s.note(tried, r, err)
	if err != nil {
		s.renewalFailed(err, s.cfg.Clock.Now().Sub(tried))
		return s.cfg.Clock.Now().Add(s.pause)
	}
	if !s.extend(r.At, asleep) {
		return tried
	}
	if err := s.tellLink(r.At); err != nil {
		s.lose(err)
		return tried
	}
	all, err := s.lease.Watch(ctx, s.observe)
	if err != nil && ctx.Err() == nil {
		s.cfg.Log.Warn().Str("space", s.cfg.Name).Err(err).Msg("not all hosts were looked at")
	}
	s.mu.Lock()
	if s.ready = true; all {
		s.table.Whole()
	}
	s.mu.Unlock()
	return r.At.Add(s.times.Renewal() + s.pause)
}

// extend counts the lease from a renewal's time, asleep being the clock's reading before it, unless the
// lease had run out by then: a renewal that comes too late does not bring it back.
func (s *Space) extend(at monotime.Instant, asleep time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.judgeLocked() <= 0 {
		return false
	}
	s.renewed, s.asleep = whole(at), asleep
	return true
}

// whole truncates to the timestamp that others see: two renewals in the same second are one to them, so the
// lease must not count from the later.
func whole(at monotime.Instant) monotime.Instant {
	return monotime.Instant(time.Duration(at).Truncate(time.Second))
}

// renewalFailed logs a failure in the words that stock's users look for (spec sanlock-daemon 2.9), and loses
// the membership if the sector is not ours any more.
func (s *Space) renewalFailed(err error, took time.Duration) {
	s.cfg.Log.Error().Str("space", s.cfg.Name).Err(err).Msgf("renewal error %d delta_length %d last_success %d",
		s.number(err), took/time.Second, s.Renewed().Seconds())
	switch kind := leases.KindOf(err); kind {
	case leases.BadMagic, leases.BadVersion, leases.BadSectorSize, leases.WrongSpace, leases.BadChecksum,
		leases.RenewOwner, leases.RenewDiffer:
		s.mu.Lock()
		s.status.CorruptResult = err
		s.mu.Unlock()
		s.lose(&leases.Error{Op: "renew", Space: s.cfg.Name, Kind: kind, Err: err})
	default:
	}
}

// number is what the log calls an error by.
func (s *Space) number(err error) int32 {
	if s.cfg.Number == nil {
		return -1
	}
	return s.cfg.Number(err)
}

// tellLink pets the watchdog until the lease's end. A link that does not take it fails the membership.
func (s *Space) tellLink(renewed monotime.Instant) error {
	if s.cfg.Link == nil {
		return nil
	}
	at := whole(renewed)
	if err := s.cfg.Link.Live(at.Seconds(), at.Add(s.times.RenewalFail()).Seconds()); err != nil {
		return &leases.Error{Op: "tell the watchdog of", Space: s.cfg.Name, Kind: leases.WatchdogError, Err: err}
	}
	return nil
}

// sleep waits for d and reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
