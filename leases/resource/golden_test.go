package resource

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// Here our operations run at the times and in the order in which stock's left the images of
// leases/ondisk/testdata/sanlock-3.8.5, and must leave the same bytes.

func image(t *testing.T, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("..", "ondisk", "testdata", "sanlock-3.8.5", name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func imageLeader(t *testing.T, p []byte) ondisk.Leader {
	t.Helper()
	leader, err := ondisk.DecodeLeader(p)
	if err != nil {
		t.Fatal(err)
	}
	return leader
}

// stage is a disk with the resource of an image at its start, and the hosts that use it.
type stage struct {
	t           *testing.T
	disk        *memdisk.Disk
	geometry    ondisk.Geometry
	space, name leases.Name
	now         uint64 // seconds at which the stage was set
	hosts       map[leases.HostID]*Lease
	wrote       func(off int64) // called after each write
}

// newStage sets up the disk for an image. now is the time that stock's clock had.
func newStage(t *testing.T, first []byte, now uint64) *stage {
	t.Helper()
	leader := imageLeader(t, first)
	g := leader.Geometry()
	s := &stage{
		t: t, geometry: g, space: leader.SpaceName, name: leader.ResourceName, now: now,
		disk:  memdisk.New(memdisk.Config{SectorSize: g.Sector, Size: int64(g.Align)}),
		hosts: map[leases.HostID]*Lease{}, wrote: func(int64) {},
	}
	s.disk.Poke(0, first)
	return s
}

// formattedStage starts from an empty disk that we format.
func formattedStage(t *testing.T, like string, resource string, now uint64) *stage {
	t.Helper()
	s := newStage(t, image(t, like), now)
	s.disk.Poke(0, make([]byte, s.geometry.Align))
	if resource != "" {
		s.name = leases.NameOf(resource)
	}
	d := s.disk.Open("formatter")
	t.Cleanup(func() { d.Close() })
	if err := Format(t.Context(), Disk{Device: d}, s.geometry, s.space, s.name, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stage) lease(id leases.HostID) *Lease {
	s.t.Helper()
	if l := s.hosts[id]; l != nil {
		return l
	}
	d := s.disk.Open(fmt.Sprint(id))
	s.t.Cleanup(func() { d.Close() })
	l, err := New(Config{
		Space: s.space, Name: s.name, Geometry: s.geometry,
		Disks: []Disk{{Device: afterWrites{d, func(off int64) { s.wrote(off) }}}},
		Times: timeouts.Set{IO: 2, Fire: 60}, Clock: monotime.At(monotime.Instant(s.now)*1e9, nil),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.hosts[id] = l
	return l
}

func (s *stage) acquire(id leases.HostID, req Request) *Grant {
	s.t.Helper()
	return mustAcquire(s.t, s.lease(id), host(id, 1), req, oracle{})
}

func (s *stage) release(id leases.HostID, g *Grant, rename string) {
	s.t.Helper()
	if err := s.lease(id).Release(s.t.Context(), g, rename); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) convert(id leases.HostID, g *Grant, to leases.Mode) {
	s.t.Helper()
	if err := s.lease(id).Convert(s.t.Context(), g, to, false, oracle{}); err != nil {
		s.t.Fatal(err)
	}
}

// compare insists that the start of the disk is what stock left, but for bytes that mean nothing, which are
// zero with us, and for ballot numbers. differ makes the further differences that we mean to have.
func (s *stage) compare(name string, want []byte, differ func(block func(host int) []byte)) {
	s.t.Helper()
	ss := s.geometry.Sector
	got := s.disk.Bytes(0, len(want))
	want = append([]byte(nil), want...)
	clear(want[ss+20 : ss+24])
	for host := 1; (host+2)*ss <= len(want); host++ {
		theirs, ours := want[(host+1)*ss:][:ss], got[(host+1)*ss:][:ss]
		clear(theirs[ondisk.DBlockSize:ondisk.ModeBlockAt])
		clear(theirs[ondisk.ModeBlockAt+4 : ondisk.ModeBlockAt+8])
		clear(theirs[ondisk.HostBlockSize:])
		s.renumber(name, uint64(host), ours, theirs)
	}
	if differ != nil {
		differ(func(host int) []byte { return want[(host+1)*ss:][:ss] })
	}
	if d := cmp.Diff(dump(want), dump(got)); d != "" {
		s.t.Errorf("%s: stock's bytes (-) and ours (+):\n%s", name, d)
	}
}

// renumber gives our block the ballot numbers of stock's, where both are numbers of that host: stock leaves
// out those of a whole turn of max_hosts when another host has begun a ballot, we do not (spec ondisk 4.1).
// The first ballot of an area has the same number.
func (s *stage) renumber(name string, host uint64, ours, theirs []byte) {
	s.t.Helper()
	a, errA := ondisk.DecodeHostBlock(ours)
	b, errB := ondisk.DecodeHostBlock(theirs)
	if errA != nil || errB != nil {
		s.t.Fatal(errA, errB)
	}
	limit := s.geometry.MaxHosts()
	if err := a.Check(); err != nil || b.MBal < limit || a.MBal == b.MBal {
		return
	}
	if a.MBal%limit != host%limit || (a.MBal == a.Bal) != (b.MBal == b.Bal) {
		s.t.Errorf("%s: host %d has ballots %d and %d, stock %d and %d", name, host, a.MBal, a.Bal, b.MBal, b.Bal)
		return
	}
	a.MBal, a.Bal = b.MBal, b.Bal
	a.Encode(ours)
}

// dump gives the lines of a hex dump that are not all zero.
func dump(p []byte) []string {
	var lines []string
	for at := 0; at < len(p); at += 16 {
		if line := p[at:min(at+16, len(p))]; strings.Trim(string(line), "\x00") != "" {
			lines = append(lines, fmt.Sprintf("%06x  %s", at, hex.EncodeToString(line)))
		}
	}
	return lines
}

func TestGoldenExclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := image(t, "p01-paxos-free-512")
		s := formattedStage(t, "p01-paxos-free-512", "", 4049)
		s.compare("p01", free, nil)
		g := s.acquire(1, ex)
		s.compare("p02", image(t, "p02-paxos-owned-ex-512"), nil)
		_, err := s.lease(3).Acquire(t.Context(), host(3, 1), Request{Mode: leases.Shared}, oracle{})
		wantKind(t, err, leases.Held)
		s.release(1, g, "")
		// Host 3 was refused before it had anything to write; stock writes a block without a vote.
		s.compare("p03", image(t, "p03-paxos-released-ex-512"), func(block func(int) []byte) { clear(block(3)) })
		s.acquire(2, ex)
		s.compare("p04", image(t, "p04-paxos-owned-ex-2nd-512"), func(block func(int) []byte) { clear(block(3)) })
	})
}

// TestGoldenTakeover goes on from what stock wrote instead of our own bytes.
func TestGoldenTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, image(t, "p03-paxos-released-ex-512"), 4049)
		g := s.acquire(2, ex)
		s.compare("p04", image(t, "p04-paxos-owned-ex-2nd-512"), nil)
		s.release(2, g, "")
		// A conversion that stock's host 1 had refused left heap bytes in its block: they are no obstacle,
		// and go when the block is written.
		s = newStage(t, image(t, "p07-paxos-sh-released-512"), 4049)
		hb, err := ondisk.DecodeHostBlock(s.disk.Bytes(s.geometry.BlockOffset(1), s.geometry.Sector))
		if err != nil {
			t.Fatal(err)
		}
		one := &Grant{
			Version: 4, Mode: leases.Shared, Owner: host(1, 1), Geometry: s.geometry, block: block(&hb, false),
		}
		s.convert(1, one, leases.Exclusive)
		s.compare("p08", image(t, "p08-paxos-sh2ex-512"), nil)
		s.convert(1, one, leases.Shared)
		s.compare("p09", image(t, "p09-paxos-ex2sh-512"), nil)
	})
}

