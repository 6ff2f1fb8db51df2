package interop

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/tools/need"
	"github.com/tenurelock/tenure/watchdog/memdog"
	"github.com/tenurelock/tenure/watchdog/wdmd"
)

// watch is our wdmd at the place where all clients look, with a device in memory.
type watch struct {
	dog    *memdog.Dog
	server *wdmd.Server
	log    strings.Builder
	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
}

// watchPlace has the test whose wdmd is at the system's socket, or that wants none to be there.
const watchPlace = "wdmd"

// withoutWdmd skips the test if this machine's own wdmd is there.
func withoutWdmd(t *testing.T) {
	t.Helper()
	if c, err := net.Dial("unix", wdmd.DefaultPlace().Socket); err == nil {
		c.Close()
		need.Unmet(t, "sanlock", "a wdmd is running on this machine, at the socket that the test's would have")
	}
}

// startWatch serves the watchdog at the system's socket. The test is skipped if this machine's own wdmd is there.
func startWatch(t *testing.T) *watch {
	t.Helper()
	need.Root(t)
	withoutWdmd(t)
	place, err := wdmd.DefaultPlace().Take()
	if err != nil {
		need.Unmet(t, "sanlock", "the place of wdmd is not free: %v", err)
	}
	l, err := place.Listen(0)
	if err != nil {
		t.Fatal(err, place.Release())
	}
	w := &watch{dog: memdog.New(), done: make(chan struct{})}
	s, err := wdmd.New(wdmd.Config{Source: w.dog, Log: zerolog.New(zerolog.SyncWriter(&w.log))})
	if err != nil {
		t.Fatal(err, place.Release())
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.server, w.cancel = s, cancel
	go func() {
		defer close(w.done)
		s.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		w.kill()
		if err := place.Release(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("wdmd:\n%s", w.log.String())
		}
	})
	return w
}

// kill ends the daemon as SIGKILL would.
func (w *watch) kill() {
	w.once.Do(func() {
		w.dog.Kill()
		w.cancel()
		<-w.done
	})
}

// dump asks with Debian's wdmd what the daemon says of itself.
func dump(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(need.Program(t, "wdmd"), "-d").CombinedOutput()
	if err != nil {
		t.Fatalf("wdmd -d: %v", err)
	}
	return string(out)
}

var clientLine = regexp.MustCompile(`client \d+ name (sanlock_LS:1) pid (\d+) fd \d+ dead (\d) ref (\d) now (\d+) ` +
	`renewal (\d+) expire (\d+)\n`)

// watched finds the lockspace in a dump: its pid, dead, ref, now, renewal, expire.
func watched(t *testing.T) (fields []int, all string) {
	t.Helper()
	all = dump(t)
	m := clientLine.FindStringSubmatch(all)
	if m == nil {
		return nil, all
	}
	for _, text := range m[2:] {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		fields = append(fields, n)
	}
	return fields, all
}

// TestWatchdog runs daemons of both kinds with our wdmd: it is told of each renewal, and lets go of the device
// when the last lockspace is left.
func TestWatchdog(t *testing.T) {
	waitingFor(t, watchPlace, 60)
	for _, k := range []kind{debian, tenure} {
		t.Run(k.String(), func(t *testing.T) {
			d := newDisk(t, 512, 1)
			w := startWatch(t)
			n := start(t, k, 1, "-w", "1")
			n.join(t, d.path)
			first, all := watched(t)
			if first == nil || first[0] != n.cmd.Process.Pid || first[1] != 0 || first[2] != 1 ||
				first[5] != first[4]+failAfter {
				t.Fatalf("%s joined, and wdmd says\n%s", n, all)
			}
			if !w.dog.Counting() {
				t.Error("the device is not armed")
			}
			time.Sleep(time.Duration(failAfter) * time.Second)
			next, all := watched(t)
			if next == nil || next[4] < first[4]+2*ioTimeout || next[5] != next[4]+failAfter || next[5] <= next[3] {
				t.Errorf("%s after some renewals:\n%s", n, all)
			}
			if ev := fmt.Sprint(w.dog.Events()); strings.Contains(ev, "abandon") {
				t.Errorf("the device was given up while all is well: %s", ev)
			}
			n.leave(t)
			deadline := time.Now().Add(10 * time.Second)
			for w.dog.Counting() && time.Now().Before(deadline) {
				time.Sleep(pollPause)
			}
			if left, all := watched(t); left != nil || w.dog.Counting() {
				t.Errorf("%s left, and wdmd says\n%s%v", n, all, w.dog.Events())
			}
		})
	}
}

