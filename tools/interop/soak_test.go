package interop

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// The size of the soak: two hosts of ours, both in every lockspace, with half of the clients each. Half of what
// clients ask for is one of the few hot leases, so that they meet.
const (
	soakSpaces  = 64
	soakLeases  = 512 // per lockspace
	soakClients = 256
	soakHot     = 48
	soakHosts   = 16 // slots of each lease
	soakLVB     = 512
	crowd       = 1000 // clients that hold a lease each
	// soakIO is an io_timeout that 256 clients do not reach by keeping the device busy.
	soakIO = 10
)

// soakTime is 20 s; TENURE_SOAK makes it ten minutes, or the duration that it says.
func soakTime() time.Duration {
	s := os.Getenv("TENURE_SOAK")
	if d, err := time.ParseDuration(s); err == nil {
		return d
	}
	if s != "" {
		return 10 * time.Minute
	}
	return 20 * time.Second
}

// TestSoak lets clients take, convert, write to, give back and abandon leases at random, and judges every
// answer. When all have left, both daemons must have what they had before the first client came.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 50 seconds")
	}
	begin := alone(t)
	d := disk{newLoop(t, 512, (soakSpaces*(soakLeases+1))<<20), layouts[512]}
	s := &soak{disk: d, states: make([]leaseState, soakSpaces*soakLeases)}
	s.format(t, soakSpaces, soakLeases, soakIO)
	nodes := []*node{start(t, tenure, 1), start(t, tenure, 2)}
	s.membership(t, nodes, addSpace)
	begin()
	// One turn of everybody first: what a daemon keeps for good, it has by then.
	s.everybody(t, nodes, 2*time.Second)
	var before []usage
	for _, n := range nodes {
		before = append(before, n.settled(t))
	}
	noGrowth(t, 1, nodes, before, func() { s.everybody(t, nodes, soakTime()) })
	s.membership(t, nodes, removeSpace)
	t.Logf("%d grants, %d refusals (%d after many tries to share), %d conversions, %d deaths", s.grants.Load(),
		s.refusals.Load(), s.tired.Load(), s.conversions.Load(), s.deaths.Load())
	if s.tired.Load() > s.grants.Load()/1000 {
		t.Error("too many asks to share were given up")
	}
	if s.grants.Load() == 0 || s.refusals.Load() == 0 || s.conversions.Load() == 0 || s.deaths.Load() == 0 {
		t.Error("something of what is to be tested never happened")
	}
}

// TestThousandClients gives a thousand clients a lease each, and takes them back twice: by release, and by the
// clients' deaths.
func TestThousandClients(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 40 seconds")
	}
	begin := alone(t)
	d := disk{newLoop(t, 512, (crowd+1)<<20), layouts[512]}
	s := &soak{disk: d}
	s.format(t, 1, crowd, soakIO)
	n := start(t, tenure, 1)
	if rv, err := addSpace(n, s.space(n, 0)); err != nil || rv != 0 {
		t.Fatalf("add_lockspace: %d, %v", rv, err)
	}
	n.space = s.space(n, 0)
	begin()
	clients := make([]*conn, crowd)
	all := func(what string, do func(i int) (int32, error)) {
		t.Helper()
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				if rv, err := do(i); err != nil || rv != 0 {
					t.Errorf("%s: client %d: %d, %v", what, i, rv, err)
				}
			})
		}
		wg.Wait()
		t.Logf("%s: %v", what, time.Since(begin).Round(time.Millisecond))
	}
	// The dead of the round before may still be buried.
	acquire := func(i int) (int32, error) {
		for {
			rv, err := clients[i].acquire(s.lease(i), 0)
			if err != nil || rv != resultAgain {
				return rv, err
			}
			time.Sleep(pollPause)
		}
	}
	empty := n.settled(t)
	round := func() {
		all("register", func(i int) (int32, error) {
			c, err := client(n.runDir)
			clients[i] = c
			return 0, err
		})
		all("acquire", acquire)
		all("release", func(i int) (int32, error) { return clients[i].release(s.lease(i)) })
		all("acquire again", acquire)
		all("close", func(i int) (int32, error) { return 0, clients[i].Close() })
	}
	round() // what the daemon keeps for good, it has by then
	before := n.settled(t)
	before.files = empty.files
	noGrowth(t, 3, []*node{n}, []usage{before}, round)
	n.leave(t)
}

// soak is what the clients share.
type soak struct {
	disk
	states []leaseState

	grants, refusals, tired, conversions, deaths atomic.Int64 // tired: refusals with -246

	failed atomic.Bool // somebody got a wrong answer: what follows would only be noise
}

// leaseState is the referee's knowledge of one lease. A client books its end before it releases, and its hold
// after the grant, so that two owners in the table are two owners in the world.
type leaseState struct {
	mu        sync.Mutex
	exclusive int // client that holds it EX, 0 nobody
	shared    int // how many hold it SH
	counter   uint64
}

