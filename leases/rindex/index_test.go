package rindex

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/leases/timeouts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testSpace = leases.NameOf("LS1")
	small     = ondisk.Geometry{Sector: 512, Align: ondisk.MiB}
)

const (
	testAt      = ondisk.MiB // of the index
	testEntries = 6
	testHosts   = 9 // few, so that a look at a lease is short
)

// oracle answers Probe from a table; a host that is not in it is alive.
type oracle map[leases.HostID]leases.Verdict

func (o oracle) Probe(_ context.Context, w leases.Owner) (leases.Verdict, error) {
	if v, ok := o[w.Host]; ok {
		return v, nil
	}
	return leases.Alive, nil
}

// desk is where a host's reservations are kept.
type desk struct {
	mu    sync.Mutex
	taken map[string]bool
}

var errReserved = &leases.Error{Op: "reserve", Kind: leases.Busy, Err: errors.New("a client has it")}

func (d *desk) reserve(space, name leases.Name) (func(), error) {
	key := space.String() + "/" + name.String()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.taken[key] {
		return nil, errReserved
	}
	if d.taken == nil {
		d.taken = map[string]bool{}
	}
	d.taken[key] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.taken[key] {
			panic(key + " is freed twice")
		}
		delete(d.taken, key)
	}, nil
}

// party is a host that works on the test's index.
type party struct {
	desk
	t   *testing.T
	id  leases.HostID
	dev device.Device
	oracle
}

func config(dev device.Device) Config {
	return Config{Device: dev, Offset: testAt, Space: testSpace, Times: timeouts.Set{IO: 2, Fire: 60}}
}

func (p *party) member() Member {
	return Member{
		Self: leases.Owner{Host: p.id, Generation: 1}, Live: p.oracle, Clock: monotime.At(1000e9, nil),
		Reserve: p.reserve, Jitter: func() float64 { return 0.5 },
	}
}

// on opens and locks the index for do, and unlocks it.
func (p *party) on(do func(x *Index) error) error {
	p.t.Helper()
	x, err := Open(p.t.Context(), config(p.dev))
	if err != nil {
		return err
	}
	if err = x.Lock(p.t.Context(), p.member()); err == nil {
		err = do(x)
	}
	if end := x.Unlock(p.t.Context()); end != nil {
		p.t.Errorf("unlock: %v", end)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) != 0 {
		p.t.Errorf("still reserved: %v", p.taken)
	}
	return err
}

func (p *party) create(name string) (at uint64, err error) {
	p.t.Helper()
	err = p.on(func(x *Index) error {
		at, err = x.Create(p.t.Context(), leases.NameOf(name), testHosts)
		return err
	})
	return at, err
}

func (p *party) remove(name string) error {
	p.t.Helper()
	return p.on(func(x *Index) error { return x.Delete(p.t.Context(), leases.NameOf(name)) })
}

func (p *party) lookup(name string, at uint64) (ondisk.IndexEntry, error) {
	p.t.Helper()
	x, err := Open(p.t.Context(), config(p.dev))
	if err != nil {
		return ondisk.IndexEntry{}, err
	}
	return x.Lookup(p.t.Context(), leases.NameOf(name), at)
}