// TestGoldenShared is the story of RES2: two hosts share it, a third and one of the two are refused, one
// leaves, the other converts to exclusive and back.
func TestGoldenShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := formattedStage(t, "p05-paxos-sh-one-512", "", 4049)
		sharing := Request{Mode: leases.Shared}
		one := s.acquire(1, sharing)
		s.compare("p05", image(t, "p05-paxos-sh-one-512"), nil)
		two := s.acquire(2, sharing)
		s.compare("p06", image(t, "p06-paxos-sh-two-512"), nil)
		_, err := s.lease(3).Acquire(t.Context(), host(3, 1), ex, oracle{})
		wantKind(t, err, leases.SharedHeld)
		wantKind(t, s.lease(1).Convert(t.Context(), one, leases.Exclusive, false, oracle{}), leases.SharedHeld)
		s.release(2, two, "")
		s.compare("p07", image(t, "p07-paxos-sh-released-512"), func(block func(int) []byte) {
			// Stock forgets to say that the refused conversion owns nothing (spec ondisk 9.9).
			block(1)[52] |= ondisk.DBlockReleased
		})
		s.convert(1, one, leases.Exclusive)
		s.compare("p08", image(t, "p08-paxos-sh2ex-512"), nil)
		s.convert(1, one, leases.Shared)
		s.compare("p09", image(t, "p09-paxos-ex2sh-512"), nil)
	})
}

