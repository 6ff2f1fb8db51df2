package mux

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tenurelock/tenure/leases/monotime"
)

// The explorer walks every interleaving of what clients do with the decisions of a daemon, second by second,
// and with the daemon's death at every moment. The rules that are checked:
//
//	R1 no pet, nor the kernel's at a close, is later than the end of any client of which something is expected
//	R2 from a client's end on the device is closed, so that the daemon's death is no pet (unless it stalled)
//	R3 a pet is made, and the device is not given up, while every end is further away than the next decision
//
// R1 and R2 together bound the reset by end + fire.

const (
	exploreFire = 10 * time.Second // decisions every 2 s
	longLife    = 5                // seconds from a renewal to its end
	shortLife   = 3
)

// judge is a Mux, or a broken one.
type judge interface {
	Live(id ID, renewed, expires monotime.Seconds)
	Gone(id ID) bool
	Decide(now monotime.Instant, asleep time.Duration, failing bool) Decision
	Interval() time.Duration
	copied() judge
}

func (m *Mux) copied() judge {
	c := *m
	c.clients = map[ID]*client{}
	for id, one := range m.clients {
		twin := *one
		c.clients[id] = &twin
	}
	return &c
}

// world is everything that can differ between two moments.
type world struct {
	now     int // half seconds
	decided int // half seconds, of the last decision
	open    bool
	ends    [2]int // half seconds; 0: nothing expected
	dead    [2]bool
	stalled bool
}

type explorer struct {
	seen   map[string]bool
	broken map[string]string // rule to how
	until  int               // half seconds
	stalls bool
}

func (e *explorer) breaks(rule string, w world, how string) {
	if e.broken[rule] == "" {
		e.broken[rule] = fmt.Sprintf("%s: %+v", how, w)
	}
}

// pet is a pet by anybody.
func (e *explorer) pet(w world, rule, how string) {
	for _, end := range w.ends {
		if end != 0 && w.now > end {
			e.breaks(rule, w, how)
		}
	}
}

// key tells worlds apart, times being relative to now.
func key(w world, j judge) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %v %v %v %v|", w.now-w.decided, w.open, w.dead, w.stalled, j.Interval())
	for _, end := range w.ends {
		if end != 0 {
			end -= w.now
		} else {
			end = 1 << 20
		}
		fmt.Fprintf(&b, " %d", max(end, -8))
	}
	fmt.Fprintf(&b, "|%v", shape(j, w.now))
	return b.String()
}

// shape is what a Mux remembers of times, relative to now.
func shape(j judge, now int) string {
	m := inner(j)
	text := fmt.Sprint(m.next)
	for id := First; id < First+2; id++ {
		if c := m.clients[id]; c == nil || !c.Armed() {
			text += " -"
		} else {
			text += fmt.Sprint(" ", max(int(2*c.due.Sub(0)/time.Second)-now, -8), c.life(), c.Dead)
		}
	}
	return text
}

// step walks on from a moment before anything has happened in it.
func (e *explorer) step(w world, j judge) {
	k := key(w, j)
	if w.now >= e.until || e.seen[k] {
		return
	}
	e.seen[k] = true
	// The daemon may be killed now.
	if w.open && !w.stalled {
		e.pet(w, "R2", "killed")
	}
	for _, after := range e.events(w, j) {
		e.decide(after.world, after.judge)
		if e.stalls && !w.stalled {
			late := after.world
			late.stalled = true
			for range 3 { // the daemon does not get the processor
				late.now += 2
				e.decideNow(late, after.judge.copied())
			}
		}
	}
}

type moment struct {
	world
	judge
}

// events are all things that the clients can do in this half second: nothing, or one of them one thing.
func (e *explorer) events(w world, j judge) []moment {
	all := []moment{{w, j.copied()}}
	if w.now%2 != 0 {
		return all // clients act in whole seconds, the daemon at any time
	}
	for i := range w.ends {
		if w.dead[i] {
			continue
		}
		id := First + ID(i)
		now := monotime.Seconds(w.now / 2)
		for _, life := range []monotime.Seconds{longLife, shortLife} {
			n := moment{w, j.copied()}
			n.ends[i] = w.now + 2*int(life)
			n.Live(id, now, now+life)
			all = append(all, n)
		}
		n := moment{w, j.copied()}
		n.ends[i] = 0
		n.Live(id, 0, 0)
		all = append(all, n)
		n = moment{w, j.copied()}
		n.dead[i] = true
		n.Gone(id)
		all = append(all, n)
	}
	return all
}

// decide lets the daemon decide when it is time, up to half a second late.
func (e *explorer) decide(w world, j judge) {
	if due := w.decided + int(2*j.Interval()/time.Second); w.now < due {
		w.now++
		e.step(w, j)
		return
	} else if w.now == due {
		late := w
		late.now++
		e.decideNow(late, j.copied())
	}
	e.decideNow(w, j)
}

func (e *explorer) decideNow(w world, j judge) {
	d := j.Decide(monotime.Instant(w.now)*monotime.Instant(time.Second/2), 0, false)
	near := false
	for _, end := range w.ends {
		near = near || end != 0 && end-w.now <= 5 // the standard interval and guard
	}
	switch d.Action {
	case Pet:
		e.pet(w, "R1", "pet")
		w.open = true
	case Abandon:
		if w.open {
			e.pet(w, "R1", "closed")
		}
		w.open = false
	case Hold:
	}
	if d.Action != Pet && !near {
		e.breaks("R3", w, "not petted without need")
	}
	w.decided = w.now
	w.now++
	e.step(w, j)
}

