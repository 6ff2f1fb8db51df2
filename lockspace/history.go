package lockspace

import (
	"errors"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/monotime"
)

// Status is what `status` tells of a lockspace (spec sanlock-daemon 1.9, type 3). Times are seconds of our
// clock; a result is nil after a success.
type Status struct {
	AcquireAttempt, AcquireSuccess monotime.Seconds
	RenewalAttempt, RenewalSuccess monotime.Seconds
	RenewalResult                  error
	RenewalReadExtend              time.Duration
	CorruptResult                  error // of the renewal that found the sector not to be ours any more
	RenewFail                      bool  // the membership was lost, other than by Leave
}

func (s *Status) acquired(at monotime.Instant, extend time.Duration) {
	s.AcquireSuccess = at.Seconds()
	s.RenewalAttempt, s.RenewalSuccess = at.Seconds(), at.Seconds()
	s.RenewalReadExtend = extend
}

// Status returns a snapshot.
func (s *Space) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	status.RenewFail = s.cause != nil && !errors.Is(s.cause, errLeft)
	return status
}

// RenewalEntry is one renewal that succeeded, and how many before it did not.
type RenewalEntry struct {
	Timestamp    monotime.Seconds
	ReadTook     time.Duration
	WriteTook    time.Duration
	NextTimeouts int // renewals after it that timed out
	NextErrors   int // renewals after it that failed otherwise
}

// ring remembers the last renewals. The zero ring remembers none.
type ring struct {
	size    int
	entries []RenewalEntry
}

func (r *ring) add(e RenewalEntry) {
	if r.size <= 0 {
		return
	}
	if len(r.entries) == r.size {
		copy(r.entries, r.entries[1:])
		r.entries = r.entries[:r.size-1]
	}
	r.entries = append(r.entries, e)
}

// History returns the renewals remembered, oldest first.
func (s *Space) History() []RenewalEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]RenewalEntry(nil), s.history.entries...)
}

// note records how a renewal went.
func (s *Space) note(tried monotime.Instant, r delta.Renewal, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.RenewalAttempt, s.status.RenewalResult = tried.Seconds(), err
	if err == nil {
		s.status.RenewalSuccess = r.At.Seconds()
		s.history.add(RenewalEntry{Timestamp: r.At.Seconds(), ReadTook: r.ReadTook, WriteTook: r.WriteTook})
		return
	}
	if n := len(s.history.entries); n > 0 {
		if leases.KindOf(err) == leases.Timeout {
			s.history.entries[n-1].NextTimeouts++
		} else {
			s.history.entries[n-1].NextErrors++
		}
	}
}
