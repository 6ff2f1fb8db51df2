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
	together(t, trials...)
}

func joinAndLeave(t *testing.T, sector int64, watcher, joiner kind) {
	// A watcher that joined first knows the newcomer from its second renewal that shows a change on.
	const liveLimit = 2*(2*ioTimeout+1)*time.Second + 3*time.Second
	d := newDisk(t, sector, 1)
	w := cluster(t, d.path, watcher)[0]
	j := start(t, joiner, 2)
	for generation := uint64(1); generation <= 2; generation++ {
		begin := time.Now()
		j.join(t, d.path)
		joined := time.Since(begin)
		if low, high := 2*ioTimeout*time.Second, 2*ioTimeout*time.Second+2500*time.Millisecond; joined < low ||
			joined > high {
			t.Errorf("%s joined in %v, want %v to %v", j, joined, low, high)
		}
		live := w.waitState(t, 2, hostLive, liveLimit)
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
