package lockspace

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/ondisk"
)

func claim(id uint64) []byte {
	l, p := ondisk.NewDelta(grid, leases.NameOf("LS1"), 2), make([]byte, grid.Sector)
	l.OwnerID, l.OwnerGeneration, l.Timestamp = id, 1, 50
	l.ResourceName = leases.NameOf("far")
	l.Encode(p)
	return p
}

func stateOf(s *Space, id leases.HostID) leases.Verdict {
	views, _ := s.Hosts()
	for _, v := range views {
		if v.Host == id {
			return v.State
		}
	}
	return leases.Free
}

// A host far from those that are known has come since the last renewal: who looks finds it, alive.
func TestLookFindsWhoCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := disk.Open("a")
		defer dev.Close()
		s := join(t, config(dev, 1, "a", 2))
		if err := s.Look(t.Context()); err != nil {
			t.Error(err) // nothing is known yet, and so nothing done
		}
		time.Sleep(5 * time.Second)
		for _, id := range []uint64{700, 1999} {
			disk.Poke(grid.DeltaOffset(id), claim(id))
			if got := stateOf(s, leases.HostID(id)); got != leases.Free {
				t.Errorf("host %d is %v before anyone looked", id, got)
			}
			if err := s.Look(t.Context()); err != nil {
				t.Error(err)
			}
			if got := stateOf(s, leases.HostID(id)); got != leases.Alive {
				t.Errorf("host %d is %v, want %v", id, got, leases.Alive)
			}
			time.Sleep(lookPause)
		}
		leave(t, s)
	})
}

// Whoever asks and goes away at once does not take the look from those who ask after it.
func TestLookOfOneWhoGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := disk.Open("a")
		defer dev.Close()
		s := join(t, config(dev, 1, "a", 2))
		time.Sleep(5 * time.Second)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_ = s.Look(gone) // it may come to look, or not
		disk.Poke(grid.DeltaOffset(1999), claim(1999))
		time.Sleep(lookPause)
		if err := s.Look(t.Context()); err != nil || stateOf(s, 1999) != leases.Alive {
			t.Errorf("the next look: %v, host 1999 is %v", err, stateOf(s, 1999))
		}
		leave(t, s)
	})
}

// Looks are bounded: one in a second, a second each, and none at a disk that does not answer.
func TestLookIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		s := join(t, config(dev, 1, "a", 2))
		time.Sleep(5 * time.Second)
		dev.Forget()
		for range 10 {
			if err := s.Look(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got, want := dev.Reads(), 4; got != want {
			t.Errorf("ten looks took %d reads, want %d of a quarter of the area", got, want)
		}
		time.Sleep(lookPause)
		gate := faulty.NewGate()
		dev.Add(faulty.On(faulty.Read, faulty.Stall(gate)))
		began := time.Now()
		for range 10 {
			_ = s.Look(t.Context())
		}
		if got := time.Since(began); got != lookWait {
			t.Errorf("ten looks at a disk that hangs took %v, want %v", got, lookWait)
		}
		gate.Release()
		time.Sleep(8 * time.Second)
		disk.Poke(grid.DeltaOffset(1999), claim(1999))
		if err := s.Look(t.Context()); err != nil || stateOf(s, 1999) != leases.Alive {
			t.Errorf("after the disk has answered again: %v, host 1999 is %v", err, stateOf(s, 1999))
		}
		leave(t, s)
	})
}
