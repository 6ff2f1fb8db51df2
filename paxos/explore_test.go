package paxos

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// walker visits every world that a model can come to, each once. It belongs to one goroutine and shares
// nothing, so its copies of worlds, of 14 kB each, are kept from the race detector, which would spend its time
// on them.
type walker struct {
	m     *model
	seen  map[uint64]struct{}
	path  []step
	way   []*world // the worlds along path, from the start; what is beyond path is room for the next
	tidy  world    // room for key
	taken int
	limit int // states
	wrong string
}

// walk goes on from the last world of the path. It reports whether it stopped early: at a wrong world, with
// the way there in path, or at the limit.
func (x *walker) walk() bool {
	w := x.way[len(x.path)]
	if w.wrong != "" {
		x.wrong = w.wrong
		return true
	}
	k := w.key(x.m, &x.tidy)
	if _, ok := x.seen[k]; ok {
		return false
	}
	if len(x.seen) >= x.limit {
		return true
	}
	x.seen[k] = struct{}{}
	var room [32]step
	for _, e := range w.steps(x.m, room[:0]) {
		x.path = append(x.path, e)
		if len(x.way) == len(x.path) {
			x.way = append(x.way, new(world))
		}
		next := x.way[len(x.path)]
		next.become(w)
		next.apply(x.m, e)
		x.taken++
		if x.walk() {
			return true
		}
		x.path = x.path[:len(x.path)-1]
	}
	return false
}

//go:norace
func (w *world) become(o *world) { *w = *o }

func explore(m *model, limit int) *walker {
	w := newWorld(m)
	x := &walker{m: m, seen: map[uint64]struct{}{}, limit: limit, way: []*world{&w}}
	x.walk()
	return x
}

// replay runs a path from the start and reports what went wrong, or false if a step is not possible.
func replay(m *model, path []step) (string, bool) {
	w := newWorld(m)
	for _, e := range path {
		if !possible(m, &w, e) {
			return "", false
		}
		w.apply(m, e)
		if w.wrong != "" {
			return w.wrong, true
		}
	}
	return "", true
}

func possible(m *model, w *world, e step) bool {
	var room [32]step
	return slices.Contains(w.steps(m, room[:0]), e)
}

// shrink drops steps, one or several at a time, as long as the path still goes wrong.
func shrink(m *model, path []step) []step {
	for size := len(path) / 2; size > 0; {
		shorter := false
		for i := 0; i+size <= len(path); i++ {
			try := append(append([]step(nil), path[:i]...), path[i+size:]...)
			if wrong, ok := replay(m, try); ok && wrong != "" {
				path, shorter = try, true
				i--
			}
		}
		if !shorter {
			size--
		}
	}
	return path
}

func (m *model) tell(path []step) string {
	var b strings.Builder
	w := newWorld(m)
	for i, e := range path {
		fmt.Fprintf(&b, "%3d  %s\n", i+1, m.describe(&w, e))
		w.apply(m, e)
	}
	fmt.Fprintf(&b, "     %s\n", w.wrong)
	return b.String()
}

func (m *model) describe(w *world, e step) string {
	host := fmt.Sprintf("host %d", e.host+1)
	a := w.action(m, int(e.host))
	switch e.kind {
	case kDo, kFail, kLate:
		how := [...]string{kDo: "", kFail: " fails", kLate: " is reported failed, but may still land"}[e.kind]
		return fmt.Sprintf("%s disk %d: %s%s", host, e.disk, a.tell(), how)
	case kAnswer:
		v := [...]string{"", "alive", "silent", "gone"}[w.verdict(m, a.Owner)]
		return fmt.Sprintf("%s asks about %s: %s", host, a.Owner.tell(), v)
	case kLandBlock:
		return fmt.Sprintf("%s disk %d: its block lands late", host, e.disk)
	case kLandLeader:
		return fmt.Sprintf("%s disk %d: its leader write lands late", host, e.disk)
	case kDrop:
		return fmt.Sprintf("%s disk %d: the late write is given up", host, e.disk)
	case kLose:
		return fmt.Sprintf("disk %d stops answering", e.disk)
	case kReturn:
		return fmt.Sprintf("disk %d is back", e.disk)
	case kRot:
		return fmt.Sprintf("disk %d: the block of %s goes bad", e.disk, host)
	}
	return host + map[kind]string{
		kRelease: " begins to release", kCrash: " crashes", kFence: " is fenced",
	}[e.kind]
}

