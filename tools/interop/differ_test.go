package interop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestDiffer plays one seeded random sequence of operations to Debian's daemon and to ours on twin disks.
// Every answer, and after each step the daemons' state and every sector, must agree but for what is free and
// for the rows of COMPATIBILITY.md.
//
// TENURE_SEED=n plays another sequence, TENURE_STEPS=n sets its length, TENURE_SOAK=1 plays a long one that nobody has
// seen before.
func TestDiffer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	working(t, 100)
	steps, soaking := 1200, 10000
	first := uint64(1)
	if os.Getenv("TENURE_SOAK") != "" {
		steps, first = soaking, rand.Uint64()%1_000_000
	}
	steps = int(fromEnv(t, "TENURE_STEPS", uint64(steps)))
	seed := fromEnv(t, "TENURE_SEED", first)
	t.Logf("TENURE_SEED=%d TENURE_STEPS=%d", seed, steps)
	w := newWorld(t, seed)
	began := time.Now()
	w.prepare()
	for w.number < steps && !t.Failed() {
		w.play(w.gen.next())
	}
	if !t.Failed() {
		w.settle(true)
	}
	t.Logf("%d steps in %v; %s", w.number, time.Since(began).Round(time.Second), w.summary())
}

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// party is one client: a registered process on either side.
type party struct {
	procs    [2]*process
	silenced bool // RESTRICT_ALL: what it says itself is not heard
}

func (p *party) dead() bool { return p.procs[debian].ended() != "" && p.procs[tenure].ended() != "" }

// world is the twins and what is known of them.
type world struct {
	t       *testing.T
	seed    uint64
	twins   [2]*side
	gen     *generator
	parties []*party // nil where one has gone
	model   model
	number  int
	past    []string       // the steps, for the report
	count   map[string]int // answers, by command and result
	allowed map[string]int // differences that rows of COMPATIBILITY.md explain
	beaten  time.Time      // when the neighbours last renewed
	joined  [3]time.Time   // the lockspaces; zero once the dead host is known to be dead
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{t: t, seed: seed, count: map[string]int{}, allowed: map[string]int{}}
	w.gen = &generator{w: w, rng: rand.New(rand.NewPCG(seed, 385))}
	for _, k := range []kind{debian, tenure} {
		w.twins[k] = newSide(t, k)
	}
	t.Cleanup(func() {
		for i := range w.parties {
			w.drop(i)
		}
		for _, tw := range w.twins {
			tw.space.name = "left" // no lockspace is left politely: the daemons are killed
		}
	})
	return w
}

// both does something to each twin at the same time.
func (w *world) both(do func(k kind)) {
	var wg sync.WaitGroup
	for _, k := range []kind{debian, tenure} {
		wg.Go(func() { do(k) })
	}
	wg.Wait()
}

// ask sends a message to both on fresh connections, or on those of a client.
func (w *world) ask(s step) (answers [2]answer) {
	w.both(func(k kind) {
		m := s.m
		if s.target >= 0 {
			m.data2 = uint32(w.parties[s.target].procs[k].pid)
		}
		if s.from >= 0 {
			answers[k] = w.parties[s.from].procs[k].conn.exchange(m)
			return
		}
		c, err := dial(w.twins[k].runDir)
		if err != nil {
			answers[k].err = "dial: " + err.Error()
			return
		}
		answers[k] = c.exchange(m)
		_ = c.Close()
	})
	return answers
}

// pids returns the names of a twin's clients by process.
func (w *world) pids(k kind) map[int]string {
	names := map[int]string{}
	for i, p := range w.parties {
		if p != nil {
			names[p.procs[k].pid] = fmt.Sprintf("client%d", i)
		}
	}
	return names
}

// play does one step on both sides and compares all that can be seen.
func (w *world) play(s step) {
	w.passDeath()
	w.number++
	w.beat()
	w.past = append(w.past, fmt.Sprintf("%d: %s", w.number, s.text))
	if s.act != nil {
		if complaint := s.act(); complaint != "" {
			w.fail(complaint)
			return
		}
	} else if !w.converse(s) {
		return
	}
	if s.after != nil {
		s.after()
	}
	w.bury()
	w.settle(s.thorough)
}