// take acquires the lease at an offset.
func (p *party) take(name string, at uint64, mode leases.Mode) (*resource.Lease, *resource.Grant) {
	p.t.Helper()
	l, err := resource.New(resource.Config{
		Space: testSpace, Name: leases.NameOf(name), Geometry: small, Times: timeouts.Set{IO: 2, Fire: 60},
		Disks: []resource.Disk{{Device: p.dev, Offset: int64(at)}}, Clock: monotime.At(1000e9, nil),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	self := leases.Owner{Host: p.id, Generation: 1}
	g, err := l.Acquire(p.t.Context(), self, resource.Request{Mode: mode}, p.oracle)
	if err != nil {
		p.t.Fatal(err)
	}
	return l, g
}

// newParty opens the disk as host id.
func newParty(t *testing.T, disk *memdisk.Disk, id leases.HostID) *party {
	dev := disk.Open(fmt.Sprint(id))
	t.Cleanup(func() { dev.Close() })
	return &party{t: t, id: id, dev: dev, oracle: oracle{}}
}

// place is the offset of a resource by the number of its entry.
func place(n uint32) uint64 { return small.EntryResource(testAt, n) }

// newDisk holds an index without resources.
func newDisk(t *testing.T) *memdisk.Disk {
	t.Helper()
	disk := memdisk.New(memdisk.Config{SectorSize: 512, Size: size})
	p := newParty(t, disk, 9)
	if err := Format(t.Context(), config(p.dev), small, testEntries); err != nil {
		t.Fatal(err)
	}
	lease := ondisk.FormatResource(small, testSpace, leases.NameOf(ondisk.IndexLeaseName), testHosts)
	disk.Poke(testAt+ondisk.MiB, lease)
	return disk
}

func wantKind(t *testing.T, what string, err error, want leases.Kind) {
	t.Helper()
	if err == nil || leases.KindOf(err) != want {
		t.Errorf("%s: error %v of kind %d, want kind %d", what, err, leases.KindOf(err), want)
	}
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestCreateLookupDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		p := newParty(t, disk, 1)
		for n, name := range []string{"a", "b", "c"} {
			at, err := p.create(name)
			ok(t, "create", err)
			if at != place(uint32(n)) {
				t.Errorf("%s is at %d, want %d", name, at, place(uint32(n)))
			}
		}
		_, err := p.create("b")
		wantKind(t, "create again", err, leases.Exists)
		e, err := p.lookup("b", 0)
		if err != nil || e.Offset != place(1) {
			t.Errorf("lookup: %v, %v", e, err)
		}
		e, err = p.lookup("x", place(1))
		if wantKind(t, "another name", err, leases.IndexDiffer); e.Name.String() != "b" {
			t.Errorf("found %v", e)
		}
		for _, at := range []uint64{1, place(0) - ondisk.MiB, place(testEntries), place(1) + 512, 1 << 63} {
			_, err = p.lookup("", at)
			wantKind(t, fmt.Sprint("offset ", at), err, leases.IndexOffset)
		}
		ok(t, "delete", p.remove("b"))
		wantKind(t, "delete again", p.remove("b"), leases.NotFound)
		if e, err = p.lookup("", 0); err != nil || e.Offset != place(1) {
			t.Errorf("free offset: %v, %v", e, err)
		}
		l, err := ondisk.DecodeLeader(disk.Bytes(int64(place(1)), 512))
		if err != nil || l.Magic != ondisk.ClearedMagic || l.ResourceName.String() != "b" {
			t.Errorf("the deleted resource is %+v", l)
		}
		for _, name := range []string{"d", "e", "f", "g"} {
			_, err := p.create(name)
			ok(t, "create", err)
		}
		_, err = p.create("h")
		wantKind(t, "create in a full index", err, leases.NotFound)
	})
}

// TestOthersAreLeftAlone: what somebody may hold is neither deleted nor written over, whoever has it, and
// also without an entry.
func TestOthersAreLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		occupy  func(t *testing.T, p *party, disk *memdisk.Disk)
		verdict leases.Verdict // on the host that does it
		deleted leases.Kind    // of the error
	}{
		"held":                     {occupyAs(leases.Exclusive), leases.Alive, leases.Held},
		"held by a silent host":    {occupyAs(leases.Exclusive), leases.Failing, leases.OwnerSilent},
		"shared":                   {occupyAs(leases.Shared), leases.Alive, leases.SharedHeld},
		"held by our own client":   {occupyHere, leases.Alive, leases.Busy},
		"damaged":                  {damage(60), leases.Alive, leases.BadChecksum},
		"of an unknown newer kind": {damage(6), leases.Alive, leases.BadVersion},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := newDisk(t)
				p, other := newParty(t, disk, 1), newParty(t, disk, 2)
				p.oracle[2] = c.verdict
				_, err := p.create("a")
				ok(t, "create", err)
				c.occupy(t, other, disk)
				before := disk.Bytes(int64(place(0)), ondisk.MiB)
				lone := &party{t: t, id: 1, dev: p.dev, oracle: p.oracle}
				if name == "held by our own client" {
					lone.taken = map[string]bool{"LS1/a": true}
				}
				x, err := Open(t.Context(), config(lone.dev))
				ok(t, "open", err)
				ok(t, "lock", x.Lock(t.Context(), lone.member()))
				wantKind(t, "delete", x.Delete(t.Context(), leases.NameOf("a")), c.deleted)
				if _, err := x.Lookup(t.Context(), leases.NameOf("a"), place(0)); err != nil {
					t.Errorf("the entry is lost: %v", err)
				}
				_, err = x.Update(t.Context(), ondisk.IndexEntry{Offset: place(0)}, true)
				ok(t, "remove the entry", err)
				at, err := x.Create(t.Context(), leases.NameOf("new"), 0)
				if err != nil || at != place(1) {
					t.Errorf("created at %d, %v, want %d", at, err, place(1))
				}
				ok(t, "unlock", x.Unlock(t.Context()))
				if name == "shared" {
					copy(before, disk.Bytes(int64(place(0)), 512)) // a ballot was won and given back
				}
				if got := disk.Bytes(int64(place(0)), ondisk.MiB); !sameButOurBlock(before, got) {
					t.Error("what was left alone has changed")
				}
			})
		})
	}
}

// sameButOurBlock compares areas without host 1's block: a ballot that was begun leaves its number there.
func sameButOurBlock(a, b []byte) bool {
	cut := small.BlockOffset(1)
	return bytes.Equal(a[:cut], b[:cut]) && bytes.Equal(a[cut+512:], b[cut+512:])
}

func occupyAs(mode leases.Mode) func(*testing.T, *party, *memdisk.Disk) {
	return func(_ *testing.T, p *party, _ *memdisk.Disk) { p.take("a", place(0), mode) }
}

