package rindex

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// The index that faults happen to: what lies at each place, and who has it.
//
//	0 "kept", held by host 3     2 without an entry, held by host 3     4 and 5 free
//	1 "free"                     3 "victim"
const ghost = 2

func worn(t *testing.T) *memdisk.Disk {
	t.Helper()
	disk := newDisk(t)
	p, holder := newParty(t, disk, 9), newParty(t, disk, 3)
	for _, name := range []string{"kept", "free", "ghost", "victim"} {
		_, err := p.create(name)
		ok(t, "create", err)
	}
	holder.take("kept", place(0), leases.Exclusive)
	holder.take("ghost", place(ghost), leases.Exclusive)
	ok(t, "remove an entry", p.on(func(x *Index) error {
		_, err := x.Update(t.Context(), ondisk.IndexEntry{Offset: place(ghost)}, true)
		return err
	}))
	return disk
}

// size of the tests' disk in bytes.
const size = testAt + (2+testEntries)*ondisk.MiB

// image returns the bytes of a worn disk; making one takes long.
func image(t *testing.T) (img []byte) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { img = worn(t).Bytes(0, size) })
	return img
}

// copyOf returns a disk with the bytes.
func copyOf(img []byte) *memdisk.Disk {
	disk := memdisk.New(memdisk.Config{SectorSize: small.Sector, Size: size})
	disk.Poke(0, img)
	return disk
}

// change is something that a host does to the index, and what the next host is told who does it again.
type change struct {
	name  string
	run   func(ctx context.Context, x *Index) error
	again leases.Kind // if it had been done
}

var changes = []change{
	{"create", func(ctx context.Context, x *Index) error {
		_, err := x.Create(ctx, leases.NameOf("new"), testHosts)
		return err
	}, leases.Exists},
	{"delete", func(ctx context.Context, x *Index) error {
		return x.Delete(ctx, leases.NameOf("victim"))
	}, leases.NotFound},
	{"add", func(ctx context.Context, x *Index) error {
		_, err := x.Update(ctx, ondisk.IndexEntry{Offset: place(5), Name: leases.NameOf("added")}, false)
		return err
	}, leases.Other},
	{"remove", func(ctx context.Context, x *Index) error {
		_, err := x.Update(ctx, ondisk.IndexEntry{Offset: place(3)}, true)
		return err
	}, leases.Other},
	{"rebuild", func(ctx context.Context, x *Index) error { return x.Rebuild(ctx) }, leases.Other},
}

// entryOn returns an entry as it lies on the disk.
func entryOn(t *testing.T, disk *memdisk.Disk, n uint32) ondisk.IndexEntry {
	t.Helper()
	e, err := ondisk.DecodeIndexEntry(disk.Bytes(testAt+small.EntryOffset(n), ondisk.IndexEntrySize))
	ok(t, "decode", err)
	return e
}

// sound demands that nothing was lost and nothing is there twice.
func sound(t *testing.T, disk *memdisk.Disk, ghostBefore []byte) {
	t.Helper()
	for n, name := range []string{"kept", "free"} {
		if e := entryOn(t, disk, uint32(n)); e.Name.String() != name || e.Offset != place(uint32(n)) {
			t.Errorf("%s is lost: %v", name, e)
		}
	}
	l, err := ondisk.DecodeLeader(disk.Bytes(int64(place(0)), 512))
	if err != nil || l.OwnerID != 3 || l.Timestamp == 0 {
		t.Errorf("kept is not held any more: %+v", l)
	}
	if !sameButOurBlock(ghostBefore, disk.Bytes(int64(place(ghost)), ondisk.MiB)) {
		t.Error("what is held without an entry was written over")
	}
	users := map[string]uint32{}
	for n := range uint32(testEntries) {
		e := entryOn(t, disk, n)
		name := e.Name.String()
		if name == "" {
			continue
		}
		if first, twice := users[name]; twice {
			t.Errorf("%s is at %d and at %d", name, first, n)
		}
		users[name] = n
		l, err := ondisk.DecodeLeader(disk.Bytes(int64(place(n)), 512))
		if err == nil {
			err = l.CheckPaxos(testSpace, e.Name, 0)
		}
		if err != nil && name != "added" {
			t.Errorf("entry %d says %s: %v", n, name, err)
		}
	}
}

// repair does the change again as another host, which must find the index sound and usable. first is what it
// thinks of the first host.
func repair(t *testing.T, disk *memdisk.Disk, c change, first leases.Verdict, ghostBefore []byte) {
	t.Helper()
	p := newParty(t, disk, 2)
	p.oracle[1] = first
	sound(t, disk, ghostBefore)
	err := p.on(func(x *Index) error { return c.run(t.Context(), x) })
	if err != nil && (c.again == leases.Other || leases.KindOf(err) != c.again) {
		t.Errorf("a second try: %v", err)
	}
	sound(t, disk, ghostBefore)
	last, err := p.create("last")
	ok(t, "create", err)
	sound(t, disk, ghostBefore)
	if e, err := p.lookup("last", last); err != nil {
		t.Errorf("the last one is at %v: %v", e, err)
	}
}

var errBroken = errors.New("broken on purpose")

// TestCrashes ends the host at each transfer of each change: before it, after it, and in the middle of it.
func TestCrashes(t *testing.T) {
	img := image(t)
	for _, c := range changes {
		ops := rehearse(t, img, c)
		if len(ops) < 10 {
			t.Errorf("%s has only %d transfers: the test is broken", c.name, len(ops))
		}
		for way, action := range map[string]faulty.Action{
			"before": faulty.Fail(errBroken), "after": faulty.FailAfterWriting(errBroken),
			"amid": faulty.Tear(1, errBroken),
		} {
			t.Run(c.name+" "+way, func(t *testing.T) {
				for n, op := range ops {
					if way != "amid" || op.Kind == faulty.Write && op.Len > small.Sector {
						synctest.Test(t, func(t *testing.T) { crashAt(t, img, c, ops, n, action) })
					}
				}
			})
		}
	}
}

