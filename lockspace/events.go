package lockspace

import (
	"errors"
	"fmt"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/lockspace/hosts"
)

// EventFlags say how SetEvent is meant; the values are those of sanlock's set_event call.
type EventFlags uint32

// The flags of SetEvent.
const (
	EventCurrentGeneration EventFlags = 0x1  // take generation 0 for that which the host has now
	EventClearHost         EventFlags = 0x2  // only lower the host's bit
	EventClear             EventFlags = 0x4  // only forget the event
	EventReplace           EventFlags = 0x8  // replace an event that is still shown
	EventAllHosts          EventFlags = 0x10 // raise everybody's bit
)

var errEventShown = errors.New("another event is still being shown; wait, or replace it")

// bulletin is what our renewals carry for others. The zero bulletin carries nothing.
type bulletin struct {
	event hosts.Event
	to    leases.HostID    // whom event was set for
	set   monotime.Instant // when event was set
	ever  bool             // set is set
	bits  map[leases.HostID]monotime.Instant
}

// SetEvent shows e to a host with our next renewals (spec sanlock-daemon 2.12). leases.Invalid: there is no
// such host id. leases.Busy: another event is being shown.
func (s *Space) SetEvent(to leases.HostID, e hosts.Event, flags EventFlags) error {
	fail := func(kind leases.Kind, err error) error {
		return &leases.Error{Op: "set an event in", Space: s.cfg.Name, Kind: kind, Err: err}
	}
	if to < 1 || uint64(to) > s.geometry.MaxHosts() {
		return fail(leases.Invalid, errNoSuchHost)
	}
	if shown := s.raise(to, e, flags); shown != "" {
		s.cfg.Log.Warn().Str("space", s.cfg.Name).Msg(shown)
		return fail(leases.Busy, errEventShown)
	}
	return nil
}

// raise changes the bulletin, or returns which event stands in the way, in the words that stock logs then:
// they say that it is replaced, but it is not.
func (s *Space) raise(to leases.HostID, e hosts.Event, flags EventFlags) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, now := &s.bulletin, s.cfg.Clock.Now()
	switch {
	case flags&EventClear != 0:
		b.event = hosts.Event{}
		return ""
	case flags&EventClearHost != 0:
		delete(b.bits, to)
		return ""
	}
	if e.Generation == 0 && flags&EventCurrentGeneration != 0 {
		e.Generation = uint64(s.table.Generation(to))
	}
	shown := b.ever && now.Sub(b.set) < s.hold && b.event.Number != 0
	if shown && e.Number != 0 && e.Number != b.event.Number && flags&EventReplace == 0 {
		return fmt.Sprintf("event %d %d %d %d replaced by %d %d %d %d t %d", b.to, b.event.Generation,
			b.event.Number, b.event.Data, to, e.Generation, e.Number, e.Data, b.set.Seconds())
	}
	b.event, b.to, b.set, b.ever = e, to, now, true
	b.bits[to] = now
	if flags&EventAllHosts != 0 {
		for id := leases.HostID(1); uint64(id) <= s.geometry.MaxHosts(); id++ {
			b.bits[id] = now
		}
	}
	return ""
}

// Notify raises a host's bit in our renewals for a while, so that it looks at the requests for its leases.
func (s *Space) Notify(id leases.HostID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bulletin.bits[id] = s.cfg.Clock.Now()
}

// extra collects what a renewal is to carry; bits that were raised too long ago are forgotten.
func (s *Space) extra(now monotime.Instant) delta.Extra {
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := s.bulletin.event
	e := delta.Extra{Event: [3]uint64{shown.Generation, shown.Number, shown.Data}}
	for id, set := range s.bulletin.bits {
		switch {
		case now.Sub(set) > s.hold:
			delete(s.bulletin.bits, id)
		case id != s.cfg.Host:
			e.Bitmap = append(e.Bitmap, id)
		}
	}
	return e
}

// observe is shown each sector that the renewing goroutine has read.
func (s *Space) observe(id leases.HostID, sector []byte) {
	s.mu.Lock()
	n, err := s.table.Observe(s.cfg.Clock.Now(), id, sector)
	s.mu.Unlock()
	if err != nil {
		return // the table has seen it; whoever asks about the host is told
	}
	if n.NewOwner && n.From.Generation != 0 {
		s.cfg.Log.Warn().Str("space", s.cfg.Name).Msgf("host %d %d %d %s", n.From.Host, n.From.Generation,
			n.Timestamp, n.Name)
	}
	if s.cfg.Notice != nil && (n.Deliver || n.Examine) {
		s.cfg.Notice(n)
	}
}

// holdOf is how long a bit stays raised.
func (s *Space) holdOf() time.Duration {
	if s.cfg.BitmapHold != 0 {
		return time.Duration(s.cfg.BitmapHold) * time.Second
	}
	return s.times.BitmapHold()
}
