package interop

import (
	"fmt"
	"testing"
	"time"
)

// TestJoinBesideDebian is point 2 of spec ondisk 10, as far as it goes without a death: what a host of one
// kind sees of one of the other that joins and leaves. TestDeadHost has FAIL and DEAD.
func TestJoinBesideDebian(t *testing.T) {
	waiting(t, 40)
	var trials []trial
	for _, c := range []struct{ watcher, joiner kind }{{debian, tenure}, {tenure, debian}, {tenure, tenure}} {
		for _, sector := range []int64{512, 4096} {
			trials = append(trials, trial{
				fmt.Sprintf("%s sees %s, %d", c.watcher, c.joiner, sector),
				func(t *testing.T) { joinAndLeave(t, sector, c.watcher, c.joiner) },
			})
		}
	}
	trials = append(trials, trial{"tenure sees a host id far away", seesFarHost})
	together(t, trials...)
}

// seesFarHost: renewals read what is known to be in use, but who asks for the hosts is told of all, at once.
// lvmlockd, say, asks before it removes a VG.
func seesFarHost(t *testing.T) {
	const far = 1999
	d := newDisk(t, 512, 1)
	w := cluster(t, d.path, tenure)[0]
	w.waitState(t, 1, hostLive, 3*ioTimeout*time.Second)
	j := start(t, debian, far)
	j.join(t, d.path)
	if got := w.state(t, far); got != hostLive {
		t.Errorf("%s sees the newcomer in state %d, want %d", w, got, hostLive)
	}
	j.leave(t)
	w.leave(t)
}

func joinAndLeave(t *testing.T, sector int64, watcher, joiner kind) {
	// A watcher that joined first knows the newcomer from its second renewal that shows a change on.
	const liveLimit = 2*(2*ioTimeout+1)*time.Second + 3*time.Second
	d := newDisk(t, sector, 1)
	w := cluster(t, d.path, watcher)[0]
	w.waitState(t, 1, hostLive, liveLimit) // until it has looked at all sectors once
	j := start(t, joiner, 2)
	firstSeen := firstState(t, w, 2)
	for generation := uint64(1); generation <= 2; generation++ {
		begin := time.Now()
		j.join(t, d.path)
		joined := time.Since(begin)
		if low, high := 2*ioTimeout*time.Second, 2*ioTimeout*time.Second+2500*time.Millisecond; joined < low ||
			joined > high {
			t.Errorf("%s joined in %v, want %v to %v", j, joined, low, high)
		}
		live := w.waitState(t, 2, hostLive, liveLimit)
		if generation == 1 {
			// lvmlockd counts those that are live when it asks whether a VG is stopped on all other hosts.
			if got := <-firstSeen; got != hostLive {
				t.Errorf("%s first saw the newcomer in state %d, want %d", w, got, hostLive)
			}
		}
		rv, hosts, err := getHosts(w.runDir, "LS", 2)
		if err != nil || rv != 0 || len(hosts) != 1 {
			t.Fatalf("get_hosts: %d, %v, %v", rv, hosts, err)
		}
		if got, want := hosts[0].Generation, generation; got != want {
			t.Errorf("generation %d, want %d", got, want)
		}
		if got, want := hosts[0].IOTimeout, uint32(ioTimeout); got != want {
			t.Errorf("io_timeout %d, want %d", got, want)
		}
		j.leave(t)
		free := w.waitState(t, 2, hostFree, watchSlop*time.Second)
		t.Logf("generation %d: joined in %v, LIVE %v later, FREE %v after leaving", generation,
			joined.Round(time.Millisecond), live.Round(time.Millisecond), free.Round(time.Millisecond))
	}
	w.leave(t)
}

// firstState tells in which state, other than free, a daemon first has a host.
func firstState(t *testing.T, n *node, id uint64) <-chan uint32 {
	first := make(chan uint32, 1)
	go func() {
		defer close(first)
		for t.Context().Err() == nil {
			rv, hosts, err := getHosts(n.runDir, "LS", id)
			if err != nil || rv != 0 && rv != resultAgain {
				return
			}
			if len(hosts) > 0 && hosts[0].Flags&0xF != hostFree {
				first <- hosts[0].Flags & 0xF
				return
			}
			time.Sleep(pollPause)
		}
	}()
	return first
}
