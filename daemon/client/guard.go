package client

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// Guard tells the holder of leases whether it may go on writing, without waiting for a signal: a host that stood
// still may run its programs before it runs the daemon that has to stop them. It knows until when the lockspace's
// last renewal counts, and asks the daemon only when half of that time is gone. Stock's daemon answers it as well.
//
// Other hosts get the leases a watchdog's time later than the end that Guard knows (60 s), so a write that is on
// its disk within that time after Check harms nobody. What remains is a host that stands still for longer exactly
// between Check and the disk: there only the storage can refuse the write, by the lease's version, which grows
// with each owner. A clock that stands still with its host is not noticed by anybody.
//
// A Guard is not safe for concurrent use.
type Guard struct {
	daemon func(ctx context.Context, f func(*Conn) error) error // one connection to it
	space  leases.Name
	clock  monotime.Clock

	// until is the end of the last renewal that we know of, and ask when the daemon is to be asked for a newer
	// one; asleep is the time in suspend that both take into account.
	until, ask monotime.Instant
	asleep     time.Duration
	timer      Timer // nil: nothing is enforced
}

// Timer ends this process.
type Timer interface {
	// Set lets it end the process so long from now, suspend included, and not when an earlier call said.
	Set(in time.Duration) error
}

// NewGuard returns the guard of a joined lockspace; "" as the run directory means RunDir. It asks nobody before
// the first Check.
func NewGuard(runDir, space string, clock monotime.Clock) *Guard {
	return NewGuardOver(func(ctx context.Context, f func(*Conn) error) error { return Do(ctx, runDir, f) }, space, clock)
}

// NewGuardOver is NewGuard for a daemon that is reached otherwise: daemon calls f with a connection, as Do does.
func NewGuardOver(daemon func(ctx context.Context, f func(*Conn) error) error, space string,
	clock monotime.Clock,
) *Guard {
	return &Guard{daemon: daemon, space: leases.NameOf(space), clock: clock, asleep: clock.Asleep()}
}

// Check returns nil if leases of the lockspace are valid at this moment. The error is leases.Lost when they are
// not, or when nothing is known that says so: the daemon's answer is waited for as long as ctx lasts.
func (g *Guard) Check(ctx context.Context) error {
	var asked error
	if g.now() >= g.ask {
		asked = g.refresh(ctx)
	}
	if left := g.until.Sub(g.now()); left <= 0 {
		if asked == nil {
			asked = fmt.Errorf("the last renewal ended %v ago", -left)
		}
		return &leases.Error{Op: "check", Space: g.space.String(), Kind: leases.Lost, Err: asked}
	}
	return nil
}

// Enforce lets the kernel kill this process by SIGKILL when the daemon would: 40 s after the end of the last renewal
// that Check has learned of, 20 s before other hosts get the leases. On a host that wakes up after having stood still
// that happens before the process runs on. From then on Check must be called more often than a lease lasts, and at
// the start, for nothing is known before it.
func (g *Guard) Enforce() error {
	timer, err := newKillTimer()
	if err != nil {
		return fmt.Errorf("enforce the end of leases: %w", err)
	}
	return g.EnforceBy(timer)
}

// EnforceBy is Enforce with another timer than the kernel's.
func (g *Guard) EnforceBy(timer Timer) error {
	g.timer = timer
	if err := g.arm(); err != nil {
		return fmt.Errorf("enforce the end of leases: %w", err)
	}
	return nil
}

// arm sets the timer to the end that is known.
func (g *Guard) arm() error {
	if g.timer == nil || g.ask == 0 {
		return nil
	}
	return g.timer.Set(g.until.Sub(g.now()) + timeouts.Grace*time.Second)
}

// now is the clock with the suspend since the daemon was asked.
func (g *Guard) now() monotime.Instant { return g.clock.Now().Add(g.clock.Asleep() - g.asleep) }

// refresh asks the daemon for the last renewal. A daemon that does not answer changes nothing; one that answers
// that the lockspace is over ends everything.
func (g *Guard) refresh(ctx context.Context) error {
	asleep := g.clock.Asleep()
	var text string
	found := false
	err := g.daemon(ctx, func(c *Conn) error {
		return c.Status(ctx, sanlockwire.StatusLockspaces, func(s sanlockwire.State) error {
			if s.Type == sanlockwire.StateLockspace && s.Name == g.space {
				text, found = s.Text, true
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if !found {
		g.until = 0
		return fmt.Errorf("lockspace %s is not joined", g.space)
	}
	for _, over := range []string{"renew_fail", "space_dead", "killing_pids"} {
		if word(text, over) != 0 {
			g.until = 0
			return fmt.Errorf("lockspace %s is over (%s)", g.space, over)
		}
	}
	renewed := word(text, "renewal_last_success")
	life := timeouts.Set{IO: uint32(word(text, "io_timeout"))}.RenewalFail()
	if renewed == 0 || life == 0 {
		return fmt.Errorf("lockspace %s was not renewed yet", g.space)
	}
	// Suspend since the last question may have come after the renewal, which does not tell.
	slept := asleep - g.asleep
	g.asleep = asleep
	g.until = monotime.Instant(time.Duration(renewed) * time.Second).Add(life - slept)
	g.ask = g.until.Add(-life / 2)
	return g.arm()
}

// word is a number in a status record, 0 if it is not there or is none that can be meant.
func word(text, key string) uint64 {
	value, _ := sanlockwire.Word(text, key)
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return 0
	}
	return n
}