func explore(j judge, stalls bool) *explorer {
	e := &explorer{seen: map[string]bool{}, broken: map[string]string{}, until: 24, stalls: stalls}
	m := inner(j)
	m.SetFire(exploreFire)
	m.next = m.standard
	for range 2 {
		m.Connect(1, 1)
	}
	// Time begins at 100 s, so that no end is 0.
	e.until += 200
	e.step(world{now: 200, decided: 200, open: true}, j)
	return e
}

func TestEveryInterleaving(t *testing.T) {
	for _, stalls := range []bool{false, true} {
		e := explore(New(), stalls)
		t.Logf("stalls %v: %d states", stalls, len(e.seen))
		for rule, how := range e.broken {
			t.Errorf("stalls %v: %s: %s", stalls, rule, how)
		}
		if len(e.seen) < 1000 {
			t.Errorf("only %d states were seen", len(e.seen))
		}
	}
}

// inner finds the Mux in a mutant.
func inner(j judge) *Mux {
	if m, ok := j.(*mutant); ok {
		return m.Mux
	}
	m, _ := j.(*Mux)
	return m
}

// mutant is a Mux with one rule broken.
type mutant struct {
	*Mux
	live     func(m *Mux, id ID, renewed, expires monotime.Seconds)
	gone     func(m *Mux, id ID) bool
	judged   func(m *Mux, now monotime.Instant) Decision
	interval func(m *Mux) time.Duration
}

func (m *mutant) copied() judge {
	c := *m
	c.Mux, _ = m.Mux.copied().(*Mux)
	return &c
}

func (m *mutant) Live(id ID, renewed, expires monotime.Seconds) {
	if m.live != nil {
		m.live(m.Mux, id, renewed, expires)
		return
	}
	m.Mux.Live(id, renewed, expires)
}

func (m *mutant) Gone(id ID) bool {
	if m.gone != nil {
		return m.gone(m.Mux, id)
	}
	return m.Mux.Gone(id)
}

func (m *mutant) Decide(now monotime.Instant, asleep time.Duration, failing bool) Decision {
	if m.judged != nil {
		return m.judged(m.Mux, now)
	}
	return m.Mux.Decide(now, asleep, failing)
}

func (m *mutant) Interval() time.Duration {
	if m.interval != nil {
		return m.interval(m.Mux)
	}
	return m.Mux.Interval()
}

// Each rule of the Mux is needed: without it the explorer finds a way to break what it is for.
func TestMutants(t *testing.T) {
	decide := func(m *Mux, now monotime.Instant) Decision { return m.Decide(now, 0, false) }
	instead := func(from, to Action) func(m *Mux, now monotime.Instant) Decision {
		return func(m *Mux, now monotime.Instant) Decision {
			d := decide(m, now)
			if d.Action == from {
				d.Action = to
			}
			return d
		}
	}
	for _, c := range []struct {
		name   string
		rule   string
		stalls bool
		m      mutant
	}{
		{"forgetDead", "R1", false, mutant{gone: func(m *Mux, id ID) bool {
			m.clients[id].Expires = 0
			return m.Gone(id)
		}}},
		{"deadMayEnd", "R2", false, mutant{gone: func(m *Mux, id ID) bool {
			m.clients[id].due += monotime.Instant(3 * time.Second)
			return true
		}}},
		{"failOnlyAtTheEnd", "R2", false, mutant{judged: func(m *Mux, now monotime.Instant) Decision {
			return decide(m, now.Add(-m.horizon()))
		}}},
		{"closeLate", "R1", true, mutant{judged: instead(Hold, Abandon)}},
		{"neverClose", "R2", false, mutant{judged: instead(Abandon, Hold)}},
		{"lookRarely", "R2", false, mutant{interval: func(*Mux) time.Duration { return 2 * time.Second }}},
		{"forgetPromise", "R2", false, mutant{interval: func(m *Mux) time.Duration {
			if m.next == Recovery && m.horizon() > Recovery {
				return m.horizon()
			}
			return m.Interval()
		}}},
		{"petDying", "R2", false, mutant{judged: instead(Abandon, Pet)}},
		{"latestEndCounts", "R1", false, mutant{judged: func(m *Mux, now monotime.Instant) Decision {
			d := decide(m, now)
			if len(d.Findings) == 1 && len(m.clients) == 2 {
				d.Action = Pet
			}
			return d
		}}},
		{"keepOldEnd", "R3", false, mutant{live: func(m *Mux, id ID, renewed, expires monotime.Seconds) {
			if !m.clients[id].Armed() || expires == 0 {
				m.Live(id, renewed, expires)
			}
		}}},
		{"cannotStop", "R3", false, mutant{live: func(m *Mux, id ID, renewed, expires monotime.Seconds) {
			if expires != 0 {
				m.Live(id, renewed, expires)
			}
		}}},
		{"neverPet", "R3", false, mutant{judged: instead(Pet, Hold)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.m.Mux = New()
			if e := explore(&c.m, c.stalls); e.broken[c.rule] == "" {
				t.Errorf("%s is not broken in %d states; broken: %v", c.rule, len(e.seen), e.broken)
			}
		})
	}
}
