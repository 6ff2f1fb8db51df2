package resource

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// golden returns sectors that stock left on a disk (see the README beside them).
func golden(t *testing.T, name string) []byte {
	t.Helper()
	p, err := os.ReadFile("../ondisk/testdata/sanlock-3.8.5/" + name + ".bin")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stage is a disk that starts as stock left it, and a clock that stands at the second in which stock went on.
type stage struct {
	t     *testing.T
	disk  *memdisk.Disk
	g     ondisk.Geometry
	space leases.Name
	name  leases.Name
	clock uint64 // seconds

	// numbers has the ballot numbers of hosts whose number is not stock's. Ours is the next one of the host
	// above those in use; stock's is one step higher where that lies within the same block of numbers.
	numbers map[uint64]uint64
}

// stageAt formats an area for a resource and puts the golden sectors, if any, at its start.
func stageAt(t *testing.T, g ondisk.Geometry, space, name, image string, clock uint64) *stage {
	t.Helper()
	s := &stage{t: t, g: g, space: leases.NameOf(space), name: leases.NameOf(name), clock: clock}
	s.disk = memdisk.New(memdisk.Config{SectorSize: 512, Size: int64(g.Align)})
	s.disk.Poke(0, ondisk.FormatResource(g, s.space, s.name, 0))
	if image != "" {
		s.disk.Poke(0, golden(t, image))
	}
	return s
}

func (s *stage) leaseOver(dev device.Device) *Lease {
	s.t.Helper()
	l, err := New(Config{
		Space: s.space, Name: s.name, Geometry: s.g, Disks: []Disk{{Device: dev}},
		Times: timeouts.Set{IO: 2, Fire: 60},
		Clock: monotime.At(monotime.Instant(time.Duration(s.clock)*time.Second), nil),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (s *stage) lease(id leases.HostID) *Lease {
	dev := s.disk.Open(fmt.Sprint(id))
	s.t.Cleanup(func() { dev.Close() })
	return s.leaseOver(dev)
}

func (s *stage) acquire(id leases.HostID, req Request, live oracle) (*Lease, *Grant) {
	s.t.Helper()
	l := s.lease(id)
	g, err := l.Acquire(s.t.Context(), host(id, 1), req, live)
	if err != nil {
		s.t.Fatal(err)
	}
	return l, g
}

// expect compares the disk with what stock left, less what stock leaves undefined.
func (s *stage) expect(image string, except ...uint64) {
	s.t.Helper()
	want := golden(s.t, image)
	got := s.disk.Bytes(0, len(want))
	for at := 2 * s.g.Sector; at < len(want); at += s.g.Sector {
		for _, p := range [][]byte{want[at : at+s.g.Sector], got[at : at+s.g.Sector]} {
			clear(p[56:128])
			clear(p[132:136])
			clear(p[144:])
		}
	}
	clear(want[s.g.Sector+20 : s.g.Sector+24])
	for id, number := range s.numbers {
		sector := want[s.g.BlockOffset(id):][:s.g.Sector]
		hb, err := ondisk.DecodeHostBlock(sector)
		s.must(err)
		if hb.MBal != 0 {
			hb.MBal, hb.Bal = number, number
			hb.Encode(sector)
		}
	}
	for _, id := range except {
		at := s.g.BlockOffset(id)
		copy(want[at:at+int64(s.g.Sector)], got[at:])
	}
	for at := 0; at < len(want); at += s.g.Sector {
		if !bytes.Equal(want[at:at+s.g.Sector], got[at:at+s.g.Sector]) {
			s.t.Errorf("sector %d differs from %s: %s", at/s.g.Sector, image,
				cmp.Diff(want[at:at+s.g.Sector], got[at:at+s.g.Sector]))
		}
	}
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestSameBytesAsStock does what stock did, from where it started, in the same second, and must leave the same
// bytes: leader, request and host blocks, checksums included.
func TestSameBytesAsStock(t *testing.T) {
	ex, sh := Request{Mode: leases.Exclusive}, Request{Mode: leases.Shared}
	tests := map[string]func(t *testing.T){
		"exclusive by one host, then by another": func(t *testing.T) {
			s := stageAt(t, small, "LS1", "RES1", "p01-paxos-free-512", 4049)
			l, g := s.acquire(1, ex, nil)
			s.expect("p02-paxos-owned-ex-512")
			s.must(l.Release(t.Context(), g, ""))
			// Block 3 comes from a refused shared acquire of stock, which overwrites its vote; ours does not.
			s.expect("p03-paxos-released-ex-512", 3)
			s.disk.Poke(0, golden(t, "p03-paxos-released-ex-512"))
			s.numbers = map[uint64]uint64{2: 2}
			s.acquire(2, ex, nil)
			s.expect("p04-paxos-owned-ex-2nd-512")
		},
		"shared by two": func(t *testing.T) {
			s := stageAt(t, small, "LS1", "RES2", "", 4049)
			s.acquire(1, sh, nil)
			s.expect("p05-paxos-sh-one-512")
			s.numbers = map[uint64]uint64{2: 2}
			s.acquire(2, sh, nil)
			s.expect("p06-paxos-sh-two-512")
		},
		"converted both ways": func(t *testing.T) {
			s := stageAt(t, small, "LS1", "RES2", "p07-paxos-sh-released-512", 4049)
			l := s.lease(1)
			hb, err := ondisk.DecodeHostBlock(s.disk.Bytes(small.BlockOffset(1), 512))
			s.must(err)
			g := &Grant{Mode: leases.Shared, Version: 4, Owner: host(1, 1), Geometry: small, block: block(&hb, false)}
			s.must(l.Convert(t.Context(), g, leases.Exclusive, false, oracle{}))
			s.expect("p08-paxos-sh2ex-512")
			s.must(l.Convert(t.Context(), g, leases.Shared, false, oracle{}))
			s.expect("p09-paxos-ex2sh-512")
		},
		"renamed": func(t *testing.T) {
			s := stageAt(t, small, "LS1", "RES5", "", 4078)
			l, g := s.acquire(1, ex, nil)
			s.must(l.Release(t.Context(), g, "NEWNAME"))
			s.expect("p13-paxos-renamed-512")
		},
		"num_hosts": func(t *testing.T) {
			s := stageAt(t, small, "LS1", "RES6", "", 4078)
			s.acquire(1, Request{Mode: leases.Exclusive, NumHosts: 8}, nil)
			s.expect("p14-paxos-numhosts-512")
		},
		"request": func(t *testing.T) {
			s := stageAt(t, small, "LS1", "RES3", "p10-paxos-request-512", 4055)
			empty := ondisk.FormatResource(small, s.space, s.name, 0)[512:1024]
			s.disk.Poke(512, empty)
			to, err := s.lease(1).PutRequest(t.Context(), 0, 2, true)
			s.must(err)
			if want := host(3, 1); to != want {
				t.Errorf("to tell: %v, want %v", to, want)
			}
			s.expect("p10-paxos-request-512")
		},
		"cleared": func(t *testing.T) {
			s := stageAt(t, small, "LS1", "RES4", "", 4078)
			dev := s.disk.Open("1")
			defer dev.Close()
			s.must(Clear(t.Context(), Disk{Device: dev}, small, s.space, s.name, 0, 4078))
			s.expect("p12-paxos-clear-512")
		},
		"owner is not the writer": func(t *testing.T) {
			s := stageAt(t, small, "LS1", "MID21", "p20-paxos-owner-not-writer-512", 4480)
			hb, err := ondisk.DecodeHostBlock(s.disk.Bytes(small.BlockOffset(1), 512))
			s.must(err)
			g := &Grant{
				Mode: leases.Exclusive, Version: 15, Owner: host(1, 1), Geometry: small, block: block(&hb, false),
			}
			s.must(s.lease(1).Release(t.Context(), g, ""))
			s.expect("p21-paxos-released-not-writer-512")
		},
		"value block": func(t *testing.T) {
			s := stageAt(t, small, "LS1", "RES7", "", 4078)
			l, g := s.acquire(1, Request{Mode: leases.Exclusive, LVB: true}, nil)
			s.must(g.SetLVB([]byte("LVBDATA-0123456789")))
			s.must(l.Release(t.Context(), g, ""))
			if got, want := s.disk.Bytes(small.LVBOffset(), 512), golden(t, "p15-lvb-512"); !bytes.Equal(got, want) {
				t.Error(cmp.Diff(want, got))
			}
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

// TestSameBytesWithLargeSectors acquires in the four geometries of 4096-byte sectors.
func TestSameBytesWithLargeSectors(t *testing.T) {
	clocks := map[int]uint64{1: 4169, 2: 4160, 4: 4152, 8: 4144}
	for mib, clock := range clocks {
		t.Run(fmt.Sprintf("%d MiB", mib), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := ondisk.Geometry{Sector: 4096, Align: mib * ondisk.MiB}
				s := stageAt(t, g, fmt.Sprintf("LK%d", mib), "RES1", "", clock)
				s.expect(fmt.Sprintf("k%d-paxos-free-4k-%dM", mib, mib))
				s.acquire(1, Request{Mode: leases.Exclusive}, nil)
				s.expect(fmt.Sprintf("k%d-paxos-ex-4k-%dM", mib, mib))
			})
		})
	}
}

// TestSameStepsAsStock stops a shared acquire after each of its writes, as if the host had died, and compares
// with what stock leaves when it is caught there.
func TestSameStepsAsStock(t *testing.T) {
	steps := []struct {
		after int // transfers that get through
		image string
	}{
		{2, "p18-dblock-phase1-512"},
		{4, "p19-dblock-phase2-512"},
		{6, "p16-paxos-sh-shorthold-512"},
		{7, "p17-paxos-sh-shorthold-mb-512"},
	}
	for _, step := range steps {
		t.Run(step.image, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stageAt(t, small, "LS1", "MID20", "", 4472)
				dev := faulty.Wrap(s.disk.Open("1"), faulty.On(faulty.Any, faulty.Fail(errBroken)).From(step.after))
				defer dev.Close()
				l := s.leaseOver(dev)
				mode := leases.Shared
				if strings.Contains(step.image, "dblock") {
					mode = leases.Exclusive
				}
				if _, err := l.Acquire(t.Context(), host(1, 1), Request{Mode: mode}, oracle{}); err == nil {
					t.Error("nobody was told of the fault")
				}
				s.expect(step.image)
			})
		})
	}
}

// TestStockStatesAreJudged asks for leases that stock left in states worth a thought.
func TestStockStatesAreJudged(t *testing.T) {
	tests := []struct {
		image, name string
		live        oracle // others than these are alive
		kind        leases.Kind
		version     uint64 // if the lease is to be had
		owners      []Holder
	}{
		{"p02-paxos-owned-ex-512", "RES1", nil, leases.Held, 0, []Holder{{host(1, 1), leases.Exclusive, 4049}}},
		{"p02-paxos-owned-ex-512", "RES1", oracle{host(1, 1): leases.Dead}, 0, 2, nil},
		{"p03-paxos-released-ex-512", "RES1", nil, 0, 2, []Holder{}},
		{
			"p06-paxos-sh-two-512", "RES2", nil, leases.SharedHeld, 0,
			[]Holder{{host(1, 1), leases.Shared, 0}, {host(2, 1), leases.Shared, 0}},
		},
		{"p06-paxos-sh-two-512", "RES2", oracle{host(1, 1): leases.Dead, host(2, 1): leases.Free}, 0, 3, nil},
		{"p07-paxos-sh-released-512", "RES2", nil, leases.SharedHeld, 0, []Holder{{host(1, 1), leases.Shared, 0}}},
		{"p12-paxos-clear-512", "RES4", nil, leases.BadMagic, 0, nil},
		{"p16-paxos-sh-shorthold-512", "MID20", nil, leases.Held, 0, []Holder{{host(1, 1), leases.Exclusive, 4472}}},
		{
			"p17-paxos-sh-shorthold-mb-512", "MID20", nil, leases.Held, 0,
			[]Holder{{host(1, 1), leases.Exclusive, 4472}, {host(1, 1), leases.Shared, 0}},
		},
		// Nothing was decided yet.
		{"p18-dblock-phase1-512", "MID20", nil, 0, 1, []Holder{}},
		// Host 1 may have won without having published it: its value is published for it.
		{"p19-dblock-phase2-512", "MID20", nil, leases.CommittedOther, 0, []Holder{}},
		{"p19-dblock-phase2-512", "MID20", oracle{host(1, 1): leases.Dead}, 0, 2, []Holder{}},
		// What the leader says is only true while the owner has not marked its block.
		{
			"p20-paxos-owner-not-writer-512", "MID21", nil, leases.Held, 0,
			[]Holder{{host(1, 1), leases.Exclusive, 4480}},
		},
		{"p21-paxos-released-not-writer-512", "MID21", nil, 0, 16, []Holder{}},
	}
	for _, tc := range tests {
		t.Run(fmt.Sprint(tc.image, " ", tc.live), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stageAt(t, small, "LS1", tc.name, tc.image, 5000)
				l := s.lease(4)
				if tc.owners != nil {
					_, owners, err := l.Owners(t.Context())
					s.must(err)
					if d := cmp.Diff(tc.owners, append([]Holder{}, owners...)); d != "" {
						t.Error(d)
					}
				}
				g, err := l.Acquire(t.Context(), host(4, 1), Request{Mode: leases.Exclusive}, tc.live)
				switch {
				case tc.kind != 0:
					wantKind(t, err, tc.kind)
				case err != nil:
					t.Error(err)
				case g.Version != tc.version:
					t.Errorf("version %d, want %d", g.Version, tc.version)
				}
				if l.Unsettled() {
					t.Error("something was left behind")
				}
			})
		})
	}
}