func (p Proposal) tell() string {
	if p.Host == 0 {
		return "-"
	}
	return fmt.Sprintf("%d.%d", p.Host, p.Generation)
}

func (a Action) tell() string {
	switch a.Do {
	case Look:
		return "read leader and blocks"
	case ReadLeader:
		return "read leader"
	case WriteBlock:
		b := a.Block
		s := fmt.Sprintf("write block round %d mbal %d", b.Round, b.Mbal)
		if b.Bal != 0 {
			s += fmt.Sprintf(" bal %d value %s", b.Bal, b.Input.tell())
		}
		if b.Released {
			s += " released"
		}
		if b.Shared {
			s += " shared"
		}
		return s
	case WriteLeader:
		s := fmt.Sprintf("write leader round %d owner %s", a.Record.Round, a.Record.Owner.tell())
		if a.Record.Free() {
			s += " free"
		}
		return s
	}
	return fmt.Sprintf("action %d", a.Do)
}

func deep() bool { return os.Getenv("TENURE_EXPLORE") == "deep" }

// survive walks a model to its end and reports how many worlds it has.
func survive(t *testing.T, m model, limit int) int {
	t.Helper()
	begin := time.Now()
	x := explore(&m, limit)
	t.Logf("%8d states %9d steps %6.1f s", len(x.seen), x.taken, time.Since(begin).Seconds())
	if x.wrong != "" {
		path := shrink(&m, x.path)
		t.Errorf("%s: %s\n%s", m.name, x.wrong, m.tell(path))
	} else if len(x.seen) >= limit {
		t.Errorf("%s: more than %d states: the walk did not end", m.name, limit)
	}
	return len(x.seen)
}

// small, medium and large models: what the unbroken rules must survive. Each is walked to its end.
func small() []model {
	c := func(a, b, c int8) [worldHosts]int8 { return [worldHosts]int8{a, b, c} }
	return []model{{
		name: "2 hosts, 1 disk", hosts: 2, disks: 1, tries: 4,
		limits: limits{claims: c(1, 1, 0)},
	}, {
		name: "2 hosts, 1 disk, shared and exclusive", hosts: 2, disks: 1, tries: 2,
		shared: [worldHosts]bool{true}, limits: limits{claims: c(1, 2, 0)},
	}, {
		name: "2 hosts, 3 disks", hosts: 2, disks: 3, tries: 1,
		limits: limits{claims: c(1, 1, 0)},
	}, {
		name: "2 hosts, 3 disks, crash", hosts: 2, disks: 3, tries: 1,
		limits: limits{claims: c(1, 1, 0), crashes: 1, joins: 1},
	}, {
		name: "3 hosts, 1 disk", hosts: 3, disks: 1, tries: 1,
		limits: limits{claims: c(1, 1, 1)},
	}}
}

func medium() []model {
	c := func(a, b, c int8) [worldHosts]int8 { return [worldHosts]int8{a, b, c} }
	return []model{{
		name: "2 hosts, 1 disk, crash", hosts: 2, disks: 1, tries: 1,
		limits: limits{claims: c(2, 1, 0), crashes: 1, joins: 1},
	}, {
		name: "2 hosts, 1 disk, failed transfer", hosts: 2, disks: 1, tries: 2,
		limits: limits{claims: c(2, 1, 0), faults: 1},
	}, {
		name: "2 hosts, 1 disk, late write", hosts: 2, disks: 1, tries: 2,
		limits: limits{claims: c(2, 1, 0), lates: 1},
	}, {
		name: "2 hosts, 1 disk, bad block", hosts: 2, disks: 1, tries: 2,
		limits: limits{claims: c(1, 1, 0), rot: 1},
	}, {
		name: "2 hosts, 1 disk, stale leader", hosts: 3, disks: 1, tries: 1,
		setup: staleLeader, limits: limits{claims: c(2, 1, 0)},
	}, {
		name: "2 hosts, 1 disk, record read before blocks", hosts: 2, disks: 1, tries: 2,
		torn: recordFirst, limits: limits{claims: c(2, 1, 0)},
	}, {
		name: "2 hosts, 1 disk, blocks read before record", hosts: 2, disks: 1, tries: 2,
		torn: blocksFirst, limits: limits{claims: c(2, 1, 0)},
	}, {
		name: "2 hosts, 2 disks, late write", hosts: 2, disks: 2, tries: 1,
		limits: limits{claims: c(1, 1, 0), lates: 1},
	}, {
		name: "2 hosts, 2 disks, failed transfer", hosts: 2, disks: 2, tries: 1,
		limits: limits{claims: c(1, 1, 0), faults: 1},
	}, {
		name: "2 hosts, 2 disks, lost disk", hosts: 2, disks: 2, tries: 1,
		limits: limits{claims: c(1, 1, 0), losses: 1},
	}}
}