// converse does a step that is a message. Questions are repeated until the answers agree: the daemons' own
// clocks do not tick together.
func (w *world) converse(s step) bool {
	for deadline := time.Now().Add(settleWait); ; time.Sleep(50 * time.Millisecond) {
		a := w.ask(s)
		x := a[debian].spell(s.m.cmd, w.pids(debian))
		y := a[tenure].spell(s.m.cmd, w.pids(tenure))
		if x == y {
			w.count[fmt.Sprintf("%s %d", commandName(s.m), int32(a[debian].Data))]++
			w.past[len(w.past)-1] += " -> " + firstLine(x)
			return true
		}
		if row := s.explained(a); row != "" {
			w.allowed[row]++
			w.past[len(w.past)-1] += " -> " + firstLine(x) + " | " + firstLine(y)
			return true
		}
		if !s.question || time.Now().After(deadline) {
			w.fail("the answers:\n" + difference(x, y))
			return false
		}
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s[:min(len(s), 300)]
}

// settle waits until both daemons show the same state and all sectors agree.
func (w *world) settle(bitmaps bool) {
	status := step{from: -1, target: -1, m: w.gen.order(cmdStatus), text: "status"}
	status.m.closes = true
	for deadline := time.Now().Add(settleWait); ; time.Sleep(10 * time.Millisecond) {
		a := w.ask(status)
		if a[debian].err != "" || a[tenure].err != "" {
			w.fail(fmt.Sprintf("status: debian %q, tenure %q", a[debian].err, a[tenure].err))
			return
		}
		x := a[debian].spell(cmdStatus, w.pids(debian))
		y := a[tenure].spell(cmdStatus, w.pids(tenure))
		var d []string
		if x == y {
			d = compareImages(w, bitmaps)
			if len(d) == 0 && w.model.read(w, a[debian].body) {
				return
			}
		}
		if time.Now().After(deadline) {
			if x != y {
				d = []string{difference(x, y)}
			}
			w.fail("after the step:\n" + strings.Join(d, "\n"))
			return
		}
		w.beat()
	}
}

// bury waits for both processes of a client of which one has been killed, and compares how they ended.
func (w *world) bury() {
	for i, p := range w.parties {
		if p == nil || p.procs[debian].ended() == "" && p.procs[tenure].ended() == "" {
			continue
		}
		for deadline := time.Now().Add(settleWait); !p.dead() && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		x, y := p.procs[debian].ended(), p.procs[tenure].ended()
		w.past[len(w.past)-1] += fmt.Sprintf(" (client %d: %s)", i, x)
		if x != y {
			w.fail(fmt.Sprintf("client %d ended so: debian %q, tenure %q", i, x, y))
			return
		}
		w.count["killed: "+x]++
		w.drop(i)
	}
}

// drop ends a client's processes and with them its connections.
func (w *world) drop(i int) {
	if p := w.parties[i]; p != nil {
		for _, q := range p.procs {
			q.end()
		}
		w.parties[i] = nil
	}
}

// fail ends the test with a difference and what led to it.
func (w *world) fail(what string) {
	w.t.Helper()
	w.t.Fatalf("TENURE_SEED=%d, step %d: %s\nthe last steps:\n%s", w.seed, w.number, what,
		strings.Join(w.past[max(0, len(w.past)-20):], "\n"))
}

// summary tells how often each answer was given, so that a reader sees what the sequence reached.
func (w *world) summary() string {
	spell := func(m map[string]int) string {
		var s []string
		for k, n := range m {
			s = append(s, fmt.Sprintf("%s: %d", k, n))
		}
		slices.Sort(s)
		return strings.Join(s, ", ")
	}
	return fmt.Sprintf("answers: %s; allowed: %s", spell(w.count), spell(w.allowed))
}

// model is what the daemons agree to be in, as Debian's status shows it.
type model struct {
	spaces   map[string]string // by name, the list
	leases   []held
	nameless map[[2]string]bool // held leases, by space and name, that were shared here: stock has no pid of their holder
}

// held is one lease that the daemons know of.
type held struct {
	space, name, list string
	client            int // -1: nobody's
	shared            bool
}

// read takes the model from a STATUS answer; false while something is still going on in the background.
func (m *model) read(w *world, body []byte) bool {
	rs, err := records(body)
	if err != nil {
		w.t.Error(err)
	}
	m.spaces, m.leases = map[string]string{}, nil
	before := m.nameless
	m.nameless = map[[2]string]bool{}
	names, clients := w.pids(debian), map[string]bool{}
	quiet := true
	for _, r := range rs {
		switch r.kind {
		case recordClient:
			clients[r.word("pid")] = true
			quiet = quiet && r.word("pid_dead") == "0"
		case recordSpace:
			m.spaces[r.name] = r.word("list")
			quiet = quiet && r.word("killing_pids") == "0"
		case recordResource:
			h := held{space: text48(r.rest, 0), name: r.name, list: r.word("list"), client: -1}
			h.shared = word(r.rest, 120)&resShared != 0
			if name, ok := names[int(int32(r.data32))]; ok && h.list == "held" {
				h.client, _ = strconv.Atoi(strings.TrimPrefix(name, "client"))
			}
			if key := [2]string{h.space, h.name}; h.list == "held" && (h.shared || before[key]) {
				m.nameless[key] = true
			}
			quiet = quiet && h.list != "rem" && h.list != "add"
			m.leases = append(m.leases, h)
		}
	}
	registered := 0
	for _, p := range w.parties {
		if p != nil && clients[strconv.Itoa(p.procs[debian].pid)] {
			registered++
		}
	}
	alive := 0
	for pid := range clients {
		if pid != "-1" {
			alive++
		}
	}
	return quiet && alive == registered
}

func (m *model) of(client int) (hs []held) {
	for _, h := range m.leases {
		if h.client == client && h.list == "held" {
			hs = append(hs, h)
		}
	}
	return hs
}

func (m *model) tokens(space, name string) (n int) {
	for _, h := range m.leases {
		if h.space == space && h.name == name {
			n++
		}
	}
	return n
}
