package interop

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// alive is the Liveness of tests in which every owner lives.
type alive struct{}

func (alive) Probe(context.Context, leases.Owner) (leases.Verdict, error) { return leases.Alive, nil }

// local is a lease as this process sees it, on behalf of a host whose daemon only keeps the host id alive.
// Rules may break its device.
func local(t *testing.T, d disk, r lease, rules ...faulty.Rule) (*resource.Lease, *faulty.Device) {
	t.Helper()
	dev := faulty.Wrap(openDevice(t, d), rules...)
	t.Cleanup(func() { _ = dev.Close() }) // most tests close it, as a crash does
	l, err := resource.New(localConfig(d, r, dev))
	if err != nil {
		t.Fatal(err)
	}
	return l, dev
}

func openDevice(t *testing.T, d disk) *device.File {
	t.Helper()
	f, err := device.Open(d.path, device.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // it may have been closed by what wraps it
	return f
}

func localConfig(d disk, r lease, dev device.Device) resource.Config {
	return resource.Config{
		Space: leases.NameOf(r.space), Name: leases.NameOf(r.name),
		Disks:    []resource.Disk{{Device: dev, Offset: r.offset}},
		Geometry: ondisk.Geometry{Sector: int(d.sector), Align: int(d.align)},
		Times:    timeouts.Set{IO: ioTimeout, Fire: timeouts.DefaultFire},
		Clock:    monotime.System(), SharedRetries: 8, Jitter: rand.Float64,
	}
}

// TestPoint5 stops an acquire of ours behind its second ballot write. Debian's host comes by, commits our
// value and is refused; we find ourselves the owner by its hand. Our release leaves the leader alone and
// says so in our block, and Debian's host acquires without waiting.
func TestPoint5(t *testing.T) {
	waiting(t, 10)
	together(t,
		trial{"512", func(t *testing.T) { committedByDebian(t, newDisk(t, 512, 1)) }},
		trial{"4096", func(t *testing.T) { committedByDebian(t, newDisk(t, 4096, 1)) }})
}

func committedByDebian(t *testing.T, d disk) {
	nodes := cluster(t, d.path, debian, debian)
	heart, other := nodes[0], nodes[1] // host 1 is ours but for its heartbeat
	r := d.lease(1)
	self := leases.Owner{Host: 1, Generation: 1}
	gate := faulty.NewGate()
	l, _ := local(t, d, r, faulty.OnIndex(acquireReadsAgain, faulty.Stall(gate)))
	type answer struct {
		grant *resource.Grant
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		g, err := l.Acquire(t.Context(), self, resource.Request{Mode: leases.Exclusive}, alive{})
		done <- answer{g, err}
	}()
	for gate.Arrived() == 0 {
		time.Sleep(time.Millisecond)
	}
	c := other.client(t)
	must(t, other, "acquire what it commits for us", resultOther)(c.acquire(r, 0))
	gate.Release()
	a := <-done
	if a.err != nil {
		t.Fatalf("the value that %s committed is ours, but: %v", other, a.err)
	}
	before := d.leader(t, r)
	if before.OwnerID != 1 || before.WriteID != 2 || before.Timestamp == 0 {
		t.Fatalf("leader %+v; want owner 1, written by 2", before)
	}
	must(t, other, "acquire what is held", resultHeld)(c.acquire(r, 0))
	if err := l.Release(t.Context(), a.grant, ""); err != nil {
		t.Fatal(err)
	}
	if after := d.leader(t, r); after != before {
		t.Errorf("the release changed the leader: %s", cmp.Diff(before, after))
	}
	if block := d.block(t, r, 1); !block.Released() {
		t.Errorf("released, but the block says nothing of it: %+v", block)
	}
	begin := time.Now()
	must(t, other, "acquire after our release", 0)(c.acquire(r, 0))
	if took := time.Since(begin); took > raceSlow {
		t.Errorf("%s waited %v", other, took)
	}
	must(t, other, "release", 0)(c.release(r))
	heart.leave(t)
	other.leave(t)
}

// The transfers of an uncontended acquire, in their order.
const (
	acquireReads = iota
	acquireWritesBallot
	acquireReadsBallots
	acquireWritesValue
	acquireReadsAgain
	acquireWritesLeader
	acquireTransfers
)

// crash is one death within an acquire: at the n-th transfer, before or after it reached the disk.
type crash struct {
	at      int
	reached bool
}

func (c crash) String() string {
	return fmt.Sprintf("at transfer %d, which reached the disk: %t", c.at, c.reached)
}

// TestPoint7 kills a host of ours at each transfer of an acquire, once before the disk has heard of it and
// once after. Debian's host gets each of the leases, at the latest when it calls the victim dead.
func TestPoint7(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 100 seconds")
	}
	waiting(t, 100)
	var crashes []crash
	for i := range acquireTransfers {
		crashes = append(crashes, crash{i, false}, crash{i, true})
	}
	d := newDisk(t, 512, len(crashes))
	nodes := cluster(t, d.path, tenure, debian)
	victim, taker := nodes[0], nodes[1]
	for i, c := range crashes {
		dieIn(t, d, d.lease(i+1), c)
	}
	victim.kill(t)
	killed := monotonic(t)
	stamp := float64(binary.LittleEndian.Uint64(d.sectorAt(t, 0, 0)[152:]))
	var trials []trial
	for i, c := range crashes {
		trials = append(trials, trial{c.String(), func(t *testing.T) {
			r := d.lease(i + 1)
			took := takeAnyway(t, taker, r, killed)
			owned := d.leader(t, r).LVer > 1
			t.Logf("%s: taken %.1f s after the death; version %d", c, took-killed, d.leader(t, r).LVer)
			if owned {
				within(t, "taken from the victim after its last timestamp", took-stamp, deadAfter, deadAfter+3+watchSlop)
			} else {
				within(t, "taken though never owned", took-killed, 0, raceSlow.Seconds())
			}
		}})
	}
	together(t, trials...)
}

// dieIn runs an acquire up to the crash.
func dieIn(t *testing.T, d disk, r lease, c crash) {
	t.Helper()
	gate := faulty.NewGate()
	action := faulty.Stall(gate)
	if c.reached {
		action = faulty.StallAnswer(gate)
	}
	l, dev := local(t, d, r, faulty.OnIndex(c.at, action))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := l.Acquire(ctx, leases.Owner{Host: 1, Generation: 1},
			resource.Request{Mode: leases.Exclusive}, alive{})
		done <- err
	}()
	for gate.Arrived() == 0 {
		time.Sleep(time.Millisecond)
	}
	// What the lease does about the failure must not reach the disk: the host is dead.
	dev.Add(faulty.On(faulty.Any, faulty.Fail(nil)))
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Errorf("%s: acquired", c)
	}
}

// takeAnyway asks until it has the lease and returns when that was.
func takeAnyway(t *testing.T, taker *node, r lease, killed float64) float64 {
	t.Helper()
	c := taker.client(t)
	for {
		rv, err := c.acquire(r, 0)
		now := monotonic(t)
		switch {
		case err != nil:
			t.Fatalf("%s: %v", taker, err)
		case rv == 0:
			return now
		case rv != resultHeld && rv != resultOther && rv != resultLostRace:
			t.Fatalf("%s: %d", taker, rv)
		case now-killed > deadAfter+4*watchSlop:
			t.Fatalf("%s: still %d after %.1f s", taker, rv, now-killed)
		}
		time.Sleep(pollPause)
	}
}
