package resource

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// TestNumHostsIsRefused: a number above what the area has room for would let ballots read the next one, and one
// below our own id would lock us out of what we hold. Stock stores both.
func TestNumHostsIsRefused(t *testing.T) {
	for _, c := range []struct {
		numHosts uint32
		want     leases.Kind
	}{{2001, leases.Invalid}, {1 << 31, leases.Invalid}, {4, leases.Invalid}, {5, 0}, {2000, 0}} {
		t.Run(fmt.Sprint(c.numHosts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(t, small, 0)
				l := openLease(t, disk)
				before := leaderAt(t, disk)
				_, err := l.Acquire(t.Context(), host(5, 1), Request{Mode: leases.Exclusive, NumHosts: c.numHosts}, oracle{})
				after := leaderAt(t, disk)
				if c.want != 0 {
					if wantKind(t, err, c.want); after != before {
						t.Errorf("refused, but the leader is %+v now", after)
					}
					return
				}
				if err != nil || after.NumHosts != uint64(c.numHosts) {
					t.Errorf("%v; num_hosts %d on disk", err, after.NumHosts)
				}
			})
		})
	}
}

// TestSharedAtOnce: of hosts that ask for a shared lease in the same moment most get it; with stock it is one of
// them. Who meets a commit that a rival made in another's name is told that the lease is held.
func TestSharedAtOnce(t *testing.T) {
	const hosts, rounds = 4, 50
	refused := 0
	for range rounds {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 0)
			var wg sync.WaitGroup
			var errs [hosts + 1]error
			for id := leases.HostID(1); id <= hosts; id++ {
				l := openLease(t, disk)
				l.cfg.SharedRetries = 8 // as in the daemon
				wg.Go(func() { _, errs[id] = l.Acquire(t.Context(), host(id, 1), sh, oracle{}) })
			}
			wg.Wait()
			for id := uint64(1); id <= hosts; id++ {
				b := blockAt(t, disk, id)
				switch {
				case errs[id] == nil && !b.Shared():
					t.Errorf("host %d was granted it and is not marked as a sharer", id)
				case errs[id] != nil:
					wantKind(t, errs[id], leases.Held)
					refused++
				}
			}
			time.Sleep(time.Minute) // whatever is still settling
		})
	}
	t.Logf("%d of %d were refused", refused, hosts*rounds)
	if refused > hosts*rounds/4 {
		t.Error("that is more than one in four")
	}
}

// TestForeignDiskIsLeftAlone: one of three disks is a lockspace, another lease, blank, or a lease that was
// deleted. The lease works on the other two, and nothing is written where it does not lie.
func TestForeignDiskIsLeftAlone(t *testing.T) {
	other := leases.NameOf("RES2")
	for name, area := range map[string][]byte{
		"lockspace":            ondisk.FormatLockspace(small, testSpace, 2),
		"another lease":        ondisk.FormatResource(small, testSpace, other, 0),
		"of another space":     ondisk.FormatResource(small, other, testName, 0),
		"blank":                make([]byte, small.Align),
		"deleted":              ondisk.ClearResource(small, testSpace, testName, 0, 1000),
		"index of a lockspace": ondisk.FormatIndex(small, testSpace, 0, 0),
	} {
		for wrong := range 3 {
			t.Run(fmt.Sprintf("%s, disk %d", name, wrong), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var devs []device.Device
					foreign := memdisk.New(memdisk.Config{SectorSize: small.Sector, Size: int64(small.Align)})
					foreign.Poke(0, area)
					for d := range 3 {
						disk := foreign
						if d != wrong {
							disk = formatted(t, small, 0)
						}
						dev := disk.Open("1")
						defer dev.Close()
						devs = append(devs, dev)
					}
					l := leaseOn(t, small, devs...)
					for _, req := range []Request{ex, sh} {
						g := mustAcquire(t, l, host(1, 1), req, oracle{})
						if err := l.Release(t.Context(), g, ""); err != nil {
							t.Error(err)
						}
					}
					if !bytes.Equal(foreign.Bytes(0, small.Align), area) {
						t.Error("it was written to")
					}
				})
			})
		}
	}
}
