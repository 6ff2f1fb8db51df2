package leases

import "context"

// Verdict is what we may conclude about one incarnation of a host. The order is that of the numbers of
// sanlock's host states (spec sanlock-daemon 1.5), which are the wire values.
type Verdict uint8

// The verdicts. Only Dead and Free allow another host to take what the incarnation held.
const (
	Unknown Verdict = iota + 1 // seen once, not yet seen to change, not yet silent for long enough
	Free                       // it left: its delta lease is free, or a newer generation has taken the host id
	Alive                      // seen to change within its renewal fail time
	Failing                    // silent for longer than its fail time, or, to who wants its leases, than a renewal takes
	Dead                       // silent for longer than its fail time plus the watchdog's fire time
)

// String prints the state as `sanlock client gets -h 1` does.
func (v Verdict) String() string {
	switch v {
	case Unknown:
		return "UNKNOWN"
	case Free:
		return "FREE"
	case Alive:
		return "LIVE"
	case Failing:
		return "FAIL"
	case Dead:
		return "DEAD"
	}
	return "ERROR"
}

// Gone reports whether everything that the incarnation held may be taken from it.
func (v Verdict) Gone() bool { return v == Dead || v == Free }

// Liveness tells whether an incarnation of a host is alive. An implementation must base Free and Dead on a
// read of the host's delta lease that is made within the call, never on a cache alone (spec ondisk 9.4).
type Liveness interface {
	Probe(ctx context.Context, o Owner) (Verdict, error)
}
