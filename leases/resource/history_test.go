package resource

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// A history is some minutes in the life of three hosts that take, convert and give back one lease with a
// value, while transfers fail, tear, hang and come late, and hosts crash, are reset and come back.

const (
	historyHosts = 3
	historySeeds = 80
	historyTurns = 60 // of each host: taking and giving back
)

var (
	historyTimes = timeouts.Set{IO: 2, Fire: 60}
	errDead      = errors.New("this host has crashed")
)

// history is one of them. mu guards what is below it.
type history struct {
	seed    uint64
	disks   []*memdisk.Disk
	referee *referee
	faults  float64 // of all transfers
	broken  breach

	mu      sync.Mutex
	calm    bool // nothing breaks any more
	present [historyHosts + 2]*incarnation
}

// breach is a rule that does not hold, to show that the referee sees what comes of it.
type breach string

const (
	deadTooEarly breach = "a crashed host is taken for dead before its watchdog has reset it"
	lostValue    breach = "the disk forgets a value after it has said that it is written"
	oldSectors   breach = "the disk goes back to what it was"
)

// incarnation is a host from a join to its reset.
type incarnation struct {
	h    *history
	self leases.Owner
	dice *rand.Rand // of the host's own goroutine
	devs []*faulty.Device
	over chan struct{} // closed by the reset

	mu      sync.Mutex // guards those below
	crashed time.Time  // zero: alive
	left    bool       // as a host does that leaves the lockspace
	lots    *rand.Rand // of its transfers
}

func (i *incarnation) dead() bool { return !i.died().IsZero() }

func (i *incarnation) died() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.crashed
}

// crash stops the host. Its clients go on until its watchdog fires.
func (i *incarnation) crash() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.crashed = time.Now()
	time.AfterFunc(time.Duration(i.lots.Float64()*float64(historyTimes.HostDead())), i.reset)
}

// quit leaves the lockspace.
func (i *incarnation) quit() {
	i.close()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.left = true
}

func (i *incarnation) hasLeft() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.left
}

// reset is the watchdog's: from now on nothing of the host reaches a disk.
func (i *incarnation) reset() {
	i.h.referee.believes(i.self, 0)
	i.close()
	close(i.over)
}

func (i *incarnation) close() {
	for _, d := range i.devs {
		d.Close()
	}
}

func (h *history) isCalm() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calm
}