// TestWatchdogStops ends the lease daemon and wdmd right after it, as `systemctl stop sanlock; systemctl stop wdmd`
// does: nothing that the first has sent may be missing when the second decides.
func TestWatchdogStops(t *testing.T) {
	for _, k := range []kind{debian, tenure} {
		t.Run(k.String(), func(t *testing.T) {
			d := newDisk(t, 512, 1)
			w := startWatch(t)
			n := start(t, k, 1, "-w", "1")
			n.join(t, d.path)
			// Refused, and forgotten before the lockspace is left.
			w.server.Stop()
			select {
			case <-w.done:
				t.Fatalf("wdmd ended under a daemon in a lockspace: %s", w.dog.Events())
			case <-time.After(2 * time.Second):
			}
			n.leave(t)
			n.stop(t)
			w.server.Stop()
			select {
			case <-w.done:
			case <-time.After(3 * time.Second):
				t.Errorf("wdmd does not end after %s", n)
			}
			if w.dog.Counting() || w.dog.Fired() != 0 {
				t.Errorf("the device still counts after %s: %s", n, w.dog.Events())
			}
		})
	}
}

// TestWatchdogClientDies kills a daemon of either kind that is in a lockspace: the last pet comes before the end
// of its leases.
func TestWatchdogClientDies(t *testing.T) {
	waitingFor(t, watchPlace, 60)
	for _, k := range []kind{debian, tenure} {
		t.Run(k.String(), func(t *testing.T) {
			d := newDisk(t, 512, 1)
			w := startWatch(t)
			began := monotonic(t) - time.Since(w.dog.Began()).Seconds()
			n := start(t, k, 1, "-w", "1")
			n.join(t, d.path)
			n.kill(t)
			time.Sleep(time.Second)
			dead, all := watched(t)
			if dead == nil || dead[1] != 1 || dead[2] != 1 {
				t.Fatalf("%s was killed, and wdmd says\n%s", n, all)
			}
			end := float64(dead[5])
			for monotonic(t) < end+2 {
				time.Sleep(pollPause)
			}
			last := began + w.dog.Last().Seconds()
			if ev := fmt.Sprint(w.dog.Events()); !strings.Contains(ev, "abandon") || last > end || last < end-12 {
				t.Errorf("last pet at %.1f, the leases end at %.0f: %s", last, end, ev)
			}
			if !w.dog.Counting() {
				t.Error("the device does not count: this host would not be reset")
			}
		})
	}
}

// TestWatchdogDies kills wdmd under a daemon of ours: it stops who holds leases, and goes on itself. Debian's dies
// of SIGPIPE then.
func TestWatchdogDies(t *testing.T) {
	waitingFor(t, watchPlace, 20)
	d := newDisk(t, 512, 1)
	w := startWatch(t)
	n := start(t, tenure, 1, "-w", "1")
	n.join(t, d.path)
	holder := exec.Command(n.kind.program(t), "client", "command", "-r", "LS:R1:"+d.path+":1M", "-c",
		need.Program(t, "sleep"), "60")
	holder.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+n.runDir)
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- holder.Wait() }()
	time.Sleep(2 * time.Second)
	w.kill()
	select {
	case <-ended:
	case <-time.After(4 * ioTimeout * time.Second):
		t.Errorf("the holder goes on without a watchdog\n%s", n.tail())
		_ = holder.Process.Kill()
		<-ended
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		rv, hosts, err := getHosts(n.runDir, "LS", 1)
		if err != nil {
			t.Fatalf("%s is gone: %v", n, err)
		}
		if rv == -2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s still is in the lockspace: %d, %v\n%s", n, rv, hosts, n.tail())
		}
		time.Sleep(pollPause)
	}
	n.space = lockspace{}
}

// TestNoWatchdog asks daemons of both kinds to join without a wdmd.
func TestNoWatchdog(t *testing.T) {
	waitingFor(t, watchPlace, 5)
	need.Root(t)
	withoutWdmd(t)
	d := newDisk(t, 512, 1)
	for _, k := range []kind{debian, tenure} {
		n := start(t, k, 1, "-w", "1")
		const wdError = -203
		rv, err := addLockspace(n.runDir, lockspace{name: "LS", hostID: 1, path: d.path}, ioTimeout)
		if err != nil || rv != wdError {
			t.Errorf("%s: add_lockspace: %d, %v; want %d", n, rv, err, wdError)
		}
	}
}
