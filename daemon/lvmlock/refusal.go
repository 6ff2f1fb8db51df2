package lvmlock

import (
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// refusalKept is how long Info tells of a lock that was refused and not asked for again.
const refusalKept = 10 * time.Minute

// refusal is what the lock manager said when it did not grant a resource.
type refusal struct {
	at    time.Time
	mode  lvmwire.Mode
	said  *Error
	count int // refusals in a row
}

// seconds is how long the owner's lock cannot be taken yet, if it stays away; 0 if that is not known or over.
func (r refusal) seconds(now time.Time) uint64 {
	passed := uint64(now.Sub(r.at) / time.Second)
	if passed >= r.said.Wait {
		return 0
	}
	return r.said.Wait - passed
}

// note remembers who stands in the way of a resource, until it is granted.
func (s *space) note(l *lane, c Call, out Outcome) {
	said := errorOf(out.Err)
	switch {
	case c.Kind != CallLock && c.Kind != CallConvert:
		return
	case out.Err == nil:
		delete(s.refusals, l.key)
		return
	case said == nil:
		said = &Error{Result: ResultOf(out.Err), Err: out.Err}
	}
	before := s.refusals[l.key]
	if _, known := s.refusals[l.key]; !known && len(s.refusals) >= maxRefusals {
		s.dropRefusal()
	}
	s.refusals[l.key] = refusal{at: time.Now(), mode: c.To, said: said, count: before.count + 1}
	if before.count == 0 {
		owner(s.log.Info().Err(said), said).Str("resource", l.key.name).Msg("not granted")
	}
}

// dropRefusal makes room by forgetting the oldest.
func (s *space) dropRefusal() {
	var oldest laneKey
	var at time.Time
	for key, r := range s.refusals {
		if at.IsZero() || r.at.Before(at) {
			oldest, at = key, r.at
		}
	}
	delete(s.refusals, oldest)
}

// report logs how a request for a lock ended.
func (s *space) report(l *lane, p *pending, a Answer) {
	ev := s.log.Debug()
	switch {
	case a.Err != nil:
		ev = s.log.Warn().Err(a.Err)
	case a.Flags&lvmwire.LVLock != 0:
		ev = s.log.Info()
	}
	ev = ev.Str("resource", l.key.name).Str("request", p.req.Name).Int("mode", int(p.req.Mode)).
		Int32("result", int32(a.Result)).Int("pid", p.client.pid).Str("cmd", p.client.named())
	if said := errorOf(a.Err); said != nil {
		ev = owner(ev, said)
	}
	ev.Msg("lock request ended")
}

// owner adds who stands in the way.
func owner(ev *zerolog.Event, said *Error) *zerolog.Event {
	if said.Owner.HostID == 0 {
		return ev
	}
	o := said.Owner
	return ev.Uint64("host", o.HostID).Uint64("gen", o.Generation).Str("host_name", o.Name).
		Str("host_state", o.State).Uint64("free_in_s", said.Wait)
}
