package hosts_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/lockspace/hosts"
)

const (
	self  = 1
	other = 2
	fire  = 60
)

var (
	space = leases.NameOf("LS1")
	g512  = ondisk.Geometry{Sector: 512, Align: ondisk.MiB}
)

// at is a time of the observer, in seconds.
func at(s float64) monotime.Instant { return monotime.Instant(s * float64(time.Second)) }

func record(gen, timestamp uint64, io uint16) ondisk.Leader {
	l := ondisk.NewDelta(g512, space, io)
	l.OwnerID, l.OwnerGeneration, l.Timestamp = other, gen, timestamp
	l.ResourceName = leases.NameOf("hostB")
	return l
}

func sector(l ondisk.Leader, bits ...uint64) []byte {
	p := make([]byte, 512)
	l.Encode(p)
	for _, b := range bits {
		ondisk.BitmapSet(p, b)
	}
	return p
}

func table() *hosts.Table {
	return hosts.New(hosts.Config{Self: self, Space: space, Fire: fire, Hold: 12 * time.Second})
}

func observe(t *testing.T, tab *hosts.Table, now monotime.Instant, p []byte) hosts.Notice {
	t.Helper()
	n, err := tab.Observe(now, other, p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func stateOf(tab *hosts.Table, now monotime.Instant) leases.Verdict {
	for _, v := range tab.Views(now) {
		if v.Host == other {
			return v.State
		}
	}
	return 0
}

// The ladder of spec ondisk 3.8 and the strictness of 9.32: fail and dead come strictly after their times, by
// the io_timeout that the host left on disk.
func TestLadder(t *testing.T) {
	const ns = 1e-9
	for _, io := range []uint16{1, 2, 5, 10, 30, 255} {
		d := float64(io)
		for _, c := range []struct {
			after       float64
			once, moved leases.Verdict
		}{
			{0, leases.Unknown, leases.Alive},
			{8 * d, leases.Unknown, leases.Alive},
			{8*d + ns, leases.Failing, leases.Failing},
			{8*d + fire, leases.Failing, leases.Failing},
			{8*d + fire + ns, leases.Dead, leases.Dead},
			{1e6, leases.Dead, leases.Dead},
		} {
			once, moved := table(), table()
			last := record(1, 101, io)
			observe(t, once, at(50), sector(last))
			observe(t, moved, at(40), sector(record(1, 100, io)))
			observe(t, moved, at(50), sector(last))
			now := at(50) + monotime.Instant(c.after*float64(time.Second)+0.5)
			for _, x := range []struct {
				tab  *hosts.Table
				want leases.Verdict
			}{{once, c.once}, {moved, c.moved}} {
				observe(t, x.tab, now, sector(last)) // an unchanged sector is no sign of life
				who := leases.Owner{Host: other, Generation: 1}
				if got := x.tab.Verdict(now, who, last); got != x.want || stateOf(x.tab, now) != x.want {
					t.Errorf("io %d, %v s silent: verdict %v, state %v, want %v",
						io, c.after, got, stateOf(x.tab, now), x.want)
				}
			}
		}
	}
}

// A host that comes when all others are known has changed its sector, and so lives.
func TestNewcomerIsAlive(t *testing.T) {
	tab := table()
	tab.Whole()
	last := record(1, 101, 2)
	observe(t, tab, at(20), sector(last))
	if got := stateOf(tab, at(20)); got != leases.Alive {
		t.Errorf("state %v, want %v", got, leases.Alive)
	}
	if got := tab.Verdict(at(21), leases.Owner{Host: other, Generation: 1}, last); got != leases.Alive {
		t.Errorf("verdict %v, want %v", got, leases.Alive)
	}
}

func TestVerdictOfIncarnation(t *testing.T) {
	live := record(3, 100, 2)
	free := record(3, 0, 2)
	older := record(2, 0, 2)
	alien := record(3, 100, 2)
	alien.OwnerID = 7
	for _, c := range []struct {
		name  string
		gen   leases.Generation
		fresh ondisk.Leader
		want  leases.Verdict
	}{
		{"seen once", 3, live, leases.Unknown},
		{"newer took the host id", 2, live, leases.Free},
		{"from the future of a format", 4, live, leases.Unknown},
		{"left", 3, free, leases.Free},
		{"left after a newer one", 2, free, leases.Free},
		{"remnant of an older one", 3, older, leases.Unknown},
		{"another host id", 3, alien, leases.Free},
		{"never used", 3, ondisk.NewDelta(g512, space, 10), leases.Free},
	} {
		tab := table()
		observe(t, tab, at(10), sector(c.fresh))
		if got := tab.Verdict(at(9), leases.Owner{Host: other, Generation: c.gen}, c.fresh); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	if got := table().Verdict(at(1e6), leases.Owner{Host: other, Generation: 3}, live); got != leases.Unknown {
		t.Errorf("not observed: got %v", got)
	}
}

// A free record of an older generation frees the incarnation only after its silence.
func TestRemnantNeedsSilence(t *testing.T) {
	tab, who := table(), leases.Owner{Host: other, Generation: 3}
	observe(t, tab, at(0), sector(record(3, 50, 2)))
	observe(t, tab, at(4), sector(record(3, 54, 2)))
	late := record(2, 0, 2)
	observe(t, tab, at(8), sector(late))
	for _, c := range []struct {
		at   float64
		want leases.Verdict
	}{{8, leases.Alive}, {24, leases.Alive}, {24.1, leases.Failing}, {84, leases.Failing}, {84.1, leases.Dead}} {
		if got := tab.Verdict(at(c.at), who, late); got != c.want {
			t.Errorf("at %v: got %v, want %v", c.at, got, c.want)
		}
	}
}

// Spec ondisk 9.3: a host with d=2 judges an owner with d=30. Stock takes its own io_timeout until it has
// looked once, and steals after 76 s what is protected for 300 s.
func TestForeignTimeoutIsTheirs(t *testing.T) {
	const own = 2
	stockDead := func(silent time.Duration, cached uint32) bool {
		return silent > timeouts.Of(cached, own, fire).HostDead()
	}
	theirs := record(1, 100, 30)
	tab, who := table(), leases.Owner{Host: other, Generation: 1}
	observe(t, tab, at(0), sector(theirs))
	for s := range 301 {
		silent := time.Duration(s) * time.Second
		if tab.Verdict(at(float64(s)), who, theirs).Gone() {
			t.Fatalf("taken after %v", silent)
		}
		if s == 77 && !stockDead(silent, 0) {
			t.Error("the model of stock does not show the hole")
		}
	}
	if got := tab.Verdict(at(300.1), who, theirs); got != leases.Dead {
		t.Errorf("after 300.1 s: %v", got)
	}
	// What was known before counts if the disk says less, and the other way round.
	less := theirs
	less.IOTimeout = 1
	if got := tab.Verdict(at(299), who, less); got != leases.Failing {
		t.Errorf("a smaller io_timeout on disk: %v", got)
	}
	more := theirs
	more.IOTimeout = 60
	if got := tab.Verdict(at(500), who, more); got != leases.Failing {
		t.Errorf("a larger io_timeout on disk: %v", got)
	}
}

func TestUnknownTimeoutIsTheLongest(t *testing.T) {
	tab, who, l := table(), leases.Owner{Host: other, Generation: 1}, record(1, 100, 0)
	observe(t, tab, at(0), sector(l))
	if got := tab.Verdict(at(8*256+60), who, l); got != leases.Failing {
		t.Errorf("io_timeout 0 after 8·256+60 s: %v", got)
	}
	if got := tab.Verdict(at(8*256+61), who, l); got != leases.Dead {
		t.Errorf("io_timeout 0 after 8·256+61 s: %v", got)
	}
}

// Features of a newer sanlock may mean a lease that never times out.
func TestNewerFeaturesNeverDie(t *testing.T) {
	for _, change := range []func(*ondisk.Leader){
		func(l *ondisk.Leader) { l.Flags |= 0x100 },
		func(l *ondisk.Leader) { l.Version++ },
	} {
		l := record(1, 100, 2)
		change(&l)
		who := leases.Owner{Host: other, Generation: 1}
		tab := table()
		observe(t, tab, at(0), sector(l))
		if got := tab.Verdict(at(1e6), who, l); got != leases.Failing {
			t.Errorf("got %v", got)
		}
		told := hosts.New(hosts.Config{Self: self, Space: space, Fire: fire, AllowUnknownFlags: true})
		observe(t, told, at(0), sector(l))
		if got := told.Verdict(at(1e6), who, l); got != leases.Dead {
			t.Errorf("allowed: got %v", got)
		}
	}
}

// Spec ondisk 9.26: what does not verify never makes a host free or dead, and its changes are life.
func TestBadSectors(t *testing.T) {
	good := sector(record(1, 100, 2))
	spoil := func(off int, v byte) []byte {
		p := append([]byte(nil), good...)
		p[off] ^= v
		return p
	}
	for name, p := range map[string][]byte{
		"magic": spoil(0, 1), "version": spoil(6, 1), "space": spoil(56, 1), "checksum": spoil(168, 1),
		"timestamp": spoil(152, 16), "owner": spoil(32, 4), "zeros": make([]byte, 512),
	} {
		tab := table()
		observe(t, tab, at(0), good)
		observe(t, tab, at(1), sector(record(1, 101, 2)))
		if _, err := tab.Observe(at(30), other, p); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := stateOf(tab, at(31)); got != leases.Alive {
			t.Errorf("%s: %v, a change is life", name, got)
		}
		if got := stateOf(tab, at(1e6)); got != leases.Failing {
			t.Errorf("%s: %v for ever, want FAIL", name, got)
		}
		if v := tab.Views(at(31))[0]; v.Name != "hostB" || v.Owner.Generation != 1 || v.Timestamp != 101 || !v.Bad {
			t.Errorf("%s: the record of before is lost: %+v", name, v)
		}
		observe(t, tab, at(40), sector(record(1, 101, 2)))
		if got := stateOf(tab, at(1e6)); got != leases.Dead {
			t.Errorf("%s: repaired, and then silent: %v", name, got)
		}
	}
	// A host that was free is not free while its sector cannot be read.
	tab := table()
	observe(t, tab, at(0), sector(record(1, 0, 2)))
	bad := sector(record(1, 0, 2))
	bad[168] ^= 1
	if _, err := tab.Observe(at(1), other, bad); err == nil || stateOf(tab, at(2)) == leases.Free {
		t.Errorf("damaged free record: %v, state %v", err, stateOf(tab, at(2)))
	}
	if _, err := tab.Observe(at(1), other, bad[:100]); err == nil {
		t.Error("short sector: no error")
	}
}

func TestOwnStateAndNeverUsed(t *testing.T) {
	tab := table()
	mine := record(1, 100, 2)
	mine.OwnerID = self
	for id, l := range map[leases.HostID]ondisk.Leader{self: mine, 5: ondisk.NewDelta(g512, space, 2)} {
		if _, err := tab.Observe(at(0), id, sector(l)); err != nil {
			t.Fatal(err)
		}
	}
	views := tab.Views(at(1e6))
	if len(views) != 1 || views[0].Host != self || views[0].State != leases.Alive {
		t.Errorf("got %+v", views)
	}
	if got := tab.Verdict(at(1e6), leases.Owner{Host: self, Generation: 1}, mine); got != leases.Alive {
		t.Errorf("own incarnation: %v", got)
	}
	if tab.Generation(self) != 1 || tab.Generation(5) != 0 {
		t.Error("generations")
	}
}

func TestViews(t *testing.T) {
	tab := table()
	observe(t, tab, at(3.7), sector(record(1, 100, 2)))
	observe(t, tab, at(8.2), sector(record(1, 104, 2), self))
	observe(t, tab, at(12.9), sector(record(1, 104, 2), self))
	want := []hosts.View{{
		Host: other, Owner: leases.Owner{Host: other, Generation: 1}, Name: "hostB", Timestamp: 104, IO: 2,
		State: leases.Alive, LastCheck: 12, LastLive: 8, LastReq: 8,
	}}
	if diff := cmp.Diff(want, tab.Views(at(13))); diff != "" {
		t.Error(diff)
	}
}

// Spec ondisk 3.6: an event is delivered at each renewal of its sender while our bit is up; requests are
// looked at once per hold time.
func TestNotices(t *testing.T) {
	tab := table()
	send := func(ts, event uint64, bits ...uint64) []byte {
		l := record(1, ts, 2)
		l.WriteID, l.WriteGeneration, l.WriteTimestamp = 7, event, 9
		return sector(l, bits...)
	}
	from := leases.Owner{Host: other, Generation: 1}
	event := hosts.Event{Generation: 7, Number: 8, Data: 9}
	request := hosts.Event{Generation: 7, Data: 9}
	for _, c := range []struct {
		name   string
		at     float64
		sector []byte
		want   hosts.Notice // but for the timestamp, which is the sector's
	}{
		{"first seen", 0, send(1, 0), hosts.Notice{From: from, Name: "hostB", NewOwner: true}},
		{"bit of somebody else", 4, send(5, 8, 3), hosts.Notice{From: from, Name: "hostB"}},
		{"event", 8, send(9, 8, self, 3), hosts.Notice{
			From: from, Name: "hostB", Event: event, Deliver: true, Examine: true,
		}},
		{"same renewal read again", 9, send(9, 8, self, 3), hosts.Notice{}},
		{"next renewal", 12, send(13, 8, self), hosts.Notice{
			From: from, Name: "hostB", Event: event, Deliver: true,
		}},
		{"request after the hold", 20, send(17, 0, self), hosts.Notice{
			From: from, Name: "hostB", Event: request, Examine: true,
		}},
		{"bit down", 24, send(21, 8), hosts.Notice{From: from, Name: "hostB"}},
	} {
		if c.want.Name != "" {
			l, err := ondisk.DecodeLeader(c.sector)
			if err != nil {
				t.Fatal(err)
			}
			c.want.Timestamp = l.Timestamp
		}
		if diff := cmp.Diff(c.want, observe(t, tab, at(c.at), c.sector)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	own := record(1, 50, 2)
	if n, err := tab.Observe(at(30), self, sector(own, self)); err != nil || n.Deliver || n.Examine {
		t.Errorf("our own sector: %+v, %v", n, err)
	}
}

// A host that truly renews, seen through reads of any age, is never called dead before its own lease and its
// watchdog have run out; and one that stopped is in the end.
func TestNeverDeadTooEarly(t *testing.T) {
	for seed := range uint64(300) {
		dice := rand.New(rand.NewPCG(seed, 7))
		io := uint16(1 + dice.IntN(30))
		d := time.Duration(io) * time.Second
		resetAfter := 8*d + fire*time.Second
		stop := time.Duration(dice.IntN(600)) * time.Second
		tab, who := table(), leases.Owner{Host: other, Generation: 1}
		var now, lastWrite time.Duration
		skew := time.Duration(dice.IntN(1000)) * time.Second // their clock against ours
		ts := uint64((skew + now) / time.Second)
		next := 2 * d
		for now < stop+resetAfter+20*d+time.Minute {
			now += time.Duration(dice.Int64N(int64(4 * d)))
			for next <= min(now, stop) {
				lastWrite, ts = next, uint64((skew+next)/time.Second)
				next += 2*d + time.Duration(dice.Int64N(int64(d)))
			}
			l := record(1, max(ts, 1), io)
			read := now
			now += time.Duration(dice.Int64N(int64(d))) // the read is slow
			observe(t, tab, monotime.Instant(now), sector(l))
			got := tab.Verdict(monotime.Instant(read), who, l)
			if got.Gone() && read <= lastWrite+resetAfter {
				t.Fatalf("seed %d: %v %v after its last renewal, io %d", seed, got, read-lastWrite, io)
			}
		}
		if l := record(1, max(ts, 1), io); tab.Verdict(monotime.Instant(now), who, l) != leases.Dead {
			t.Fatalf("seed %d: never dead", seed)
		}
	}
}

// An owner that has missed a renewal is still listed alive, but its lease is waited for and not refused: the
// verdict is FAIL from then on. The same goes for one that was never seen to change.
func TestOverdueFails(t *testing.T) {
	for _, c := range []struct{ theirs, ours time.Duration }{{2, 2}, {2, 10}, {10, 2}, {30, 30}} {
		look := 2 * c.ours * time.Second
		tab := hosts.New(hosts.Config{Self: self, Space: space, Fire: fire, Look: look})
		io, who := uint16(c.theirs), leases.Owner{Host: other, Generation: 1}
		observe(t, tab, at(0), sector(record(1, 100, io)))
		last := record(1, 104, io)
		observe(t, tab, at(4), sector(last))
		once := hosts.New(hosts.Config{Self: self, Space: space, Fire: fire, Look: look})
		observe(t, once, at(4), sector(last))
		missed := 2*c.theirs*time.Second + look + 3*time.Second
		fails := 8 * c.theirs * time.Second
		for _, x := range []struct {
			silent time.Duration
			want   leases.Verdict
		}{
			{0, leases.Alive},
			{min(missed, fails), leases.Alive},
			{missed + 1, leases.Failing},
			{fails, leases.Failing},
		} {
			now := at(4).Add(x.silent)
			if x.silent > fails || x.want == leases.Failing && missed >= fails {
				continue
			}
			if got := tab.Verdict(now, who, last); got != x.want || stateOf(tab, now) != leases.Alive {
				t.Errorf("%+v, %v silent: %v, listed %v, want %v", c, x.silent, got, stateOf(tab, now), x.want)
			}
			if x.want == leases.Alive {
				x.want = leases.Unknown
			}
			if got := once.Verdict(now, who, last); got != x.want || stateOf(once, now) != leases.Unknown {
				t.Errorf("%+v, %v silent, seen once: %v, listed %v, want %v", c, x.silent, got, stateOf(once, now), x.want)
			}
		}
		if got := tab.Verdict(at(4).Add(fails+1), who, last); got != leases.Failing {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func Example() {
	l := record(4, 1000, 10)
	tab := table()
	if _, err := tab.Observe(at(0), other, sector(l)); err != nil {
		fmt.Println(err)
	}
	who := leases.Owner{Host: other, Generation: 4}
	fmt.Println(tab.Verdict(at(80), who, l), tab.Verdict(at(81), who, l), tab.Verdict(at(141), who, l))
	// Output: UNKNOWN FAIL DEAD
}

// A sector that was first seen damaged is believed once it verifies, though its instance is the same.
func TestRepairedAfterFirstSight(t *testing.T) {
	tab, good := table(), sector(record(1, 100, 2))
	bad := append([]byte(nil), good...)
	bad[168] ^= 1
	if _, err := tab.Observe(at(0), other, bad); err == nil {
		t.Fatal("no error")
	}
	n := observe(t, tab, at(4), good)
	if v := tab.Views(at(5))[0]; !n.NewOwner || v.Name != "hostB" || v.IO != 2 || v.State != leases.Unknown {
		t.Errorf("%+v, %+v", n, v)
	}
}