// TestGoldenSteps catches a shared acquire after each of its writes.
func TestGoldenSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := formattedStage(t, "p16-paxos-sh-shorthold-512", "", 4472)
		steps := []string{
			"p18-dblock-phase1-512", "p19-dblock-phase2-512", "p16-paxos-sh-shorthold-512",
			"p17-paxos-sh-shorthold-mb-512",
		}
		n := 0
		s.wrote = func(int64) {
			if n < len(steps) {
				s.compare(steps[n], image(t, steps[n]), nil)
			}
			n++
		}
		s.acquire(1, Request{Mode: leases.Shared})
		if want := len(steps) + 1; n != want {
			t.Errorf("%d writes, want %d", n, want)
		}
	})
}

func TestGoldenRequestAndClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := formattedStage(t, "p10-paxos-request-512", "", 4055)
		g := s.acquire(3, ex)
		to, err := s.lease(1).PutRequest(t.Context(), 2, 2, false)
		if err != nil || to != host(3, 1) {
			t.Errorf("request goes to %v, %v", to, err)
		}
		s.compare("p10", image(t, "p10-paxos-request-512"), nil)
		time.Sleep(2 * time.Second)
		s.release(3, g, "")
		s.compare("p11", image(t, "p11-paxos-request-after-512"), nil)

		s = newStage(t, image(t, "p12-paxos-clear-512"), 4078)
		s.disk.Poke(0, make([]byte, s.geometry.Align))
		d := s.disk.Open("1")
		defer d.Close()
		if err := Clear(t.Context(), Disk{Device: d}, s.geometry, s.space, s.name, 0, 4078); err != nil {
			t.Fatal(err)
		}
		s.compare("p12", image(t, "p12-paxos-clear-512"), nil)
		_, err = s.lease(1).Acquire(t.Context(), host(1, 1), ex, oracle{})
		wantKind(t, err, leases.BadMagic)
	})
}

func TestGoldenRenameNumHostsValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := formattedStage(t, "p13-paxos-renamed-512", "RES5", 4078)
		s.release(1, s.acquire(1, ex), "NEWNAME")
		s.compare("p13", image(t, "p13-paxos-renamed-512"), nil)

		s = formattedStage(t, "p14-paxos-numhosts-512", "", 4078)
		s.acquire(1, Request{Mode: leases.Exclusive, NumHosts: 8})
		s.compare("p14", image(t, "p14-paxos-numhosts-512"), nil)

		s = formattedStage(t, "p14-paxos-numhosts-512", "RES7", 4078)
		g := s.acquire(1, Request{Mode: leases.Exclusive, LVB: true})
		if err := g.SetLVB([]byte("LVBDATA-0123456789")); err != nil {
			t.Fatal(err)
		}
		s.release(1, g, "")
		got := s.disk.Bytes(int64(s.geometry.Sector)*2002, s.geometry.Sector)
		if d := cmp.Diff(dump(image(t, "p15-lvb-512")), dump(got)); d != "" {
			t.Errorf("p15: stock's bytes (-) and ours (+):\n%s", d)
		}
	})
}

