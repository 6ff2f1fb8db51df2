package lockspace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenurelock/tenure/leases"
)

var errLeft = errors.New("the lockspace was left")

// checkEvery is how often expiry is judged at least: a timer alone would not notice that the machine slept.
const checkEvery = time.Second

// watching is the goroutine that judges our own lease. Those of all lockspaces wake at the full second, so
// that hundreds of them cost one wake-up of the process.
func (s *Space) watching(ctx context.Context) {
	for {
		left := s.judge()
		full := checkEvery - time.Duration(s.cfg.Clock.Now())%checkEvery
		if left <= 0 || !sleep(ctx, min(left, full)) {
			return
		}
	}
}

// judge loses the membership if it has expired, and returns how long it still lasts.
func (s *Space) judge() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.judgeLocked()
}

// judgeLocked is judge with mu held. The time that the machine was suspended counts: the clocks of the others
// went on (spec ondisk 9.24).
func (s *Space) judgeLocked() time.Duration {
	if s.closed {
		return 0
	}
	age, slept := s.ageLocked()
	left := s.times.RenewalFail() - age
	if left <= 0 {
		s.loseLocked(&leases.Error{Op: "renew", Space: s.cfg.Name, Kind: leases.Lost, Err: expired(age, slept)})
		return 0
	}
	return left
}

// ageLocked returns how old the last renewal is, and how much of that the machine was suspended. mu is held.
func (s *Space) ageLocked() (age, slept time.Duration) {
	slept = max(s.cfg.Clock.Asleep()-s.asleep, 0)
	return s.cfg.Clock.Now().Sub(s.renewed) + slept, slept
}

// Age returns how old the last renewal is, the time for which the machine was suspended since included.
func (s *Space) Age() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	age, _ := s.ageLocked()
	return age
}

func expired(age, slept time.Duration) error {
	if slept > 0 {
		return fmt.Errorf("the last renewal is %v old, of which the machine was suspended for %v",
			age.Truncate(time.Second), slept.Truncate(time.Second))
	}
	return fmt.Errorf("the last renewal is %v old", age.Truncate(time.Second))
}

// lose closes Lost for the first cause.
func (s *Space) lose(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loseLocked(cause)
}

func (s *Space) loseLocked(cause error) {
	if s.closed {
		return
	}
	s.closed, s.cause = true, cause
	close(s.lost)
	// What is renewed after its loss would tell others that we live on.
	s.stop()
}

// warning is the goroutine that says, each second, that the lease runs out, in the words that stock's users
// look for (spec sanlock-daemon 2.9). Its log may hang: nobody waits for it but Leave.
func (s *Space) warning(ctx context.Context) {
	for wait := time.Duration(0); sleep(ctx, wait); {
		now, since := s.cfg.Clock.Now(), s.Renewed()
		age := now.Sub(since)
		if wait = s.times.RenewalWarn() - age; wait <= 0 {
			wait = time.Second
			if age >= s.times.RenewalFail() {
				continue // that is said elsewhere
			}
			s.cfg.Log.Error().Str("space", s.cfg.Name).Msgf(
				"check_our_lease warning %d last_success %d", now.Seconds()-since.Seconds(), since.Seconds())
		}
	}
}
