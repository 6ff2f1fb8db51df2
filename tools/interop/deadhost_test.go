package interop

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"
)

// TestDeadHost kills the daemon of a host that holds a lease and measures when a host of the other kind
// calls it failing, calls it dead, and takes the lease. Points 2 and 6 of spec ondisk 10.
func TestDeadHost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 100 seconds")
	}
	waiting(t, 95)
	var trials []trial
	for _, c := range []struct {
		victim, taker kind
		shared        bool
		sector        int64
	}{
		{debian, tenure, false, 512},
		{tenure, debian, false, 512},
		{tenure, tenure, false, 512},
		{debian, debian, false, 512}, // the control
		{debian, tenure, true, 512},
		{tenure, debian, true, 512},
		{debian, tenure, false, 4096},
		{tenure, debian, true, 4096},
	} {
		mode := "EX"
		if c.shared {
			mode = "SH"
		}
		trials = append(trials, trial{
			fmt.Sprintf("%s from %s by %s, %d", mode, c.victim, c.taker, c.sector),
			func(t *testing.T) { takeFromDead(t, newDisk(t, c.sector, 1), c.victim, c.taker, c.shared) },
		})
	}
	together(t, trials...)
}

// milestones are the moments, in seconds of the monotonic clock, at which the taker's opinion changed.
type milestones struct{ fail, dead float64 }

func takeFromDead(t *testing.T, d disk, victimKind, takerKind kind, shared bool) {
	nodes := cluster(t, d.path, victimKind, takerKind)
	victim, taker := nodes[0], nodes[1]
	r := d.lease(1)
	held := r
	held.shared = shared
	if rv, err := victim.client(t).acquire(held, 0); err != nil || rv != 0 {
		t.Fatalf("%s: acquire: %d, %v", victim, rv, err)
	}
	victim.kill(t)
	killed := monotonic(t)
	stamp := float64(binary.LittleEndian.Uint64(d.sectorAt(t, 0, 0)[152:]))

	seen := make(chan milestones, 1)
	go func() { seen <- watchDeath(t, taker, killed) }()
	taken := takeWhenDead(t, taker, r, shared, killed)
	m := <-seen
	last := float64(taker.lastLive(t, 1))
	t.Logf("last timestamp %.0f, seen by %s at %.0f, killed at %.1f; since seen: FAIL +%.1f, "+
		"DEAD +%.1f, taken +%.1f; taken +%.1f since the timestamp", stamp, taker, last, killed, m.fail-last,
		m.dead-last, taken-last, taken-stamp)

	if last < stamp || last > stamp+watchSlop {
		t.Errorf("last seen alive %.0f, but the last timestamp is %.0f", last, stamp)
	}
	// FAIL and DEAD come with the first whole second behind the limit, and one more for a poll of the daemon.
	within(t, "FAIL", m.fail-last, failAfter, failAfter+3)
	within(t, "DEAD", m.dead-last, deadAfter, deadAfter+3)
	// The safety of the lease: a second earlier and the victim's watchdog might not have fired.
	within(t, "taken after the last timestamp", taken-stamp, deadAfter, math.Inf(1))
	within(t, "taken", taken-last, deadAfter, deadAfter+3)

	rv, hosts, err := owners(taker.runDir, r)
	want := 1
	if shared && takerKind == tenure {
		want = 2 // the mark of the dead host stays in its own block, and is listed behind the owner
	}
	if err != nil || rv != 0 || len(hosts) != want || hosts[0].HostID != 2 {
		t.Errorf("owners after the take-over: %d, %+v, %v; want host 2 first of %d", rv, hosts, err, want)
	}
}

func within(t *testing.T, what string, got, low, high float64) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s after %.2f s, want %.0f to %.0f s", what, got, low, high)
	}
}

// takeWhenDead asks for the lease EX again and again, as stock's answers want it: held by a live host (-243)
// and shared by live hosts (-11) are asked again, the wait for a silent owner is the daemon's own. Who does
// not want to wait for the silent owner is told so (-247) from the first look that shows no change on.
func takeWhenDead(t *testing.T, taker *node, r lease, shared bool, killed float64) float64 {
	c := taker.client(t)
	flags, want := uint32(acquireNoWait), int32(resultHeld)
	if shared {
		flags, want = 0, resultAgain
	}
	for {
		rv, err := c.acquire(r, flags)
		now := monotonic(t)
		switch {
		case err != nil:
			t.Fatalf("%s: acquire: %v\n%s", taker, err, taker.tail())
		case rv == 0:
			return now
		case rv == resultOwnedRetry && flags == acquireNoWait:
			within(t, "not waiting for the silent owner", now-killed, 0, 2*watchSlop)
			flags = 0
		case rv != want:
			t.Errorf("%s: acquire %.1f s after the kill: %d, want %d", taker, now-killed, rv, want)
		case now-killed > deadAfter+3*watchSlop:
			t.Fatalf("%s: still %d, %.1f s after the kill", taker, rv, now-killed)
		}
		time.Sleep(pollPause)
	}
}

// watchDeath polls get_hosts until the taker calls host 1 dead.
func watchDeath(t *testing.T, taker *node, killed float64) milestones {
	var m milestones
	for {
		rv, hosts, err := getHosts(taker.runDir, "LS", 1)
		now := monotonic(t)
		if err != nil || rv != 0 || len(hosts) != 1 {
			t.Errorf("%s: get_hosts: %d, %v, %v", taker, rv, hosts, err)
			return m
		}
		switch state := hosts[0].Flags & 0xF; {
		case state == hostFail && m.fail == 0:
			m.fail = now
		case state == hostDead:
			m.dead = now
			return m
		case now-killed > deadAfter+3*watchSlop:
			t.Errorf("%s still sees the victim in state %d after %.1f s", taker, state, now-killed)
			return m
		}
		time.Sleep(pollPause)
	}
}