// join starts an incarnation, which makes the one before it Free.
func (h *history) join(id leases.HostID, gen leases.Generation) *incarnation {
	i := &incarnation{
		h: h, self: host(id, gen), over: make(chan struct{}),
		dice: rand.New(rand.NewPCG(h.seed, uint64(id)<<32|uint64(gen))),
		lots: rand.New(rand.NewPCG(h.seed, uint64(id)<<32|uint64(gen)|1<<31)),
	}
	for _, d := range h.disks {
		i.devs = append(i.devs, faulty.Wrap(d.Open(i.self.String())))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.present[id] = i
	return i
}

func (i *incarnation) lease(t *testing.T, memory Memory) *Lease {
	cfg := Config{
		Space: testSpace, Name: testName, Geometry: small, Times: historyTimes, Memory: memory,
		Clock: monotime.At(monotime.Instant(1000e9), nil), Jitter: i.dice.Float64,
	}
	for d := range i.devs {
		cfg.Disks = append(cfg.Disks, Disk{Device: &wire{Device: i.devs[d], of: i}})
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Probe implements leases.Liveness for the host that asks. It knows what a read of the delta lease would say.
func (i *incarnation) Probe(ctx context.Context, o leases.Owner) (leases.Verdict, error) {
	f, latency := i.draw()
	if err := sleep(ctx, latency); err != nil {
		return 0, err
	}
	if i.dead() || f < i.h.faults/4 {
		return 0, &leases.Error{Op: "probe", Kind: leases.Timeout, Err: errBroken}
	}
	i.h.mu.Lock()
	owner := i.h.present[o.Host]
	i.h.mu.Unlock()
	if owner.self.Generation > o.Generation || owner.hasLeft() {
		return leases.Free, nil
	}
	died := owner.died()
	silent := time.Since(died)
	switch dead := historyTimes.HostDead(); {
	case died.IsZero() && f < 0.9:
		return leases.Alive, nil
	case died.IsZero():
		return leases.Failing, nil // it has missed a renewal
	case silent > dead || i.h.broken == deadTooEarly && silent > time.Second:
		return leases.Dead, nil
	case silent < historyTimes.HostFail():
		return leases.Alive, nil
	}
	return leases.Failing, nil
}

func (i *incarnation) draw() (chance float64, latency time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.lots.Float64(), time.Duration(i.lots.Int64N(int64(5 * time.Millisecond)))
}

// wire is the way from a host to a disk. It takes time, and things happen on it.
type wire struct {
	device.Device
	of *incarnation
}

func (w *wire) Read(ctx context.Context, off int64, n int) (*device.Buffer, error) {
	if err := w.happen(faulty.Read, off); err != nil {
		return nil, err
	}
	return w.Device.Read(ctx, off, n)
}

func (w *wire) Write(ctx context.Context, off int64, b *device.Buffer) error {
	if err := w.happen(faulty.Write, off); err != nil {
		b.Release()
		return err
	}
	if w.of.h.broken == lostValue && off == small.LVBOffset() {
		b.Release()
		return nil
	}
	return w.Device.Write(ctx, off, b)
}

// happen waits as long as the way is, and decides whether the transfer that follows is to break, and how.
func (w *wire) happen(k faulty.Kind, off int64) error {
	chance, latency := w.of.draw()
	time.Sleep(latency)
	if w.of.dead() {
		return errDead
	}
	if chance >= w.of.h.faults || w.of.h.isCalm() {
		return nil
	}
	chance, length := w.of.draw()
	late := time.Duration(chance * float64(10*historyTimes.OneIO()))
	gate := faulty.NewGate()
	actions := []faulty.Action{
		faulty.Fail(errBroken), faulty.FailAfterWriting(errBroken), faulty.Tear(0, errBroken),
		faulty.Late(late), faulty.LateAnswer(late), faulty.Stall(gate),
	}
	n := int(length) % len(actions)
	time.AfterFunc(late, func() { gate.Drop(errBroken) })
	w.of.h.referee.tell("%v: its %v at %d goes wrong, way %d, %v", w.of.self, k, off, n, late)
	w.of.h.referee.count("fault")
	w.Device.(*faulty.Device).Add(faulty.On(k, actions[n]).Times(1))
	return nil
}

// player is the life of one host id.
type player struct {
	*incarnation
	t    *testing.T
	l    *Lease
	g    *Grant
	mode leases.Mode // that its clients have
	dirt uint64      // value that is not yet known to be on the disk
}

// play lives through several incarnations.
func (h *history) play(t *testing.T, id leases.HostID) {
	turns := 0
	for gen := leases.Generation(1); ; gen++ {
		p := &player{incarnation: h.join(id, gen), t: t}
		p.l = p.lease(t, Memory{})
		var fuse *time.Timer
		if p.dice.IntN(3) != 0 && turns < historyTurns {
			fuse = time.AfterFunc(time.Duration(p.dice.Int64N(int64(4*time.Minute))), p.crash)
		}
		for ; turns < historyTurns && !p.dead(); turns++ {
			p.turn()
		}
		p.leave()
		if !p.dead() && (fuse == nil || fuse.Stop()) {
			p.quit()
			return
		}
		<-p.over
		h.referee.count("crash")
		time.Sleep(historyTimes.ShortDelay() + time.Duration(p.dice.Int64N(int64(2*time.Minute))))
	}
}

// believe is what the clients are told, as long as there is somebody to tell it.
func (p *player) believe(m leases.Mode) {
	p.mode = m
	if !p.dead() {
		p.h.referee.believes(p.self, m)
	}
}

func (p *player) rest(most time.Duration) {
	time.Sleep(time.Duration(p.dice.Int64N(int64(most))))
}

// turn does one thing, what is possible now.
func (p *player) turn() {
	p.rest(3 * time.Second)
	what := p.dice.IntN(10)
	switch {
	case p.l.Unsettled():
		p.settle()
	case p.g == nil:
		p.acquire(what)
	case what < 4 && p.mode == leases.Exclusive:
		p.convert(leases.Shared)
	case what < 4:
		p.convert(leases.Exclusive)
	default:
		p.release()
	}
}

func (p *player) acquire(what int) {
	req := Request{Mode: leases.Exclusive, NoWait: what%2 == 0, LVB: true}
	if what < 4 {
		req.Mode = leases.Shared
	}
	if what == 9 {
		p.l = p.lease(p.t, p.l.Memory()) // as a daemon does that forgets a lease that nobody uses
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*historyTimes.HostDead())
	defer cancel()
	g, err := p.l.Acquire(ctx, p.self, req, p)
	if p.dead() {
		return
	}
	if err != nil {
		p.h.referee.tell("%v has no %v lease: %v", p.self, req.Mode, err)
		return
	}
	p.g = g
	p.h.referee.grant(p.self, g.Mode, g.Version)
	p.believe(g.Mode)
	p.h.referee.sees(p.self, binary.LittleEndian.Uint64(g.LVB()))
	p.change()
}

// change lets the holder change the value, in memory.
func (p *player) change() {
	p.rest(2 * time.Second)
	if p.mode != leases.Exclusive || p.dice.IntN(4) == 0 || p.dead() {
		return
	}
	p.dirt = p.h.referee.ticket()
	if err := p.g.SetLVB(binary.LittleEndian.AppendUint64(nil, p.dirt)); err != nil {
		p.h.referee.protest("%v: %v", p.self, err)
	}
}

func (p *player) convert(to leases.Mode) {
	if to == leases.Shared {
		p.believe(leases.Shared)
	}
	ended := p.flush(to == leases.Shared)
	version := p.g.Version
	err := p.l.Convert(context.Background(), p.g, to, p.dice.IntN(2) == 0, p)
	if p.dead() {
		return
	}
	ended(err)
	p.refused("convert", err)
	if p.g.Version != version {
		p.h.referee.grant(p.self, p.g.Mode, p.g.Version)
	}
	if err == nil {
		p.h.referee.count("convert")
	}
	p.believe(p.g.Mode)
	p.change()
}

func (p *player) release() {
	ended := p.flush(p.mode == leases.Exclusive)
	p.believe(0)
	err := p.l.Release(context.Background(), p.g, "")
	if p.dead() {
		return
	}
	ended(err)
	p.g, p.dirt = nil, 0 // with the grant goes a value that could not be written
	p.refused("release", err)
}

// flush tells the referee that a changed value is about to be written, and the result what became of it.
func (p *player) flush(does bool) func(error) {
	value := p.dirt
	if value == 0 || !does {
		return func(error) {}
	}
	p.h.referee.writes(p.self, value)
	return func(err error) {
		if err == nil {
			p.h.referee.wrote(p.self, value)
			p.dirt = 0
		}
	}
}

// refused notes why something was not done. That the leader is not ours any more must not happen to the
// living; but of several disks the one that has our leader may be the one that cannot be read, while a late
// write has put an older leader on another (PROOF.md, 4). Stock's number is the same then (-250,
// tools/interop TestReleaseOfSeveralDisks).
func (p *player) refused(what string, err error) {
	if err == nil {
		return
	}
	p.h.referee.tell("%v could not %s: %v", p.self, what, err)
	switch kind := leases.KindOf(err); kind {
	case leases.ReleaseOwner, leases.ReleaseVersion:
		if len(p.devs) == 1 {
			p.h.referee.protest("%v is told at %s that it has lost the lease", p.self, what)
		}
	default:
	}
}

func (p *player) settle() {
	if err := p.l.Settle(context.Background()); err != nil && !p.dead() {
		p.h.referee.tell("%v could not settle: %v", p.self, err)
	}
}

// leave gives back what is held, while nothing breaks any more.
func (p *player) leave() {
	for range 20 {
		if p.dead() || p.g == nil && !p.l.Unsettled() {
			return
		}
		p.rest(20 * time.Second)
		if p.g != nil && !p.l.Unsettled() {
			p.release()
		} else {
			p.settle()
		}
	}
	p.h.referee.protest("%v cannot settle", p.self)
}

// run plays a history and returns what went wrong.
func (h *history) run(t *testing.T) string {
	h.referee = newReferee()
	for range 1 + 2*(h.seed%4/3) {
		h.disks = append(h.disks, formatted(t, small, 8))
	}
	h.faults = []float64{0, 0.01, 0.04, 0.1}[h.seed/4%4]
	if h.broken == oldSectors {
		go func() {
			time.Sleep(20 * time.Second)
			was := h.disks[0].Bytes(0, small.BallotLength(8))
			time.Sleep(30 * time.Second)
			h.disks[0].Poke(0, was)
		}()
	}
	var all sync.WaitGroup
	for id := range leases.HostID(historyHosts) {
		all.Go(func() { h.play(t, id+1) })
	}
	all.Wait()
	h.mu.Lock()
	h.calm = true
	h.mu.Unlock()
	// Whatever has happened, the lease can be had, and its value is the last one.
	p := &player{incarnation: h.join(historyHosts+1, 1), t: t}
	p.l = p.lease(t, Memory{})
	for range 5 {
		if p.acquire(5); p.g != nil {
			break
		}
	}
	if p.g == nil {
		h.referee.protest("the lease cannot be had any more")
	}
	p.leave()
	p.quit()
	return h.referee.broken()
}

// TestHistories: no two hosts ever hold the lease exclusively, none exclusively beside one that shares it; no
// value that was written is lost; versions grow; and in the end the lease can be had.
func TestHistories(t *testing.T) {
	seeds := uint64(historySeeds)
	switch {
	case testing.Short():
		seeds /= 8
	case os.Getenv("TENURE_EXPLORE") == "deep":
		seeds *= 150
	}
	sum := map[string]int{}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			h := &history{seed: seed}
			if wrong := h.run(t); wrong != "" {
				t.Errorf("seed %d: %s", seed, wrong)
			}
			for what, n := range h.referee.counts {
				sum[what] += n
			}
		})
	}
	t.Logf("%d histories: %v", seeds, sum)
	for _, what := range []string{"exclusive", "shared", "convert", "crash", "fault", "value"} {
		if sum[what] < int(seeds) {
			t.Errorf("only %d times %s: the histories are about something else", sum[what], what)
		}
	}
}

// TestHistoriesNotice shows that the referee is not blind: each breach is seen within a few histories.
func TestHistoriesNotice(t *testing.T) {
	for _, b := range []breach{deadTooEarly, lostValue, oldSectors} {
		t.Run(string(b), func(t *testing.T) {
			for seed := range uint64(20) {
				var wrong string
				synctest.Test(t, func(t *testing.T) {
					wrong = (&history{seed: seed, broken: b}).run(t)
				})
				if wrong != "" {
					t.Logf("seed %d: %s", seed, wrong)
					return
				}
			}
			t.Error("not noticed")
		})
	}
}
