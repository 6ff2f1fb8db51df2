package interop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

const (
	resultNoProcess = -3
	beforeRestart   = 10 * time.Second // how long the others ask before the daemon is started again
)

// TestRestart kills a daemon while a process that lives on holds a lease, and starts it again. Nobody gets
// the lease in between. The new daemon has its host id back without the long wait, in a new generation, and
// knows nothing of the process; the lease can be had at once. Debian's daemon is the measure.
func TestRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 100 seconds")
	}
	waiting(t, 95)
	together(t,
		trial{"ours", func(t *testing.T) { killAndRestart(t, tenure) }},
		trial{"debian", func(t *testing.T) { killAndRestart(t, debian) }},
		trial{"ours, for good", func(t *testing.T) { killForGood(t, tenure) }},
		trial{"debian, for good", func(t *testing.T) { killForGood(t, debian) }})
}

func killAndRestart(t *testing.T, k kind) {
	d := newDisk(t, 512, 2)
	nodes := cluster(t, d.path, k, tenure, debian)
	victim, r := nodes[0], d.lease(1)
	h := holderOf(t, victim, r, nil)
	victim.kill(t)
	killed := time.Now()
	nobodyGets(t, nodes[1:], r, killed)

	again := startIn(t, filepath.Dir(victim.runDir), k, 1)
	begin := time.Now()
	again.join(t, d.path)
	joined := time.Since(begin)
	if joined > (3*ioTimeout+1)*time.Second {
		t.Errorf("%s: joined again after %v", again, joined)
	}
	record := d.sectorAt(t, 0, 0)
	generation := binary.LittleEndian.Uint64(record[40:])
	text, err := status(again.runDir)
	if err != nil || bytes.Contains(text, []byte("res_id=")) {
		t.Errorf("%s: leases in the status of a new daemon: %v", again, err)
	}
	c := again.client(t)
	rv, _, err := c.withBody(cmdInquire, uint32(h.pid()), nil)
	if err != nil || rv != resultNoProcess {
		t.Errorf("%s: inquire about the process: %d, %v; want %d", again, rv, err, resultNoProcess)
	}
	if terms, _, by := h.fate(); len(terms) > 0 || by != 0 {
		t.Errorf("the process was sent %v, %d", terms, by)
	}
	must(t, again, "acquire what the process held", 0)(c.acquire(r, 0))
	t.Logf("%s: generation %d joined again in %v", again, generation, joined.Round(time.Millisecond))
	if generation != 2 {
		t.Errorf("generation %d, want 2", generation)
	}
	for _, n := range nodes[1:] {
		n.waitState(t, 1, hostLive, watchSlop*time.Second)
		if rv, err := n.client(t).acquire(r, acquireNoWait); err != nil || rv != resultHeld {
			t.Errorf("%s: acquire what the new daemon holds: %d, %v", n, rv, err)
		}
	}
	must(t, again, "release", 0)(c.release(r))
	for _, n := range append(nodes[1:], again) {
		n.leave(t)
	}
}

// nobodyGets asks the other daemons again and again.
func nobodyGets(t *testing.T, others []*node, r lease, killed time.Time) {
	t.Helper()
	var clients []*conn
	for _, n := range others {
		clients = append(clients, n.client(t))
	}
	for time.Since(killed) < beforeRestart {
		for i, c := range clients {
			rv, err := c.acquire(r, acquireNoWait)
			if err != nil || rv != resultHeld && rv != resultOwnedRetry {
				t.Errorf("%s: acquire %v after the daemon was killed: %d, %v", others[i], time.Since(killed), rv, err)
			}
		}
		time.Sleep(pollPause)
	}
}

// killForGood: two daemons, one of each kind, want the lease of the dead one. One of them gets it, not before
// its time.
func killForGood(t *testing.T, k kind) {
	d := newDisk(t, 512, 1)
	nodes := cluster(t, d.path, k, tenure, debian)
	victim, r := nodes[0], d.lease(1)
	holderOf(t, victim, r, nil)
	victim.kill(t)
	killed := monotonic(t)
	stamp := float64(binary.LittleEndian.Uint64(d.sectorAt(t, 0, 0)[152:]))
	type grant struct {
		by *node
		at float64
		c  *conn
	}
	grants := make(chan grant, 2)
	for _, n := range nodes[1:] {
		c := n.client(t)
		go func() {
			for monotonic(t)-killed < deadAfter+3*watchSlop {
				rv, err := c.acquire(r, 0)
				if err != nil {
					t.Errorf("%s: %v", n, err)
					break
				}
				if rv == 0 {
					grants <- grant{n, monotonic(t), c}
					return
				}
				time.Sleep(pollPause)
			}
			grants <- grant{}
		}()
	}
	var got []grant
	for range 2 {
		if g := <-grants; g.by != nil {
			got = append(got, g)
		}
	}
	if len(got) != 1 {
		t.Fatalf("granted %d times: %v", len(got), got)
	}
	t.Logf("%s killed: %s got the lease %.1f s after the last timestamp", victim, got[0].by, got[0].at-stamp)
	within(t, fmt.Sprintf("granted to %s", got[0].by), got[0].at-stamp, deadAfter, deadAfter+3*watchSlop)
	must(t, got[0].by, "release", 0)(got[0].c.release(r))
	for _, n := range nodes[1:] {
		n.leave(t)
	}
}