func large() []model {
	c := func(a, b, c int8) [worldHosts]int8 { return [worldHosts]int8{a, b, c} }
	return []model{{
		name: "2 hosts, 1 disk, crash, 3 tries", hosts: 2, disks: 1, tries: 3,
		limits: limits{claims: c(2, 2, 0), crashes: 1, joins: 1},
	}, {
		name: "2 hosts, 1 disk, late and failed, 3 tries", hosts: 2, disks: 1, tries: 3,
		limits: limits{claims: c(2, 1, 0), lates: 1, faults: 1},
	}, {
		name: "2 hosts, 1 disk, bad block, 2 claims", hosts: 2, disks: 1, tries: 2,
		limits: limits{claims: c(1, 2, 0), rot: 1},
	}, {
		name: "2 hosts, 1 disk, shared, crash", hosts: 2, disks: 1, tries: 2,
		shared: [worldHosts]bool{true}, limits: limits{claims: c(1, 2, 0), crashes: 1, joins: 1},
	}, {
		name: "2 hosts, 1 disk, stale leader, 2 tries", hosts: 3, disks: 1, tries: 2,
		setup: staleLeader, limits: limits{claims: c(2, 1, 0)},
	}, {
		name: "2 hosts, 1 disk, stale leader, crash", hosts: 3, disks: 1, tries: 2,
		setup: staleLeader, limits: limits{claims: c(2, 1, 0), crashes: 1, joins: 1},
	}, {
		name: "2 hosts, 1 disk, stale leader, failed transfer", hosts: 3, disks: 1, tries: 2,
		setup: staleLeader, limits: limits{claims: c(2, 1, 0), faults: 1},
	}, {
		name: "2 hosts, 1 disk, stale leader, record first", hosts: 3, disks: 1, tries: 2,
		torn: recordFirst, setup: staleLeader, limits: limits{claims: c(2, 1, 0), faults: 1},
	}, {
		name: "2 hosts, 1 disk, stale leader, blocks first", hosts: 3, disks: 1, tries: 2,
		torn: blocksFirst, setup: staleLeader, limits: limits{claims: c(2, 1, 0), faults: 1},
	}}
}

func larger() []model {
	c := func(a, b, c int8) [worldHosts]int8 { return [worldHosts]int8{a, b, c} }
	return []model{{
		name: "2 hosts, 3 disks, 2 tries", hosts: 2, disks: 3, tries: 2,
		limits: limits{claims: c(1, 1, 0)},
	}, {
		name: "2 hosts, 3 disks, failed transfer", hosts: 2, disks: 3, tries: 1,
		limits: limits{claims: c(1, 1, 0), faults: 1},
	}, {
		name: "2 hosts, 3 disks, lost disk", hosts: 2, disks: 3, tries: 2,
		limits: limits{claims: c(1, 1, 0), losses: 1},
	}, {
		name: "2 hosts, 3 disks, late write", hosts: 2, disks: 3, tries: 1,
		limits: limits{claims: c(2, 1, 0), lates: 1},
	}, {
		name: "3 hosts, 2 disks", hosts: 3, disks: 2, tries: 1,
		limits: limits{claims: c(1, 1, 1)},
	}, {
		name: "3 hosts, 1 disk, 2 tries", hosts: 3, disks: 1, tries: 2,
		limits: limits{claims: c(1, 1, 1)},
	}, {
		name: "3 hosts, 1 disk, crash", hosts: 3, disks: 1, tries: 1,
		limits: limits{claims: c(1, 1, 1), crashes: 1, joins: 1},
	}}
}

func TestSound(t *testing.T) {
	models := small()
	if !testing.Short() {
		models = append(models, medium()...)
	}
	if deep() {
		models = append(append(models, large()...), larger()...)
	}
	total := 0
	for _, m := range models {
		t.Run(m.name, func(t *testing.T) { total += survive(t, m, 2e7) })
	}
	t.Logf("%d models, %d states: never two owners, one value per round", len(models), total)
}
