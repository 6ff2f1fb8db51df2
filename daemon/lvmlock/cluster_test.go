package lvmlock_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestCluster lets clients of two hosts do what they like while calls on the lock manager are slow and fail,
// daemons crash, hosts die and answers get lost. What a client may believe, from what it was told, the lock
// manager must hold for its host; and it holds nothing for two hosts that exclude each other. So no two hosts
// have EX. Nothing may hang, nothing may be left over, and the engine must keep to the contract of a lock
// manager.
func TestCluster(t *testing.T) {
	var total tally
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		var wrong string
		bubble(t, func(t *testing.T) { wrong = p.carryOut(t, &total, nil) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
	t.Logf("%d plans: %d requests, %d locks told, %d beliefs held against the lock manager",
		total.plans, total.asked, total.told, total.compared)
	if total.told < total.plans || total.compared < total.told {
		t.Errorf("too little happened: %+v", total)
	}
}

// tally counts what a test did.
type tally struct{ plans, asked, told, compared int }

// plan is what happens.
type plan struct {
	typ   lvmwire.LockType
	seed  uint64 // of delays and errors
	fails int    // calls in a hundred that fail
	deeds []deed
}

// deed is one thing that a client or fate does.
type deed struct {
	host, client int
	what         string // of deeds
	name         string // of the resource
	mode         lvmwire.Mode
	lasting      bool // persistent
	adopt        bool
	deaf         bool // the answer does not reach the client, which closes
	pause        time.Duration
}

const (
	clusterHosts   = 2
	clusterClients = 3
)

func drawPlan(rt *rapid.T) plan {
	whats := []string{
		"lock", "lock", "lock", "lock", "lock", "lock", "lock", "lock", "lock", "un", "un", "un", "un", "un", "un",
		"update", "close", "close", "stop", "start", "start", "start", "drop", "crash", "die", "lose",
	}
	pauses := []time.Duration{0, 0, 30, 200, 700, 3000}
	one := rapid.Custom(func(rt *rapid.T) deed {
		return deed{
			host:    rapid.IntRange(0, clusterHosts-1).Draw(rt, "host"),
			client:  rapid.IntRange(0, clusterClients-1).Draw(rt, "client"),
			what:    rapid.SampledFrom(whats).Draw(rt, "what"),
			name:    rapid.SampledFrom([]string{"u1", "u1", "u2", "VGLK", "VGLK", "GLLK"}).Draw(rt, "name"),
			mode:    rapid.SampledFrom([]lvmwire.Mode{lvmwire.SH, lvmwire.EX}).Draw(rt, "mode"),
			lasting: rapid.Bool().Draw(rt, "lasting"),
			adopt:   rapid.IntRange(0, 5).Draw(rt, "adopt") == 5,
			deaf:    rapid.IntRange(0, 9).Draw(rt, "deaf") == 9,
			pause:   rapid.SampledFrom(pauses).Draw(rt, "pause") * time.Millisecond,
		}
	})
	return plan{
		typ:   rapid.SampledFrom([]lvmwire.LockType{lvmwire.Sanlock, lvmwire.DLM}).Draw(rt, "type"),
		seed:  rapid.Uint64().Draw(rt, "seed"),
		fails: rapid.SampledFrom([]int{0, 0, 5, 20}).Draw(rt, "fails"),
		deeds: rapid.SliceOfN(one, 15, 120).Draw(rt, "deeds"),
	}
}

// cluster is a plan being carried out.
type cluster struct {
	t     *testing.T
	plan  plan
	tally *tally
	nodes []*node
	story []string
	wrong string

	mu    sync.Mutex
	count map[fake.Op]uint64
	calm  bool // no more faults
	blame string
}

// node is a host.
type node struct {
	id      int
	m       *fake.Manager
	wrap    func(*fake.Manager) lvmlock.LockManager
	e       *lvmlock.Engine
	patrons [clusterClients]*patron
	sick    bool                    // it crashed or lost its lockspace: all it must do is keep its locks
	stops   int                     // how often its lockspace was told to end
	lasting map[string]lvmwire.Mode // LVs that are active, as was told
	changes map[string]int          // of what lasting says
	open    map[string]int          // persistent requests under way
}

// patron is a client.
type patron struct {
	c   *lvmlock.Client
	has map[string]lvmwire.Mode // what it may believe to hold for itself
	req *pendingDeed
}

// pendingDeed is a request that is not answered yet, and what was true when it was made.
type pendingDeed struct {
	deed    deed
	un      bool
	before  lvmwire.Mode
	stops   int
	changes int
	done    chan lvmwire.Reply
}

// carryOut returns what went wrong. lie, if not nil, puts a lock manager that is broken in place of the good
// one.
func (p plan) carryOut(t *testing.T, total *tally, lie func(*fake.Manager) lvmlock.LockManager) string {
	if lie == nil {
		lie = func(m *fake.Manager) lvmlock.LockManager { return m }
	}
	c := &cluster{t: t, plan: p, tally: total, count: map[fake.Op]uint64{}}
	total.plans++
	m := fake.New(fake.Config{Type: p.typ, Fault: c.fault})
	for i := range clusterHosts {
		n := &node{id: i + 1, m: m.Host(uint64(i + 1)), wrap: lie}
		n.reset()
		c.nodes = append(c.nodes, n)
		c.boot(n, "none")
	}
	for _, d := range p.deeds {
		c.act(d)
		time.Sleep(d.pause)
		c.look()
	}
	c.finish()
	for _, n := range c.nodes {
		n.e.Close()
	}
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong == "" {
		c.wrong = c.blame
	}
	if c.wrong == "" {
		return ""
	}
	return c.wrong + "\n" + strings.Join(c.story, "\n")
}

// fault makes calls slow and fail. What is against the contract is seen here, as the calls' ends are not.
func (c *cluster) fault(op fake.Op) fake.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm {
		return fake.Fault{}
	}
	// The same in every run, whatever else happens at the same time.
	c.count[op]++
	h := fnv.New64a()
	fmt.Fprint(h, op, c.count[op])
	dice := rand.New(rand.NewPCG(c.plan.seed, h.Sum64()))
	f := fake.Fault{
		Before: time.Duration(dice.IntN(300)) * time.Millisecond,
		After:  time.Duration(dice.IntN(300)) * time.Millisecond,
	}
	if op.Resource != "" && dice.IntN(100) < c.plan.fails {
		f.Err = &lvmlock.Error{Op: op.Name, What: op.Resource, Result: lvmwire.LockIO}
		if dice.IntN(2) == 0 && op.Name == "lock" {
			f.Err = &lvmlock.Error{Op: op.Name, What: op.Resource, Result: lvmwire.Again, Retry: dice.IntN(2) == 0}
		}
	}
	return f
}

func (c *cluster) broken(format string, args ...any) {
	if c.wrong == "" {
		c.wrong = fmt.Sprintf(format, args...)
	}
}

func (n *node) reset() {
	n.lasting, n.changes, n.open = map[string]lvmwire.Mode{}, map[string]int{}, map[string]int{}
}

// boot makes a daemon and starts the VG.
func (c *cluster) boot(n *node, opts string) {
	e, err := lvmlock.New(lvmlock.Config{
		Managers: []lvmlock.LockManager{&strict{LockManager: n.wrap(n.m), c: c}}, Log: zerolog.Nop(),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	n.e = e
	for i := range n.patrons {
		n.patrons[i] = &patron{c: e.Connect(n.id*100+i, i), has: map[string]lvmwire.Mode{}}
	}
	c.start(n, opts)
}

func (c *cluster) start(n *node, opts string) lvmwire.Result {
	admin := n.e.Connect(1, 1)
	defer admin.Close()
	typ := c.plan.typ.String()
	r := admin.Do(context.Background(), request(c.t, fmt.Sprintf(
		"start_vg vg_name=vg vg_lock_type=%s vg_lock_args=%s vg_uuid=u version=1 host_id=%d opts=wait%s",
		typ, vgArgs(typ), n.id, opts)))
	return r.Result
}

func isLV(name string) bool { return name[0] == 'u' }

// act does one deed.
func (c *cluster) act(d deed) {
	n := c.nodes[d.host]
	p := n.patrons[d.client]
	c.story = append(c.story, fmt.Sprintf("  host %d client %d: %s %s mode %d lasting %v adopt %v deaf %v, %v",
		d.host+1, d.client, d.what, d.name, d.mode, d.lasting, d.adopt, d.deaf, d.pause))
	switch d.what {
	case "lock", "un":
		if p.req == nil {
			c.send(n, p, d)
		}
	case "update":
		if p.req == nil {
			c.promptly(n, p.c, "vg_update vg_name=vg version=7")
		}
	case "close":
		c.hangUp(n, p)
	case "stop", "drop":
		c.end(n, d.what)
	case "start":
		c.start(n, map[bool]string{true: ",adopt_only"}[d.adopt])
	case "crash", "die":
		c.crash(n, d.what == "die", d.adopt)
	case "lose":
		n.m.Lose("lvm_vg")
		n.sick = true
	}
}

// send makes a request for a lock; what it may change nobody believes until it is answered.
func (c *cluster) send(n *node, p *patron, d deed) {
	d.lasting = d.lasting && isLV(d.name)
	q := &pendingDeed{deed: d, un: d.what == "un", stops: n.stops, done: make(chan lvmwire.Reply, 1)}
	mode, opts := d.mode.String(), "none"
	if q.un {
		mode = "un"
	}
	if d.lasting {
		opts = "persistent,"
		q.before = n.lasting[d.name]
		n.open[d.name]++
		n.unsure(d.name)
	} else {
		q.before = p.has[d.name]
		delete(p.has, d.name)
	}
	if d.adopt && !q.un {
		opts += "adopt"
	}
	q.changes = n.changes[d.name]
	text := map[string]string{
		"VGLK": "lock_vg vg_name=vg mode=" + mode + " opts=" + opts,
		"GLLK": "lock_gl mode=" + mode + " opts=" + opts,
	}[d.name]
	if text == "" {
		text = lv("vg", d.name, mode, opts)
	}
	req, client := request(c.t, text), p.c
	p.req = q
	go func() { q.done <- client.Do(context.Background(), req) }()
}

// unsure is for an LV whose persistent lock changes: nobody may rely on it, nor on what leaned on it.
func (n *node) unsure(name string) {
	n.changes[name]++
	n.lasting[name] = lvmwire.UN
	for _, p := range n.patrons {
		delete(p.has, name)
	}
}

// hangUp closes a connection, and makes a new one.
func (c *cluster) hangUp(n *node, p *patron) {
	p.c.Close()
	if q := p.req; q != nil {
		<-q.done // nobody hears it
		c.forget(n, q)
		p.req = nil
	}
	p.has = map[string]lvmwire.Mode{}
	p.c = n.e.Connect(1, 1)
}

// forget is for a request of which nobody knows what it did.
func (c *cluster) forget(n *node, q *pendingDeed) {
	if q.deed.lasting {
		n.open[q.deed.name]--
		n.changes[q.deed.name]++
	}
}

// end stops the lockspace: LV locks survive a stop that is refused, and a drop takes all.
func (c *cluster) end(n *node, what string) {
	n.stops++
	for _, p := range n.patrons {
		for name := range p.has {
			if !isLV(name) {
				delete(p.has, name)
			}
		}
	}
	if what == "drop" {
		n.unsure("u1")
		n.unsure("u2")
	}
	admin := n.e.Connect(1, 1)
	defer admin.Close()
	c.promptly(n, admin, what+"_vg vg_name=vg")
}

// crash ends the daemon, or its host. What is active stays active if it is only the daemon.
func (c *cluster) crash(n *node, host, adopt bool) {
	c.hear()
	n.e.Close()
	for _, p := range n.patrons {
		if p.req != nil {
			<-p.req.done
			c.forget(n, p.req)
		}
	}
	n.stops++
	n.sick = true
	opts := map[bool]string{true: ",adopt_only"}[adopt]
	if host {
		n.m.Die()
		n.sick = false
		n.reset()
		opts = ""
	}
	n.m = n.m.Host(uint64(n.id))
	c.boot(n, opts)
}

// hear takes the answers that have come.
func (c *cluster) hear() {
	synctest.Wait()
	for _, n := range c.nodes {
		for _, p := range n.patrons {
			if p.req == nil {
				continue
			}
			select {
			case r := <-p.req.done:
				c.tally.asked++
				q := p.req
				p.req = nil
				c.believe(n, p, q, r.Result)
			default:
			}
		}
	}
}

// believe takes an answer for what it says.
func (c *cluster) believe(n *node, p *patron, q *pendingDeed, r lvmwire.Result) {
	d := q.deed
	if q.deed.lasting {
		n.open[d.name]--
	}
	sure := n.changes[d.name] == q.changes && n.open[d.name] == 0 && (isLV(d.name) || n.stops == q.stops)
	if d.lasting {
		n.changes[d.name]++
	}
	now := q.before // an error changes nothing
	switch {
	case q.un:
		now = lvmwire.UN
	case r == lvmwire.OK:
		now = d.mode
		c.tally.told++
	case r == lvmwire.Already:
		now = d.mode
	}
	if d.deaf && r == lvmwire.OK && q.before == lvmwire.UN {
		now = lvmwire.UN
	}
	if sure && d.lasting {
		n.lasting[d.name] = now
	} else if sure && now != lvmwire.UN {
		p.has[d.name] = now
	}
	if d.deaf {
		p.c.Undelivered()
		c.hangUp(n, p)
	}
}

// look takes the answers and holds all beliefs against the lock manager.
func (c *cluster) look() {
	c.hear()
	for _, n := range c.nodes {
		alone := map[string]int{}
		for i, p := range n.patrons {
			for name, m := range p.has {
				c.compare(n, fmt.Sprintf("client %d", i), name, m)
				other, taken := alone[name]
				if taken && !isLV(name) && max(m, n.patrons[other].has[name]) == lvmwire.EX {
					c.broken("host %d: clients %d and %d both believe to hold %s", n.id, i, other, name)
				}
				alone[name] = i
			}
		}
		for name, m := range n.lasting {
			c.compare(n, "an active LV", name, m)
		}
	}
}

func (c *cluster) compare(n *node, who, name string, m lvmwire.Mode) {
	if m == lvmwire.UN {
		return
	}
	c.tally.compared++
	if held := c.holds(n, name); held < m {
		c.broken("host %d: %s believes to hold %s in %v, the lock manager holds it in %v", n.id, who, name, m, held)
	}
}

// finish ends all that goes wrong, lets everybody unlock, and looks what is left.
func (c *cluster) finish() {
	c.mu.Lock()
	c.calm = true
	c.mu.Unlock()
	c.story = append(c.story, "  no more faults")
	for _, n := range c.nodes {
		if n.sick { // its orphans are right to keep others out
			c.crash(n, true, false)
		}
	}
	for before := -1; ; {
		time.Sleep(20 * time.Second)
		c.look()
		waiting := c.unlockAll()
		if waiting == 0 {
			break
		}
		if waiting == before { // though all that did not wait had unlocked
			for _, n := range c.nodes {
				c.untangle(n)
			}
		}
		before = waiting
	}
	for _, n := range c.nodes {
		c.leftOver(n)
	}
}

// untangle ends a client that waits, as a user would: two that wait for what the other holds wait for ever,
// here and in stock. Who waits for nobody was forgotten.
func (c *cluster) untangle(n *node) {
	var waits []*patron
	for _, p := range n.patrons {
		if p.req != nil {
			waits = append(waits, p)
		}
	}
	for _, p := range waits {
		if d := p.req.deed; len(waits) == 1 || c.holds(n, d.name) == lvmwire.UN {
			c.broken("host %d: a client is not answered: %+v", n.id, d)
		}
	}
	if len(waits) > 0 {
		c.hangUp(n, waits[0])
	}
}

// holds is what the lock manager says of a host.
func (c *cluster) holds(n *node, name string) lvmwire.Mode {
	if name == "GLLK" && c.plan.typ == lvmwire.DLM {
		return n.m.Holds("global", name)
	}
	return n.m.Holds("vg", name)
}

// unlockAll gives back what clients without a request under way may have, and returns how many others there
// are.
func (c *cluster) unlockAll() (waiting int) {
	for _, n := range c.nodes {
		for _, p := range n.patrons {
			if p.req != nil {
				waiting++
				continue
			}
			c.hangUp(n, p)
			for _, name := range []string{"u1", "u2"} {
				n.unsure(name)
				c.promptly(n, p.c, lv("vg", name, "un", "persistent"))
				n.unsure(name)
			}
		}
	}
	return waiting
}

// leftOver looks at a host where nobody wants anything any more: nothing is held, and the VG can be had.
func (c *cluster) leftOver(n *node) {
	time.Sleep(20 * time.Second)
	for _, name := range []string{"u1", "u2", "VGLK", "GLLK"} {
		if m := c.holds(n, name); m != lvmwire.UN {
			c.broken("host %d: %s is held in %v, and nobody wants it", n.id, name, m)
		}
	}
	if r := c.start(n, ""); r != lvmwire.OK && r != lvmwire.Exists {
		c.broken("host %d: the VG cannot be started: %d", n.id, r)
	}
	last := n.e.Connect(1, 1)
	defer last.Close()
	c.promptly(n, last, "start_wait") // lvm_global may still be starting
	all := []string{"lock_gl mode=ex", "lock_vg vg_name=vg mode=ex", lv("vg", "u1", "ex", "none")}
	for _, text := range all {
		if r := c.promptly(n, last, text); r != lvmwire.OK {
			c.broken("host %d: %s: %d, though nobody else wants it", n.id, text, r)
		}
	}
}

// promptly makes a request that waits for nobody.
func (c *cluster) promptly(n *node, client *lvmlock.Client, text string) lvmwire.Result {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := client.Do(ctx, request(c.t, text))
	c.tally.asked++
	if ctx.Err() != nil {
		c.broken("host %d: no answer to %s", n.id, text)
	}
	return r.Result
}

// strict sees calls that are against the contract: the lock manager in memory refuses them as BadRequest.
type strict struct {
	lvmlock.LockManager
	c *cluster
}

func (s *strict) Prepare(
	ctx context.Context, vg lvmlock.VG, o lvmlock.PrepareOptions,
) (lvmlock.Lockspace, uint64, error) {
	space, previous, err := s.LockManager.Prepare(ctx, vg, o)
	if err != nil {
		return nil, 0, err
	}
	if g, ok := space.(lvmlock.GlobalLocker); ok {
		return struct {
			*strictSpace
			lvmlock.GlobalLocker
		}{&strictSpace{space, s.c}, g}, previous, nil
	}
	return &strictSpace{space, s.c}, previous, nil
}

type strictSpace struct {
	lvmlock.Lockspace
	c *cluster
}

func (s *strictSpace) see(what string, r lvmlock.Resource, err error) error {
	if lvmlock.ResultOf(err) == lvmwire.BadRequest {
		s.c.mu.Lock()
		defer s.c.mu.Unlock()
		s.c.blame = fmt.Sprintf("against the contract: %s %s: %v", what, r.Name, err)
	}
	return err
}

func (s *strictSpace) Lock(
	ctx context.Context, r lvmlock.Resource, m lvmwire.Mode, o lvmlock.LockOptions,
) (lvmlock.Value, error) {
	v, err := s.Lockspace.Lock(ctx, r, m, o)
	return v, s.see("lock", r, err)
}

func (s *strictSpace) Convert(
	ctx context.Context, r lvmlock.Resource, from, to lvmwire.Mode, v *lvmlock.Value,
) error {
	return s.see("convert", r, s.Lockspace.Convert(ctx, r, from, to, v))
}

func (s *strictSpace) Unlock(
	ctx context.Context, r lvmlock.Resource, from lvmwire.Mode, v *lvmlock.Value,
) error {
	return s.see("unlock", r, s.Lockspace.Unlock(ctx, r, from, v))
}

// liar is a lock manager that is broken in one way.
type liar struct {
	lvmlock.LockManager
	way string
}

type lyingSpace struct {
	lvmlock.Lockspace
	way string
}

func (l *liar) Prepare(
	ctx context.Context, vg lvmlock.VG, o lvmlock.PrepareOptions,
) (lvmlock.Lockspace, uint64, error) {
	space, previous, err := l.LockManager.Prepare(ctx, vg, o)
	return &lyingSpace{space, l.way}, previous, err
}

func (l *lyingSpace) Lock(
	ctx context.Context, r lvmlock.Resource, m lvmwire.Mode, o lvmlock.LockOptions,
) (lvmlock.Value, error) {
	v, err := l.Lockspace.Lock(ctx, r, m, o)
	switch {
	case l.way == "grants what another host has" && lvmlock.ResultOf(err) == lvmwire.Again:
		err = nil
	case l.way == "never ends a lock":
		<-ctx.Done()
	}
	return v, err
}

func (l *lyingSpace) Convert(
	ctx context.Context, r lvmlock.Resource, from, to lvmwire.Mode, v *lvmlock.Value,
) error {
	if l.way == "does not convert" {
		return nil
	}
	return l.Lockspace.Convert(ctx, r, from, to, v)
}

func (l *lyingSpace) Unlock(
	ctx context.Context, r lvmlock.Resource, from lvmwire.Mode, v *lvmlock.Value,
) error {
	switch l.way {
	case "keeps what is given back":
		return nil
	case "gives back and denies it":
		if err := l.Lockspace.Unlock(ctx, r, from, v); err != nil {
			return err
		}
		return errors.New("not given back")
	case "never ends an unlock":
		<-ctx.Done()
	}
	return l.Lockspace.Unlock(ctx, r, from, v)
}

// TestClusterSees puts broken lock managers behind the engines: TestCluster must see each.
func TestClusterSees(t *testing.T) {
	for _, way := range []string{
		"grants what another host has", "does not convert", "keeps what is given back", "gives back and denies it",
		"never ends a lock", "never ends an unlock",
	} {
		lie := func(m *fake.Manager) lvmlock.LockManager { return &liar{m, way} }
		seen := ""
		for seed := 0; seen == "" && seed < 50; seed++ {
			p := rapid.Custom(drawPlan).Example(seed)
			p.typ = lvmwire.DLM
			var total tally
			bubble(t, func(t *testing.T) { seen = p.carryOut(t, &total, lie) })
		}
		if seen == "" {
			t.Errorf("a lock manager that %s was not seen", way)
		}
		t.Logf("%s: %s", way, strings.SplitN(seen, "\n", 2)[0])
	}
}
