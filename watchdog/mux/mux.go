// Package mux decides, for many clients, whether the watchdog may be petted now.
//
// The promise: the last pet is not later than the time that any client set as its end, so the host is reset no
// later than that end plus the device's fire time; other hosts count on it (spec sanlock-daemon 3.8). A device
// is petted once more by the kernel when it is closed, also by the death of the process that holds it open.
// So it is given up, by closing it, one interval before the first end: a pet that is still in time, and the last
// one whatever happens then. Where the ends have been missed already, closing would be a pet too late, and the
// device is only left alone.
//
// Time is told to it. Time spent in suspend counts, since the other hosts went on.
package mux

import (
	"slices"
	"time"

	"github.com/tenurelock/tenure/leases/monotime"
)

// Intervals between two decisions.
const (
	Standard = 10 * time.Second // with a fire time of a minute or more
	Recovery = time.Second      // after a failure, and for clients with a very short life
)

// guard is how late a decision may come, closing the device included, without a pet that is too late.
const guard = 500 * time.Millisecond

// Mux is the table of clients. It is used by one goroutine.
type Mux struct {
	clients  map[ID]*client
	standard time.Duration
	asleep   time.Duration // in suspend since boot, at the last decision
	next     time.Duration // from the last decision to the next, as it was promised then
}

// New returns a Mux without clients, for a fire time of a minute.
func New() *Mux { return &Mux{clients: map[ID]*client{}, standard: Standard, next: Standard} }

// SetFire tells the device's fire time, which the interval depends on (spec sanlock-daemon 0).
func (m *Mux) SetFire(fire time.Duration) {
	switch {
	case fire >= time.Minute:
		m.standard = Standard
	case fire >= 30*time.Second:
		m.standard = 5 * time.Second
	case fire >= 10*time.Second:
		m.standard = 2 * time.Second
	default:
		m.standard = time.Second
	}
}

// Interval returns the time from the last decision to the next. It may become shorter when a client speaks, and
// longer only by a decision: the last one counted on the next.
func (m *Mux) Interval() time.Duration { return min(m.next, m.horizon()) }

// horizon is the time from a pet to the next decision: an end that lies nearer forbids the pet. Clients that
// renew so often that a healthy one always ends within the standard interval are looked at each second.
func (m *Mux) horizon() time.Duration {
	for _, c := range m.clients {
		if c.Armed() && c.life()/8*5 <= m.standard+guard {
			return Recovery
		}
	}
	return m.standard
}

// Connect adds a client.
func (m *Mux) Connect(pid, fd int) ID {
	id := First
	for m.clients[id] != nil {
		id++
	}
	m.clients[id] = &client{Client: Client{ID: id, PID: pid, FD: fd}}
	return id
}

// Name names a client.
func (m *Mux) Name(id ID, name string) { m.clients[id].Name = name }

// Ref sets whether a client keeps the daemon from ending.
func (m *Mux) Ref(id ID, on bool) { m.clients[id].Ref = on }

// Open notes that a client counts on the device from now until it disconnects.
func (m *Mux) Open(id ID) { m.clients[id].opened = true }

// Live stores a client's end. With 0 nothing is expected of it any more.
func (m *Mux) Live(id ID, renewed, expires monotime.Seconds) {
	c := m.clients[id]
	c.Renewed, c.Expires = renewed, expires
	// Suspend since the last decision counts against the client, though it may have spoken after it: better
	// one pet too few.
	c.due = instant(expires).Add(m.asleep)
}

// Gone removes a client that has disconnected, and reports whether it is kept: one of which something is
// expected stays, nobody can speak for it any more, and its end will come.
func (m *Mux) Gone(id ID) (kept bool) {
	c := m.clients[id]
	if !c.Armed() {
		delete(m.clients, id)
		return false
	}
	c.Dead, c.opened = true, false
	return true
}

// Used reports whether any client counts on the device.
func (m *Mux) Used() bool {
	for _, c := range m.clients {
		if c.opened || c.Ref || c.Armed() {
			return true
		}
	}
	return false
}

// Ending returns the clients that forbid to stop the device and end: those that asked for it, and those that
// something is expected of.
func (m *Mux) Ending() []Client {
	return slices.DeleteFunc(m.Clients(), func(c Client) bool { return !c.Ref && !c.Armed() })
}

// Clients returns all clients by number.
func (m *Mux) Clients() []Client {
	all := make([]Client, 0, len(m.clients))
	for _, c := range m.clients {
		all = append(all, c.Client)
	}
	slices.SortFunc(all, func(a, b Client) int { return int(a.ID - b.ID) })
	return all
}

// Client returns one client.
func (m *Mux) Client(id ID) Client { return m.clients[id].Client }

// Len returns how many clients there are, the dead that are kept included.
func (m *Mux) Len() int { return len(m.clients) }
