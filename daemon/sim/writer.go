package sim

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/leases/monotime"
)

// Care is what a writer does before it writes.
type Care uint8

// The cares of writers.
const (
	Careless Care = iota // it waits for signals
	Checks               // it asks a Guard before each write
	Enforces             // it asks once in a while, and has the kernel kill it in time
)

// String names a care.
func (c Care) String() string { return [...]string{"careless", "checks", "enforces"}[c] }

// What a writer takes.
const (
	writePause  = 200 * time.Millisecond // between two writes
	enforceEach = 5 * time.Second        // between two questions of one that only enforces
	checkWait   = 5 * time.Minute        // for an answer: none comes while the daemon does not run
)

// Write lets the holder write to what the lease is for until it ends. The judge looks at each write from then on,
// not at the holder.
func (h *Hold) Write(care Care) {
	w := h.host.world
	w.mu.Lock()
	h.writes = true
	w.mu.Unlock()
	guard := client.NewGuardOver(h.daemon, spaceName(h.space), h.host.clockOf(h.process))
	if care == Enforces {
		// Nothing is known before the first question, so nothing is armed that could fail.
		_ = guard.EnforceBy(&killer{hold: h})
		h.host.writers.Go(func() { h.asking(guard) })
	}
	h.host.writers.Go(func() { h.writing(care, guard) })
}

// writing is the process, or, if it only enforces, the thread that writes.
func (h *Hold) writing(care Care, guard *client.Guard) {
	for ; h.wait() == nil; time.Sleep(writePause) {
		if care == Checks && !h.check(guard) {
			return
		}
		if h.wait() == nil {
			h.host.world.wrote(h)
		}
	}
}

// asking is the thread that keeps the timer of a process that only enforces from ending it.
func (h *Hold) asking(guard *client.Guard) {
	for ; h.wait() == nil; time.Sleep(enforceEach) {
		if !h.check(guard) {
			return
		}
	}
}

// check ends the process if its lease is over.
func (h *Hold) check(guard *client.Guard) bool {
	ctx, cancel := context.WithTimeout(context.Background(), checkWait)
	defer cancel()
	err := guard.Check(ctx)
	if err != nil {
		h.End(fmt.Sprintf("process %d stops: %v", h.pid, err))
	}
	return err == nil
}

// daemon connects the process to its lease daemon for one question.
func (h *Hold) daemon(_ context.Context, f func(*client.Conn) error) error {
	c, err := h.sanlock.ear.call(h.process, nil)
	if err != nil {
		return err
	}
	h.host.world.note(h.host.name, "process %d asks", h.pid)
	return ask(c, f)
}

func ask(c net.Conn, f func(*client.Conn) error) error {
	defer c.Close()
	return f(client.Over(c))
}

// wrote books a write and looks whether it could be made: not once another has been granted the lease.
func (w *World) wrote(h *Hold) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h.written++
	for _, o := range w.holds {
		pair := [2]int{h.pid, o.pid}
		if o.from <= h.from || o.space != h.space || o.lease != h.lease || w.judged[pair] {
			continue
		}
		w.judged[pair] = true
		w.breaches = append(w.breaches, fmt.Sprintf("%.1f s: process %d of %s writes, process %d of %s was granted %s:%s",
			time.Since(w.began).Seconds(), h.pid, h.host.name, o.pid, o.host.name, spaceName(h.space), leaseName(h.lease)))
	}
}

// Written returns how often the holder has written.
func (h *Hold) Written() int {
	h.host.world.mu.Lock()
	defer h.host.world.mu.Unlock()
	return h.written
}

// killer is a timer of the host's kernel that kills a process. It goes on while the host is frozen, and is served
// before any process when it is thawed.
type killer struct {
	hold *Hold

	// Guarded by World.mu.
	timer *time.Timer
	due   bool
}

// Set implements client.Timer.
func (k *killer) Set(in time.Duration) error {
	w := k.hold.host.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if k.timer == nil {
		k.hold.host.killers = append(k.hold.host.killers, k)
	} else {
		k.timer.Stop()
	}
	k.due = false
	k.timer = time.AfterFunc(in, k.fire)
	return nil
}

func (k *killer) fire() {
	w := k.hold.host.world
	w.mu.Lock()
	k.due = k.hold.host.frozen
	late := k.due
	w.mu.Unlock()
	if !late {
		k.hold.End(fmt.Sprintf("process %d killed by its timer", k.hold.pid))
	}
}

// clockOf is the host's clock for one of its processes, which learns nothing of it while it is stopped. The lease
// daemon reads the ungated one: it does so under mutexes, whose other users would then hold up the bubble's time. So
// a lease daemon that is stopped thinks on, and only what it does to the world waits for it to go on.
func (h *Host) clockOf(p *process) monotime.Clock {
	return h.clock.Gated(func() { _ = p.wait() }) // one that was killed runs into nothing any more
}