// TestGoldenSizes does the four pairs with sectors of 4096 bytes.
func TestGoldenSizes(t *testing.T) {
	for _, n := range []int{1, 2, 4, 8} {
		synctest.Test(t, func(t *testing.T) {
			free, taken := fmt.Sprintf("k%d-paxos-free-4k-%dM", n, n), fmt.Sprintf("k%d-paxos-ex-4k-%dM", n, n)
			held := image(t, taken)
			leader := imageLeader(t, held)
			s := formattedStage(t, free, "", leader.Timestamp)
			s.compare(free, image(t, free), nil)
			s.acquire(leases.HostID(leader.OwnerID), ex)
			s.compare(taken, held, nil)
		})
	}
}

// TestGoldenHalfWay judges what stock left in the middle of something: who holds it, and what another host
// that asks gets, by what is known of host 1.
func TestGoldenHalfWay(t *testing.T) {
	cases := []struct {
		image    string
		held     bool
		live     leases.Verdict // host 1
		version  uint64         // that host 3 is granted, 0 for none
		kind     leases.Kind    // of the refusal
		ownerNow uint64
	}{
		{"p18-dblock-phase1-512", false, leases.Alive, 1, 0, 3},
		{"p19-dblock-phase2-512", false, leases.Alive, 0, leases.CommittedOther, 1},
		{"p19-dblock-phase2-512", false, leases.Dead, 2, 0, 3},
		{"p16-paxos-sh-shorthold-512", true, leases.Alive, 0, leases.Held, 1},
		{"p16-paxos-sh-shorthold-512", true, leases.Dead, 2, 0, 3},
		{"p17-paxos-sh-shorthold-mb-512", true, leases.Alive, 0, leases.Held, 1},
		{"p20-paxos-owner-not-writer-512", true, leases.Alive, 0, leases.Held, 1},
		{"p20-paxos-owner-not-writer-512", true, leases.Failing, 0, leases.OwnerSilent, 1},
		{"p20-paxos-owner-not-writer-512", true, leases.Dead, 16, 0, 3},
		{"p21-paxos-released-not-writer-512", false, leases.Alive, 16, 0, 3},
		{"p21-paxos-released-not-writer-512", false, leases.Unknown, 16, 0, 3},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, image(t, c.image), 4500)
			_, owners, err := s.lease(2).Owners(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			exclusively := len(owners) > 0 && owners[0].Mode == leases.Exclusive && owners[0].Owner == host(1, 1)
			if exclusively != c.held {
				t.Errorf("%s: owners %v, want held %v", c.image, owners, c.held)
			}
			req := Request{Mode: leases.Exclusive, NoWait: true}
			g, err := s.lease(3).Acquire(t.Context(), host(3, 1), req, oracle{host(1, 1): c.live})
			switch {
			case c.version == 0:
				wantKind(t, err, c.kind)
			case err != nil || g.Version != c.version:
				t.Errorf("%s, host 1 %v: %+v, %v; want version %d", c.image, c.live, g, err, c.version)
			}
			if got := imageLeader(t, s.disk.Bytes(0, s.geometry.Sector)).OwnerID; got != c.ownerNow {
				t.Errorf("%s, host 1 %v: owner is host %d, want %d", c.image, c.live, got, c.ownerNow)
			}
		})
	}
}

// TestGoldenNotWriter: host 2 publishes host 1's proposal as stock's host 2 did, and host 1 gives back what
// another host published for it.
func TestGoldenNotWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		published := image(t, "p20-paxos-owner-not-writer-512")
		s := newStage(t, published, 4480)
		before := imageLeader(t, published)
		before.LVer, before.Timestamp = 14, 0
		sector := make([]byte, s.geometry.Sector)
		before.Encode(sector)
		s.disk.Poke(0, sector)
		s.disk.Poke(s.geometry.BlockOffset(2), make([]byte, s.geometry.Sector))
		_, err := s.lease(2).Acquire(t.Context(), host(2, 1), ex, oracle{})
		wantKind(t, err, leases.CommittedOther)
		s.compare("p20", published, nil)

		hb, err := ondisk.DecodeHostBlock(published[s.geometry.BlockOffset(1):])
		if err != nil {
			t.Fatal(err)
		}
		s.release(1, &Grant{
			Version: 15, Mode: leases.Exclusive, Owner: host(1, 1), Geometry: s.geometry, block: block(&hb, false),
		}, "")
		s.compare("p21", image(t, "p21-paxos-released-not-writer-512"), nil)
	})
}
