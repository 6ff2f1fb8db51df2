package mux

import (
	"slices"
	"time"

	"github.com/tenurelock/tenure/leases/monotime"
)

// Action is what to do with the device.
type Action uint8

// The actions.
const (
	// Hold: do not pet, and do not close either: the kernel's pet at a close would come too late.
	Hold Action = iota
	// Abandon: close the device so that it goes on counting. Nothing to do if that was done.
	Abandon
	// Pet it; one that was abandoned is opened again.
	Pet
)

func (a Action) String() string { return [...]string{"hold", "abandon", "pet"}[a] }

// Finding is a client that forbids the pet.
type Finding struct {
	Client  Client
	Expired bool          // its end has passed, else it is near
	Left    time.Duration // until its end
}

// Decision is what to do now, and why.
type Decision struct {
	Action   Action
	Findings []Finding // by number of the client
}

// Decide judges all clients. now is the kernel's monotonic clock, asleep the time in suspend since boot.
// failing says that something other than a client forbids the pet.
func (m *Mux) Decide(now monotime.Instant, asleep time.Duration, failing bool) Decision {
	m.asleep = max(m.asleep, asleep)
	at, horizon := now.Add(m.asleep), m.horizon()
	var d Decision
	inTime := true // a pet is, if it takes no longer than guard
	for _, c := range m.clients {
		if !c.Armed() {
			continue
		}
		left := c.due.Sub(at)
		if left <= horizon+guard {
			d.Findings = append(d.Findings, Finding{Client: c.Client, Expired: left <= 0, Left: left})
		}
		inTime = inTime && left >= guard
	}
	slices.SortFunc(d.Findings, func(a, b Finding) int { return int(a.Client.ID - b.Client.ID) })
	m.next = Recovery
	switch {
	case !failing && len(d.Findings) == 0:
		d.Action, m.next = Pet, horizon
	case inTime:
		d.Action = Abandon
	}
	return d
}