// format writes lockspaces S0 … one after the other, each followed by its leases. Only the sectors that are
// not zero are written: the device is new.
func (s *soak) format(t *testing.T, spaces, leasesEach int, io uint16) {
	t.Helper()
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := ondisk.Geometry{Sector: int(s.sector), Align: int(s.align)}
	put := func(p []byte, area int) {
		if _, err := f.WriteAt(p, int64(area)*s.align); err != nil {
			t.Fatal(err)
		}
	}
	for i := range spaces {
		name := leases.NameOf(fmt.Sprintf("S%d", i))
		area := i * (leasesEach + 1)
		put(ondisk.FormatLockspace(g, name, io), area)
		// One of them is made as a whole, a megabyte; the others differ in the name.
		head := ondisk.FormatResource(g, name, leases.NameOf("R"), soakHosts)[:2*s.sector]
		leader, err := ondisk.DecodeLeader(head)
		if err != nil {
			t.Fatal(err)
		}
		for k := range leasesEach {
			leader.ResourceName = leases.NameOf(fmt.Sprintf("R%d", k))
			leader.Encode(head)
			put(head, area+1+k)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func (s *soak) space(n *node, i int) lockspace {
	return lockspace{fmt.Sprintf("S%d", i), n.id, s.path, int64(i*(soakLeases+1)) * s.align}
}

// lease returns a lease by its number over all lockspaces.
func (s *soak) lease(i int) lease {
	space, k := 0, i
	if len(s.states) > 0 {
		space, k = i/soakLeases, i%soakLeases
	}
	at := space*(soakLeases+1) + 1 + k
	return lease{
		space: fmt.Sprintf("S%d", space), name: fmt.Sprintf("R%d", k), path: s.path, offset: int64(at) * s.align,
	}
}

func addSpace(n *node, l lockspace) (int32, error)    { return addLockspace(n.runDir, l, soakIO) }
func removeSpace(n *node, l lockspace) (int32, error) { return remLockspace(n.runDir, l) }

// membership lets all nodes join or leave all lockspaces at once.
func (s *soak) membership(t *testing.T, nodes []*node, do func(*node, lockspace) (int32, error)) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range soakSpaces * len(nodes) {
		wg.Go(func() {
			n, i := nodes[i%len(nodes)], i/len(nodes)
			if rv, err := do(n, s.space(n, i)); err != nil || rv != 0 {
				t.Errorf("%s: S%d: %d, %v", n, i, rv, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.Fatal(nodes[0].tail(), nodes[1].tail())
	}
}

func (s *soak) everybody(t *testing.T, nodes []*node, limit time.Duration) {
	t.Helper()
	until := time.Now().Add(limit)
	var wg sync.WaitGroup
	for i := range soakClients {
		wg.Go(func() {
			p := &player{soak: s, id: i + 1, node: nodes[i%len(nodes)], rnd: rand.New(rand.NewPCG(1, uint64(i)))}
			if err := p.play(until); err != nil && !s.failed.Swap(true) {
				t.Errorf("client %d of %s: %v", p.id, p.node, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// player is one client.
type player struct {
	*soak
	id   int
	node *node
	rnd  *rand.Rand
	c    *conn
}

func (p *player) play(until time.Time) (err error) {
	for time.Now().Before(until) && !p.failed.Load() {
		if p.c == nil {
			if p.c, err = client(p.node.runDir); err != nil {
				return err
			}
		}
		if err := p.round(); err != nil {
			return err
		}
	}
	if p.c != nil {
		return p.c.Close()
	}
	return nil
}

// round takes a lease, uses it, and gives it back or dies with it.
func (p *player) round() error {
	i := p.rnd.IntN(len(p.states))
	if p.rnd.IntN(2) == 0 {
		i = p.rnd.IntN(soakHot) * (len(p.states) / soakHot)
	}
	r, st := p.lease(i), &p.states[i]
	r.shared = p.rnd.IntN(100) < 40
	rv, err := p.c.acquire(r, acquireLVB)
	switch {
	case err != nil:
		return err
	case rv != 0:
		return p.refused("acquire", r, rv)
	}
	p.grants.Add(1)
	if err := p.booked(st, r); err != nil {
		return err
	}
	if err := p.use(st, &r); err != nil {
		return err
	}
	st.mu.Lock()
	if r.shared {
		st.shared--
	} else {
		st.exclusive = 0
	}
	st.mu.Unlock()
	if p.rnd.IntN(20) == 0 {
		p.deaths.Add(1)
		err, p.c = p.c.Close(), nil
		return err
	}
	if rv, err := p.c.release(r); err != nil || rv != 0 {
		return fmt.Errorf("release of %+v: %d, %v", r, rv, err)
	}
	return nil
}

// refused knows the answers that other clients of this host and of the other one can cause.
func (p *player) refused(what string, r lease, rv int32) error {
	p.refusals.Add(1)
	switch rv {
	case resultSharedRetries:
		p.tired.Add(1)
		return nil
	case resultExists, resultBusy, resultAgain, resultHeld, resultLostRace, resultOther, resultOwnedRetry:
		time.Sleep(time.Millisecond)
		return nil
	}
	return fmt.Errorf("%s of %+v: unexpected answer %d", what, r, rv)
}

// booked enters a grant and looks whether it could be given.
func (p *player) booked(st *leaseState, r lease) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.exclusive != 0 || !r.shared && st.shared > 0 {
		return fmt.Errorf("%+v granted while client %d holds it EX and %d SH", r, st.exclusive, st.shared)
	}
	if r.shared {
		st.shared++
	} else {
		st.exclusive = p.id
	}
	return nil
}

// use checks the counter in the LVB, counts if the lease is exclusive, and sometimes converts.
func (p *player) use(st *leaseState, r *lease) error {
	if err := p.check(st, *r); err != nil {
		return err
	}
	if !r.shared {
		lvb := binary.LittleEndian.AppendUint64(make([]byte, 0, soakLVB), st.counter+1)
		if rv, err := p.c.setLVB(*r, lvb[:soakLVB]); err != nil || rv != 0 {
			return fmt.Errorf("set_lvb of %+v: %d, %v", *r, rv, err)
		}
		st.mu.Lock()
		st.counter++
		st.mu.Unlock()
	}
	if p.rnd.IntN(4) != 0 {
		return nil
	}
	// The table must never say less than what the daemon knows: it says SH before and EX after.
	to := *r
	to.shared = !r.shared
	st.mu.Lock()
	if to.shared {
		st.exclusive, st.shared = 0, st.shared+1
	}
	st.mu.Unlock()
	rv, err := p.c.convert(to)
	if err != nil || rv != 0 {
		if err == nil && !to.shared {
			return p.refused("convert", to, rv)
		}
		return fmt.Errorf("convert to %+v: %d, %v", to, rv, err)
	}
	p.conversions.Add(1)
	*r = to
	if to.shared {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.shared--
	if st.exclusive != 0 || st.shared > 0 {
		return fmt.Errorf("%+v converted while client %d holds it EX and %d SH", to, st.exclusive, st.shared)
	}
	st.exclusive = p.id
	return nil
}

func (p *player) check(st *leaseState, r lease) error {
	st.mu.Lock()
	want := st.counter
	st.mu.Unlock()
	got, err := readCounter(p.c, r)
	if err == nil && got != want {
		err = fmt.Errorf("the LVB of %+v says %d, want %d", r, got, want)
	}
	return err
}

// settled returns what a daemon takes of the machine, once it does not change any more.
func (n *node) settled(t testing.TB) usage {
	t.Helper()
	last := n.usage(t)
	for range 20 {
		time.Sleep(pollPause)
		now := n.usage(t)
		if now.files == last.files && now.threads == last.threads {
			return now
		}
		last = now
	}
	return last
}

// peaks is how often a daemon may take more of the machine than ever before, since the runtime keeps what the worst
// moment took, and that may come late; what leaks comes again.
const peaks = 3

// noGrowth plays rounds, after each of which the nodes must have as many descriptors as before, and little more memory
// and threads. If one has more of these, it is judged by that in as many rounds again.
func noGrowth(t *testing.T, rounds int, nodes []*node, before []usage, play func()) {
	t.Helper()
	grew := make([]int, len(nodes))
	for round := 0; round < rounds && !t.Failed(); round++ {
		play()
		for i, n := range nodes {
			grown := n.grown(t, before[i])
			if grown == "" {
				continue
			}
			if grew[i]++; grew[i] > peaks {
				t.Errorf("%s, and had grown %d times before", grown, peaks)
				return
			}
			t.Log(grown)
			now := n.usage(t)
			before[i].rssMB, before[i].threads, round = now.rssMB, now.threads, -1
		}
	}
}

// grown waits until a daemon has as many descriptors as before, and returns what else it has much more of.
func (n *node) grown(t *testing.T, before usage) string {
	t.Helper()
	const (
		patience    = 10 * time.Second
		moreMB      = 30
		moreThreads = 20
	)
	now := n.usage(t)
	for deadline := time.Now().Add(patience); now.files > before.files && time.Now().Before(deadline); {
		time.Sleep(pollPause)
		now = n.usage(t)
	}
	t.Logf("%s: %d descriptors, %d threads, RSS %d MB; before %d, %d, %d", n, now.files, now.threads, now.rssMB,
		before.files, before.threads, before.rssMB)
	switch {
	case now.files > before.files:
		t.Errorf("%s has %d descriptors, had %d", n, now.files, before.files)
	case now.rssMB > before.rssMB+moreMB:
		return fmt.Sprintf("%s: RSS %d MB, was %d", n, now.rssMB, before.rssMB)
	case now.threads > before.threads+moreThreads:
		return fmt.Sprintf("%s has %d threads, had %d", n, now.threads, before.threads)
	}
	return ""
}

// descriptors counts the open files of a process.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	all, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
