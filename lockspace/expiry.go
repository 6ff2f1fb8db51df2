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

// watching is the goroutine that judges our own lease. It does no I/O.
func (s *Space) watching(ctx context.Context) {
	for {
		left := s.judge()
		if left <= 0 {
			return
		}
		s.warn(left)
		if !sleep(ctx, min(left, checkEvery)) {
			return
		}
	}
}

// judge loses the membership if it has expired, and returns how long it still lasts. The time that the
// machine was suspended counts: the others' clocks went on (spec ondisk 9.24).
func (s *Space) judge() time.Duration {
	s.mu.Lock()
	since, slept := s.renewed, s.cfg.Clock.Asleep()-s.asleep
	closed := s.closed
	s.mu.Unlock()
	age := s.cfg.Clock.Now().Sub(since) + max(slept, 0)
	left := s.times.RenewalFail() - age
	switch {
	case closed:
		return 0
	case left <= 0:
		s.lose(&leases.Error{Op: "renew", Space: s.cfg.Name, Kind: leases.Lost, Err: expired(age, slept)})
		return 0
	}
	return left
}

// warn says each second that the lease runs out.
func (s *Space) warn(left time.Duration) {
	if age := s.times.RenewalFail() - left; age >= s.times.RenewalWarn() {
		s.cfg.Log.Error().Str("space", s.cfg.Name).Msg(fmt.Sprintf(
			"check_our_lease warning %d last_success %d", int(age/time.Second), s.Renewed().Seconds()))
	}
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
	if s.closed {
		return
	}
	s.closed, s.cause = true, cause
	close(s.lost)
}
