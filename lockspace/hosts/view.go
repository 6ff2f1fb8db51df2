package hosts

import (
	"cmp"
	"slices"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
)

// View is one host as `get_hosts` and `host_status` tell of it. Times are seconds of our clock, Timestamp of
// the host's.
type View struct {
	Host      leases.HostID // slot
	Owner     leases.Owner
	Name      string
	Timestamp uint64
	IO        uint32
	State     leases.Verdict
	LastCheck monotime.Seconds
	LastLive  monotime.Seconds
	LastReq   monotime.Seconds
	Bad       bool // the last read of its sector did not verify; the rest is of the one before
}

// Views lists every host that has ever been seen, by host id, judged at now.
func (t *Table) Views(now monotime.Instant) []View {
	all := make([]View, 0, len(t.seen))
	for id, h := range t.seen {
		all = append(all, View{
			Host: id, Owner: h.owner, Name: h.name.String(), Timestamp: h.timestamp, IO: h.io,
			State:     t.state(now, id, h, 0),
			LastCheck: h.lastCheck.Seconds(), LastLive: h.lastLive.Seconds(), LastReq: h.lastReq.Seconds(), Bad: h.bad,
		})
	}
	slices.SortFunc(all, func(a, b View) int { return cmp.Compare(a.Host, b.Host) })
	return all
}
