package lvmlock_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// judge knows which LVs hosts were told to have alone, and complains when another host is told that it has
// one too.
type judge struct {
	t    *testing.T
	seed uint64

	mu     sync.Mutex
	alone  map[string]int // by LV, the host
	ending map[int]int    // by host, requests under way that may give locks back
	ends   map[int]int    // by host, how many there were
	told   int            // locks granted
}

func newJudge(t *testing.T, seed uint64) *judge {
	return &judge{t: t, seed: seed, alone: map[string]int{}, ending: map[int]int{}, ends: map[int]int{}}
}

// gives notes that a host begins to give a lock back, or all if lv is empty; done must be called when it was
// answered.
func (j *judge) gives(host int, lv string) (done func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ending[host]++
	j.ends[host]++
	for name, h := range j.alone {
		if h == host && (lv == "" || lv == name) {
			delete(j.alone, name)
		}
	}
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.ending[host]--
	}
}

// asking returns what granted wants to know.
func (j *judge) asking(host int) (ends int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ending[host] > 0 {
		return -1
	}
	return j.ends[host]
}

// granted notes a lock that a host was told of. If meanwhile its other commands gave locks back nobody can
// say whether this one is still held.
func (j *judge) granted(host int, lv string, m lvmwire.Mode, ends int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told++
	if other, taken := j.alone[lv]; taken && other != host {
		j.t.Errorf("seed %d: host %d was told mode %d of %s, which host %d has alone", j.seed, host, m, lv, other)
	}
	if m == lvmwire.EX && j.ends[host] == ends {
		j.alone[lv] = host
	}
}

// command is a client that asks at random until time is up.
type command struct {
	judge *judge
	rand  *rand.Rand
	host  int
	id    int
	h     *lvmlock.Engine
}

func (c *command) run(t *testing.T, until time.Time) {
	client := c.h.Connect(c.id, c.id)
	defer func() { client.Close() }()
	ask := func(text string) lvmwire.Reply { // commands that wait for one another are stopped by somebody
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		r := client.Do(ctx, request(t, text))
		if ctx.Err() != nil {
			client = c.h.Connect(c.id, c.id)
		}
		return r
	}
	for time.Now().Before(until) {
		time.Sleep(time.Duration(c.rand.IntN(300)) * time.Millisecond)
		switch n := c.rand.IntN(100); {
		case n < 60:
			c.lock(ask)
		case n < 80:
			c.unlock(ask)
		case n < 90:
			client.Close()
			client = c.h.Connect(c.id, c.id)
		case n < 94:
			mode := []string{"sh", "ex", "un"}[c.rand.IntN(3)]
			ask("lock_vg vg_name=vg mode=" + mode)
		case n < 96:
			ask("stop_vg vg_name=vg")
		case n < 97:
			done := c.judge.gives(c.host, "")
			ask("drop_vg vg_name=vg")
			done()
		default:
			ask("start_vg vg_name=vg vg_lock_type=sanlock vg_lock_args=1.0.0:lvmlock host_id=1 opts=wait")
		}
	}
}

// lock asks for an LV. In SH that may be a conversion, which gives EX back.
func (c *command) lock(ask func(string) lvmwire.Reply) {
	name := fmt.Sprintf("u%d", c.rand.IntN(3))
	mode := []string{"sh", "ex"}[c.rand.IntN(2)]
	opts := []string{"none", "persistent"}[c.rand.IntN(2)]
	if mode == "sh" {
		defer c.judge.gives(c.host, name)()
	}
	ends := c.judge.asking(c.host)
	r := ask(lv("vg", name, mode, opts))
	if r.Result == lvmwire.OK && opts == "persistent" {
		c.judge.granted(c.host, name, lvmwire.ParseMode(mode), ends)
	}
}

// unlock gives a lock back: what is about to be given back does not count any more.
func (c *command) unlock(ask func(string) lvmwire.Reply) {
	name := fmt.Sprintf("u%d", c.rand.IntN(3))
	opts := []string{"none", "persistent"}[c.rand.IntN(2)]
	defer c.judge.gives(c.host, name)()
	ask(lv("vg", name, "un", opts))
}

// TestNeverTwoOwners lets commands of three hosts do what they like, with a lock manager that is slow and
// fails. No LV may ever be active where the other hosts were told that they have it alone.
func TestNeverTwoOwners(t *testing.T) {
	granted := 0
	for seed := range uint64(6) {
		bubble(t, func(t *testing.T) {
			j := newJudge(t, seed)
			var mu sync.Mutex
			dice := rand.New(rand.NewPCG(seed, 0))
			m := fake.New(fake.Config{Type: lvmwire.Sanlock, Fault: func(op fake.Op) fake.Fault {
				mu.Lock()
				defer mu.Unlock()
				f := fake.Fault{
					Before: time.Duration(dice.IntN(200)) * time.Millisecond,
					After:  time.Duration(dice.IntN(200)) * time.Millisecond,
				}
				if op.Resource != "" && dice.IntN(10) == 0 {
					f.Err = &lvmlock.Error{Op: op.Name, What: op.Resource, Result: lvmwire.LockIO}
				}
				return f
			}})
			var all sync.WaitGroup
			until := time.Now().Add(2 * time.Minute)
			for host := range 3 {
				h := newHost(t, m.Host(uint64(host+1)))
				h.start(1, "vg", "sanlock")
				for id := range 4 {
					c := &command{judge: j, rand: rand.New(rand.NewPCG(seed, uint64(host*10+id+1))), host: host, id: id + 1, h: h.engine}
					all.Go(func() { c.run(t, until) })
				}
			}
			all.Wait()
			synctest.Wait()
			granted += j.told
		})
	}
	t.Logf("%d locks granted", granted)
	if granted < 300 {
		t.Errorf("only %d locks were granted: the test tests nothing", granted)
	}
}
