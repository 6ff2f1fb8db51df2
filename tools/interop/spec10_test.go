package interop

// The ten points of spec ondisk 10, and where each is tested:
//
//	 1  golden records and areas                leases/ondisk
//	 2  seen by the others                      TestJoinBesideDebian, TestDeadHost
//	 3  held, released, numbers                 TestPoint3
//	 4  races                                   TestPoint4
//	 5  committed by the loser                  TestPoint4, TestPoint5
//	 6  shared and exclusive, conversion        TestPoint6; dead SH holders: TestDeadHost
//	 7  killed at each transfer of an acquire   TestPoint7
//	 8  late writes                             leases/device, leases/resource
//	 9  the four holes of stock                 leases/resource, lockspace
//	10  unknown flags and minors                TestPoint10

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/leases/timeouts"
	membership "github.com/tenurelock/tenure/lockspace"
)

// leader reads the leader of a lease from the device.
func (d disk) leader(t testing.TB, r lease) ondisk.Leader {
	t.Helper()
	l, err := ondisk.DecodeLeader(d.sectorAt(t, r.offset, 0))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// block reads a host's block of a lease from the device.
func (d disk) block(t testing.TB, r lease, host uint64) ondisk.HostBlock {
	t.Helper()
	b, err := ondisk.DecodeHostBlock(d.sectorAt(t, r.offset, int64(host)+1))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// must fails the test unless an exchange gave the wanted result.
func must(t testing.TB, who fmt.Stringer, what string, want int32) func(rv int32, err error) {
	t.Helper()
	return func(rv int32, err error) {
		t.Helper()
		if err != nil || rv != want {
			t.Fatalf("%s: %s: %d, %v; want %d", who, what, rv, err, want)
		}
	}
}

// TestPoint3: a held lease is refused with -243, a released one is granted; each grant is one version more,
// and each host uses ballot numbers of its own.
func TestPoint3(t *testing.T) {
	waiting(t, 15)
	together(t,
		trial{"512", func(t *testing.T) { inTurn(t, newDisk(t, 512, 1)) }},
		trial{"4096", func(t *testing.T) { inTurn(t, newDisk(t, 4096, 1)) }})
}

func inTurn(t *testing.T, d disk) {
	const rounds = 20
	nodes := cluster(t, d.path, tenure, debian)
	clients := []*conn{nodes[0].client(t), nodes[1].client(t)}
	r := d.lease(1)
	for i := range rounds {
		holder, other := i%2, 1-i%2
		must(t, nodes[holder], "acquire", 0)(clients[holder].acquire(r, 0))
		must(t, nodes[other], "acquire what is held", resultHeld)(clients[other].acquire(r, 0))
		l := d.leader(t, r)
		if got, want := l.LVer, uint64(i+1); got != want {
			t.Errorf("round %d: version %d, want %d", i, got, want)
		}
		if got, want := l.OwnerID, nodes[holder].id; got != want || l.Timestamp == 0 {
			t.Errorf("round %d: owner %d since %d, want %d", i, got, l.Timestamp, want)
		}
		if got, want := d.block(t, r, nodes[holder].id).MBal%l.MaxHosts, nodes[holder].id; got != want {
			t.Errorf("round %d: ballot number is %d modulo max_hosts, want %d", i, got, want)
		}
		must(t, nodes[holder], "release", 0)(clients[holder].release(r))
		if l := d.leader(t, r); l.Timestamp != 0 {
			t.Errorf("round %d: not free after the release: %+v", i, l)
		}
	}
	for _, n := range nodes {
		n.leave(t)
	}
}

// How TestPoint4 races. Debian's loser sleeps for up to a second, and its daemon works on 8 requests at once.
const (
	raceLeases = 8
	raceTime   = 50 * time.Second
	raceSpread = 4 * time.Millisecond // between the two starts
	raceSlow   = 5 * time.Second      // longer than any back-off, shorter than any wait for a dead host
)

// tally is what all races of TestPoint4 gave.
type tally struct {
	mu      sync.Mutex
	rounds  int
	wins    map[string]int // by kind
	byLoser map[string]int // wins whose leader was written by the other host, by the winner's kind
	losses  map[string]int // by kind and result
}

// TestPoint4 lets a host of ours and one of Debian's ask for a free lease at the same moment, again and
// again. Exactly one gets it. Point 5 is judged on the way: if the loser wrote the winner's leader, the
// winner's release leaves the leader alone, and both may ask again at once.
func TestPoint4(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	measuring(t, 65)
	d := newDisk(t, 512, raceLeases)
	// The larger host id has the better ballot numbers: half of the races are with ours below Debian's.
	nodes := cluster(t, d.path, tenure, debian, tenure)
	sum := &tally{wins: map[string]int{}, byLoser: map[string]int{}, losses: map[string]int{}}
	until := time.Now().Add(raceTime)
	var wg sync.WaitGroup
	for i := range raceLeases {
		a, b := nodes[1], nodes[i%2*2]
		ca, cb := a.client(t), b.client(t)
		wg.Go(func() {
			race := race{disk: d, lease: d.lease(i + 1), nodes: [2]*node{a, b}, clients: [2]*conn{ca, cb}}
			for time.Now().Before(until) {
				if err := race.round(t, sum); err != nil {
					t.Errorf("%s: %v", race.lease.name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d rounds; won %v; of these committed by the loser %v; lost %v", sum.rounds, sum.wins, sum.byLoser,
		sum.losses)
	if sum.rounds < 100 {
		t.Errorf("only %d rounds", sum.rounds)
	}
	if !t.Failed() {
		for _, n := range nodes {
			n.leave(t)
		}
	}
}

// race is two clients of different hosts on one lease.
type race struct {
	disk    disk
	lease   lease
	nodes   [2]*node
	clients [2]*conn
	lver    uint64
}

func (r *race) round(t *testing.T, sum *tally) error {
	var results [2]int32
	var errs [2]error
	var took [2]time.Duration
	var wg sync.WaitGroup
	for i := range r.clients {
		wg.Go(func() {
			time.Sleep(rand.N(raceSpread))
			begin := time.Now()
			results[i], errs[i] = r.clients[i].acquire(r.lease, 0)
			took[i] = time.Since(begin)
		})
	}
	wg.Wait()
	w := -1
	for i := range results {
		if errs[i] != nil {
			return errs[i]
		}
		if took[i] > raceSlow {
			return fmt.Errorf("%s took %v for %d", r.nodes[i], took[i], results[i])
		}
		if results[i] == 0 && w >= 0 {
			return fmt.Errorf("both won, after version %d", r.lver)
		}
		if results[i] == 0 {
			w = i
		}
	}
	if w < 0 {
		return fmt.Errorf("nobody won after version %d: %s %d, %s %d", r.lver, r.nodes[0], results[0],
			r.nodes[1], results[1])
	}
	return r.won(t, sum, w, results[1-w])
}

// won judges what the winner has on the disk, and its release.
func (r *race) won(t *testing.T, sum *tally, w int, lost int32) error {
	winner, loser := r.nodes[w], r.nodes[1-w]
	switch lost {
	case resultHeld, resultLostRace, resultOther:
	default:
		return fmt.Errorf("%s lost with %d", loser, lost)
	}
	l := r.disk.leader(t, r.lease)
	held, err := heldVersion(r.clients[w])
	if err != nil {
		return err
	}
	if l.OwnerID != winner.id || l.Timestamp == 0 || l.LVer != held || held <= r.lver {
		return fmt.Errorf("%s holds version %d after %d, but the leader is %+v", winner, held, r.lver, l)
	}
	r.lver = held
	if rv, err := r.clients[w].release(r.lease); err != nil || rv != 0 {
		return fmt.Errorf("%s: release: %d, %w", winner, rv, err)
	}
	after := r.disk.leader(t, r.lease)
	if block := r.disk.block(t, r.lease, winner.id); !block.Released() {
		return fmt.Errorf("%s released, but its block says nothing of it", winner)
	}
	byLoser := l.WriteID != l.OwnerID
	if byLoser && after != l {
		return fmt.Errorf("%s changed the leader that %s wrote: %s", winner, loser, cmp.Diff(l, after))
	}
	if !byLoser && after.Timestamp != 0 {
		return fmt.Errorf("%s released, but the leader is %+v", winner, after)
	}
	sum.mu.Lock()
	defer sum.mu.Unlock()
	sum.rounds++
	sum.wins[winner.kind.String()]++
	sum.losses[fmt.Sprintf("%s %d", loser.kind, lost)]++
	if byLoser {
		sum.byLoser[winner.kind.String()]++
	}
	return nil
}

// TestPoint6: shared with shared, shared against exclusive, conversion both ways, ours and Debian's in both
// parts.
func TestPoint6(t *testing.T) {
	waiting(t, 40)
	var trials []trial
	for _, kinds := range [][2]kind{{tenure, debian}, {debian, tenure}} {
		for _, sector := range []int64{512, 4096} {
			trials = append(trials, trial{
				fmt.Sprintf("%s before %s, %d", kinds[0], kinds[1], sector),
				func(t *testing.T) { sharedAndExclusive(t, newDisk(t, sector, 1), kinds) },
			})
		}
	}
	together(t, trials...)
}

func sharedAndExclusive(t *testing.T, d disk, kinds [2]kind) {
	nodes := cluster(t, d.path, kinds[0], kinds[1])
	n, o := nodes[0], nodes[1]
	a, b := n.client(t), o.client(t)
	ex := d.lease(1)
	sh := ex.asShared()

	must(t, n, "acquire SH", 0)(a.acquire(sh, 0))
	must(t, o, "acquire SH beside SH", 0)(b.acquire(sh, 0))
	holders(t, d, ex, n.id, o.id)
	must(t, n, "convert SH to EX beside SH", resultAgain)(a.convert(ex))
	holders(t, d, ex, n.id, o.id)
	must(t, o, "release SH", 0)(b.release(sh))
	holders(t, d, ex, n.id)
	must(t, o, "acquire EX beside SH", resultAgain)(b.acquire(ex, 0))
	holders(t, d, ex, n.id)
	must(t, n, "convert SH to EX", 0)(a.convert(ex))
	if l := d.leader(t, ex); l.OwnerID != n.id || l.Timestamp == 0 {
		t.Errorf("converted to EX, but the leader is %+v", l)
	}
	holders(t, d, ex)
	must(t, o, "acquire SH beside EX", resultHeld)(b.acquire(sh, 0))
	must(t, n, "convert EX to SH", 0)(a.convert(sh))
	holders(t, d, ex, n.id)
	must(t, o, "acquire SH beside SH that was EX", 0)(b.acquire(sh, 0))
	holders(t, d, ex, n.id, o.id)
	must(t, n, "release SH", 0)(a.release(sh))
	must(t, o, "convert SH to EX", 0)(b.convert(ex))
	must(t, n, "acquire EX beside EX", resultHeld)(a.acquire(ex, 0))
	must(t, o, "release EX", 0)(b.release(ex))
	must(t, n, "acquire EX", 0)(a.acquire(ex, 0))
	must(t, n, "release EX", 0)(a.release(ex))
	n.leave(t)
	o.leave(t)
}

// holders demands that exactly the given hosts are marked as SH holders on the disk.
func holders(t *testing.T, d disk, r lease, want ...uint64) {
	t.Helper()
	var got []uint64
	for id := uint64(1); id <= 2; id++ {
		if block := d.block(t, r, id); block.Shared() {
			got = append(got, id)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("SH holders on disk (-want +got):\n%s", diff)
	}
}

// Marks of a newer sanlock that TestPoint10 leaves on the disk.
const (
	newMinor    = 9
	unknownFlag = 0x1000
)

// TestPoint10: a newer minor version and bytes without a meaning survive us. Flags of a newer sanlock, which
// may mean a lease that never times out (spec ondisk 8), make us refuse by default, and survive us if we are
// told to go on.
func TestPoint10(t *testing.T) {
	waiting(t, 20)
	flagged := func(l *ondisk.Leader) {
		newer(l)
		l.Flags |= unknownFlag
	}
	together(t,
		trial{"newer lease", func(t *testing.T) { survivesDaemon(t, newer) }},
		trial{"newer lockspace", func(t *testing.T) { survivesMembership(t, false, newer) }},
		trial{"unknown flags", func(t *testing.T) { refused(t, flagged) }},
		trial{"unknown flags of a lease, told to go on", func(t *testing.T) { survivesLease(t, flagged) }},
		trial{"unknown flags of a lockspace, told to go on", func(t *testing.T) {
			survivesMembership(t, true, flagged)
		}})
}

// newer raises the minor version and fills what no version of sanlock reads.
func newer(l *ondisk.Leader) {
	l.Version = l.Version&^0xFFFF | newMinor
	l.Unused1, l.Unused2 = 0x1122334455667788, 0x99aa
	copy(l.SpaceName[40:], "tail")
	l.Reserved[0], l.Reserved[55] = 7, 8
}

// poke changes the leader record at off.
func (d disk) poke(t *testing.T, off int64, change func(*ondisk.Leader)) ondisk.Leader {
	t.Helper()
	p := d.sectorAt(t, off, 0)
	l, err := ondisk.DecodeLeader(p)
	if err != nil {
		t.Fatal(err)
	}
	change(&l)
	l.Encode(p)
	d.write(t, off, p)
	return l
}

func survivesDaemon(t *testing.T, change func(*ondisk.Leader)) {
	d := newDisk(t, 512, 1)
	n := cluster(t, d.path, tenure)[0]
	r := d.lease(1)
	before := d.poke(t, r.offset, change)
	c := n.client(t)
	must(t, n, "acquire", 0)(c.acquire(r, acquireLVB))
	same(t, before, d.leader(t, r))
	must(t, n, "convert EX to SH", 0)(c.convert(r.asShared()))
	same(t, before, d.leader(t, r))
	must(t, n, "convert SH to EX", 0)(c.convert(r))
	same(t, before, d.leader(t, r))
	must(t, n, "release", 0)(c.release(r))
	same(t, before, d.leader(t, r))
	n.leave(t)
}

func survivesLease(t *testing.T, change func(*ondisk.Leader)) {
	d := newDisk(t, 512, 1)
	r := d.lease(1)
	before := d.poke(t, r.offset, change)
	c := localConfig(d, r, openDevice(t, d))
	c.AllowUnknownFlags = true
	l, err := resource.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []leases.Mode{leases.Exclusive, leases.Shared} {
		self := leases.Owner{Host: 1, Generation: 1}
		g, err := l.Acquire(t.Context(), self, resource.Request{Mode: mode}, alive{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, before, d.leader(t, r))
		if err := l.Release(t.Context(), g, ""); err != nil {
			t.Fatal(err)
		}
		same(t, before, d.leader(t, r))
	}
}

func survivesMembership(t *testing.T, goOn bool, change func(*ondisk.Leader)) {
	d := newDisk(t, 512, 1)
	before := d.poke(t, 0, change)
	check := func(when string) uint64 {
		t.Helper()
		l := d.leader(t, lease{})
		b, stamp := before, l.Timestamp
		b.ResourceName = l.ResourceName // the host's name
		if l.OwnerID != 1 || l.OwnerGeneration != 1 {
			t.Errorf("%s: owner %d generation %d", when, l.OwnerID, l.OwnerGeneration)
		}
		same(t, b, l)
		return stamp
	}
	s, err := membership.Join(t.Context(), membership.Config{
		Name: "LS", Host: 1, HostName: "host1", Device: openDevice(t, d), IO: ioTimeout,
		Fire: timeouts.DefaultFire, Clock: monotime.System(), Log: zerolog.Nop(), AllowUnknownFlags: goOn,
	})
	if err != nil {
		t.Fatal(err)
	}
	stamp := check("joined")
	for deadline := time.Now().Add(2 * watchSlop * time.Second); check("renewed") == stamp; {
		if time.Now().After(deadline) {
			t.Fatal("no renewal")
		}
		time.Sleep(pollPause)
	}
	if err := s.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stamp := check("left"); stamp != 0 {
		t.Errorf("timestamp %d after leaving", stamp)
	}
}

// same demands that what we do not understand is as it was.
func same(t *testing.T, before, after ondisk.Leader) {
	t.Helper()
	for _, l := range []*ondisk.Leader{&before, &after} {
		l.OwnerID, l.OwnerGeneration, l.LVer, l.Timestamp, l.Checksum = 0, 0, 0, 0, 0
		l.WriteID, l.WriteGeneration, l.WriteTimestamp = 0, 0, 0
	}
	if before != after {
		t.Errorf("changed (-before +after):\n%s", cmp.Diff(before, after))
	}
}

func refused(t *testing.T, mark func(*ondisk.Leader)) {
	d := newDisk(t, 512, 1)
	n := cluster(t, d.path, tenure)[0]
	r := d.lease(1)
	before := d.poke(t, r.offset, mark)
	rv, err := n.client(t).acquire(r, 0)
	if err != nil || rv >= 0 {
		t.Fatalf("acquire of a marked lease: %d, %v", rv, err)
	}
	if after := d.leader(t, r); after != before {
		t.Errorf("a refused acquire changed the leader: %s", cmp.Diff(before, after))
	}
	n.leave(t)
	before = d.poke(t, 0, mark)
	rv, err = addLockspace(n.runDir, lockspace{name: "LS", hostID: n.id, path: d.path}, ioTimeout)
	if err != nil || rv >= 0 {
		t.Errorf("add_lockspace of a marked one: %d, %v", rv, err)
	}
	if after := d.leader(t, lease{}); after != before {
		t.Errorf("a refused add_lockspace changed the record: %s", cmp.Diff(before, after))
	}
	if log := n.tail(); !strings.Contains(log, "newer") {
		t.Errorf("the log does not say why:\n%s", log)
	}
}