func occupyHere(*testing.T, *party, *memdisk.Disk) {}

func damage(at int64) func(*testing.T, *party, *memdisk.Disk) {
	return func(_ *testing.T, _ *party, disk *memdisk.Disk) {
		disk.Poke(int64(place(0))+at, []byte{0x77})
	}
}

// TestForeignLease: the lease of another lockspace loses its entry and nothing else, and its place is not
// used.
func TestForeignLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		p := newParty(t, disk, 1)
		_, err := p.create("a")
		ok(t, "create", err)
		foreign := ondisk.FormatResource(small, leases.NameOf("OTHER"), leases.NameOf("a"), 0)
		disk.Poke(int64(place(0)), foreign)
		ok(t, "delete", p.remove("a"))
		wantKind(t, "delete again", p.remove("a"), leases.NotFound)
		at, err := p.create("b")
		if err != nil || at != place(1) {
			t.Errorf("created at %d, %v, want %d", at, err, place(1))
		}
		if !bytes.Equal(foreign, disk.Bytes(int64(place(0)), ondisk.MiB)) {
			t.Error("the other lockspace's lease has changed")
		}
	})
}

func TestDeadOwnersAreSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		p, other := newParty(t, disk, 1), newParty(t, disk, 2)
		_, err := p.create("a")
		ok(t, "create", err)
		other.take("a", place(0), leases.Exclusive)
		other.take(ondisk.IndexLeaseName, testAt+ondisk.MiB, leases.Exclusive)
		wantKind(t, "the index is in use", p.remove("a"), leases.Held)
		p.oracle[2] = leases.Dead
		ok(t, "delete", p.remove("a"))
		at, err := p.create("b")
		if err != nil || at != place(0) {
			t.Errorf("created at %d, %v", at, err)
		}
	})
}

func TestRebuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		p := newParty(t, disk, 1)
		for n, r := range []struct{ space, name string }{{"LS1", "a"}, {"OTHER", "b"}, {"LS1", "c"}} {
			area := ondisk.FormatResource(small, leases.NameOf(r.space), leases.NameOf(r.name), 0)
			disk.Poke(int64(place(uint32(n))), area)
		}
		disk.Poke(int64(place(2))+60, []byte{0x77}) // c does not verify
		disk.Poke(int64(place(3)), ondisk.ClearResource(small, testSpace, leases.NameOf("d"), 0, 1))
		e := ondisk.IndexEntry{Offset: place(4), Name: leases.NameOf("nothing")}
		ok(t, "rebuild", p.on(func(x *Index) error {
			_, err := x.Update(t.Context(), e, false)
			return errors.Join(err, x.Rebuild(t.Context()))
		}))
		for n, want := range []string{"a", "", "", "", "", ""} {
			if got, err := p.lookup("", place(uint32(n))); err != nil || got.Name.String() != want {
				t.Errorf("entry %d is %q, %v, want %q", n, got.Name, err, want)
			}
		}
	})
}

func TestChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		p := newParty(t, disk, 1)
		open := func(change func(*Config)) error {
			c := config(p.dev)
			change(&c)
			_, err := Open(t.Context(), c)
			return err
		}
		wantKind(t, "no index", open(func(c *Config) { c.Offset = 0 }), leases.IndexMagic)
		wantKind(t, "another space", open(func(c *Config) { c.Space = leases.NameOf("X") }), leases.IndexSpace)
		wantKind(t, "no space", open(func(c *Config) { c.Space = leases.Name{} }), leases.IndexSpace)
		wantKind(t, "behind the end", open(func(c *Config) { c.Offset = 1 << 40 }), leases.ShortTransfer)
		wantKind(t, "absurd", open(func(c *Config) { c.Offset = 1 << 63 }), leases.Invalid)
		c := config(p.dev)
		odd := ondisk.Geometry{Sector: 512, Align: 8 * ondisk.MiB}
		wantKind(t, "format", Format(t.Context(), c, odd, 0), leases.Invalid)
		c.Offset = testAt + (1+testEntries)*ondisk.MiB
		wantKind(t, "format at the end", Format(t.Context(), c, small, 0), leases.NoSpace)
		x, err := Open(t.Context(), config(p.dev))
		ok(t, "open", err)
		_, err = x.Create(t.Context(), leases.NameOf("a"), 0)
		wantKind(t, "create without the lease", err, leases.Invalid)
		wantKind(t, "delete without the lease", x.Delete(t.Context(), leases.NameOf("a")), leases.Invalid)
		for _, bad := range []struct {
			at   int64
			with string
			kind leases.Kind
		}{
			{6, "\x07", leases.IndexVersion}, {24, "\x01", leases.IndexOffset}, {12, "\x00\x04", leases.Invalid},
		} {
			was := disk.Bytes(testAt+bad.at, len(bad.with))
			disk.Poke(testAt+bad.at, []byte(bad.with))
			wantKind(t, fmt.Sprint("header byte ", bad.at), open(func(*Config) {}), bad.kind)
			disk.Poke(testAt+bad.at, was)
		}
	})
}
