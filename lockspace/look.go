package lockspace

import (
	"context"
	"time"

	"github.com/tenurelock/tenure/leases"
)

const (
	// lookWait is how long whoever asks for the hosts waits for the disk. Then what is known must do.
	lookWait = time.Second
	// lookPause is how old a look may be that serves the next one who asks.
	lookPause = time.Second
)

// Look reads the sectors of all hosts now, so that Hosts tells of those that came since. Renewals look at the host
// ids that are known to be in use, and at all of them now and then only; but who asks for the hosts may be about to
// remove what one of them has begun to use. It takes at most a second, and does nothing while the disk does not
// answer to renewals. An error only means that less was seen. ctx ends the wait for another look, but not one that
// was begun: that it is cut short would look like a disk that does not answer.
func (s *Space) Look(ctx context.Context) error {
	looking, cancel := context.WithTimeout(s.run, lookWait)
	defer cancel()
	select {
	case s.look <- struct{}{}:
		defer func() { <-s.look }()
	case <-ctx.Done():
		return ctx.Err()
	case <-looking.Done():
		return looking.Err()
	}
	if !s.lookDue() {
		return nil
	}
	err := s.lease.Look(looking, s.see)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked, s.lookErr = s.cfg.Clock.Now(), err
	return err
}

// lookFirst looks at all hosts while the join waits, so that the first renewal after it finds those that live changed.
// Without it they would be neither alive nor dead for another renewal.
func (s *Space) lookFirst(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.times.ShortDelay())
	defer cancel()
	if s.lease.Look(ctx, s.see) == nil {
		s.mu.Lock()
		s.table.Whole()
		s.mu.Unlock()
	}
}

// see is shown a sector for the table alone: what hosts say to us is left for the renewing goroutine to hear.
func (s *Space) see(id leases.HostID, sector []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.table.See(s.cfg.Clock.Now(), id, sector) // the table has seen it; whoever asks about the host is told
}

// lookDue reports whether a look is worth its transfers. One that failed is tried again after a renewal that did not.
func (s *Space) lookDue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cause != nil || !s.ready || s.status.RenewalResult != nil:
		return false
	case s.lookErr != nil:
		return s.renewed > s.looked
	}
	return s.looked == 0 || s.cfg.Clock.Now().Sub(s.looked) >= lookPause
}