// rehearse returns the transfers of a change.
func rehearse(t *testing.T, img []byte, c change) (ops []faulty.Op) {
	synctest.Test(t, func(t *testing.T) {
		dev := faulty.Wrap(copyOf(img).Open("1"))
		defer dev.Close()
		ok(t, c.name, crash(t, &party{t: t, id: 1, dev: dev, oracle: oracle{}}, c))
		ops = dev.Ops()
	})
	return ops
}

func crashAt(t *testing.T, img []byte, c change, ops []faulty.Op, n int, action faulty.Action) {
	disk := copyOf(img)
	before := disk.Bytes(int64(place(ghost)), ondisk.MiB)
	writes := 0
	for _, op := range ops[:n] {
		if op.Kind == faulty.Write {
			writes++
		}
	}
	dev := faulty.Wrap(disk.Open("1"))
	defer dev.Close()
	p := &party{t: t, id: 1, dev: dev, oracle: oracle{}}
	kind, first := faulty.Any, n
	if ops[n].Kind == faulty.Write {
		kind, first = faulty.Write, writes // an action that tears counts nothing else
	}
	dev.Add(faulty.On(kind, action).From(first).Times(1))
	dev.Add(faulty.On(faulty.Any, faulty.Fail(errBroken)).From(n + 1))
	if err := crash(t, p, c); err == nil {
		t.Errorf("transfer %d, %+v, failed and nobody was told", n, ops[n])
	}
	repair(t, disk, c, leases.Dead, before)
}

// crash runs a change as far as it goes.
func crash(t *testing.T, p *party, c change) error {
	t.Helper()
	x, err := Open(t.Context(), config(p.dev))
	if err != nil {
		return err
	}
	if err = x.Lock(t.Context(), p.member()); err == nil {
		err = c.run(t.Context(), x)
	}
	return errors.Join(err, x.Unlock(t.Context()))
}

// TestLateWrites lets each transfer of each change happen only long after its deadline, while the host lives
// on. Until then the index stays locked for others; then it can be unlocked, and nothing is lost.
func TestLateWrites(t *testing.T) {
	img := image(t)
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			n, locked := 0, 0
			for more := true; more; n++ {
				synctest.Test(t, func(t *testing.T) {
					var kept bool
					if more, kept = late(t, img, c, n); kept {
						locked++
					}
				})
			}
			if n < 10 || locked == 0 {
				t.Errorf("%d transfers, %d of them kept the index locked: the test is broken", n, locked)
			}
		})
	}
}

func late(t *testing.T, img []byte, c change, n int) (more, kept bool) {
	disk := copyOf(img)
	before := disk.Bytes(int64(place(ghost)), ondisk.MiB)
	gate := faulty.NewGate()
	dev := faulty.Wrap(disk.Open("1"))
	defer dev.Close()
	rule := faulty.On(faulty.Any, faulty.Stall(gate)).From(n).Times(1)
	dev.Add(rule)
	p := &party{t: t, id: 1, dev: dev, oracle: oracle{}}
	x, err := Open(t.Context(), config(dev))
	if err == nil {
		if err = x.Lock(t.Context(), p.member()); err == nil {
			err = c.run(t.Context(), x)
		}
		end := x.Unlock(t.Context())
		if len(x.dirty) > 0 {
			kept = true
			if end == nil {
				t.Errorf("transfer %d: unlocked with a write in flight", n)
			}
			other := newParty(t, disk, 2)
			_, got := other.create("between")
			wantKind(t, fmt.Sprintf("transfer %d: another host creates", n), got, leases.Held)
		}
		err = errors.Join(err, end)
	}
	gate.Release()
	if more = rule.Fired() > 0; more && err == nil {
		t.Errorf("transfer %d was late and nobody was told", n)
	}
	for try := 0; x != nil && x.Unlock(t.Context()) != nil; try++ {
		if try == 20 {
			t.Fatalf("transfer %d: not unlocked after %d tries: %v", n, try, x.Unlock(t.Context()))
		}
		time.Sleep(time.Second)
	}
	p.mu.Lock()
	if len(p.taken) != 0 {
		t.Errorf("transfer %d: still reserved: %v", n, p.taken)
	}
	p.mu.Unlock()
	repair(t, disk, c, leases.Alive, before)
	return more, kept
}

// TestAbandon: a host that is no member any more writes nothing, frees its reservations, and says what is in
// flight.
func TestAbandon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		gate := faulty.NewGate()
		dev := faulty.Wrap(disk.Open("1"))
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)).In(int64(place(0)), ondisk.MiB))
		defer dev.Close()
		p := &party{t: t, id: 1, dev: dev, oracle: oracle{}}
		x, err := Open(t.Context(), config(dev))
		ok(t, "open", err)
		ok(t, "lock", x.Lock(t.Context(), p.member()))
		_, err = x.Create(t.Context(), leases.NameOf("new"), testHosts)
		wantKind(t, "create", err, leases.Timeout)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if x.Unlock(ctx) == nil {
			t.Error("unlocked")
		}
		writes := dev.Writes()
		at := x.Abandon()
		if len(at) != 2 || at[0] != int64(place(0)) || at[1] != testAt+ondisk.MiB {
			t.Errorf("in flight may be %v", at)
		}
		if len(p.taken) != 0 || dev.Writes() != writes {
			t.Errorf("reserved %v, %d writes", p.taken, dev.Writes()-writes)
		}
		gate.Release()
	})
}
