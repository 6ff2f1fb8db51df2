package interop

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	killGrace   = 40 // seconds between the loss of a lockspace and SIGKILL
	askPause    = 50 * time.Millisecond
	askLimit    = 50 * time.Millisecond // of 99 in 100 answers
	askShare    = 3                     // times what a daemon that is left alone takes, where that is more
	statusFloor = 400                   // answers that a percentile is taken from
)

// cut is one way to lose storage.
type cut struct {
	kind kind
	io   uint32
	how  storage
	// deserted: the helper process is killed before.
	deserted bool
}

func (c cut) String() string {
	text := fmt.Sprintf("%s, io_timeout %d, %s", c.kind, c.io, [...]string{fails: "fails", hangs: "hangs"}[c.how])
	if c.deserted {
		text += ", no helper"
	}
	return text
}

// TestCut takes the storage of one of two lockspaces away, in the midst of their renewals. The holders are
// told at the times of spec sanlock-daemon 2.9; the other lockspace and the askers of status see nothing; the
// daemon can join again when the storage is back. Debian's daemon goes through the same and is the measure. One of ours
// that is left alone tells how soon this machine lets anyone answer.
func TestCut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 2 minutes")
	}
	measuring(t, 120)
	control := start(t, tenure, 1)
	lonely := cut{tenure, 2, hangs, true} // stock signals nobody then
	trials := []trial{{lonely.String(), func(t *testing.T) { lonely.run(t, control) }}}
	for _, kind := range []kind{tenure, debian} {
		for _, io := range []uint32{2, 5} {
			for _, how := range []storage{fails, hangs} {
				c := cut{kind, io, how, false}
				trials = append(trials, trial{c.String(), func(t *testing.T) { c.run(t, control) }})
			}
		}
	}
	together(t, trials...)
}

func (c cut) run(t *testing.T, control *node) {
	bad, good := newFrailDisk(t, "LS", 3), newFrailDisk(t, "LT", 1)
	n := start(t, c.kind, 1)
	defer bad.abort(t)
	lost, kept := lockspace{"LS", 1, bad.path, 0}, lockspace{"LT", 1, good.path, 0}
	for _, l := range []lockspace{lost, kept} {
		if rv, err := addLockspace(n.runDir, l, c.io); err != nil || rv != 0 {
			t.Fatalf("%s: add_lockspace: %d, %v\n%s", n, rv, err, n.tail())
		}
	}
	script, ran := killpathScript(t)
	// The first to be told is one whose program lies on the storage that goes.
	first := holderOf(t, n, bad.leaseOf("LS", 3), func(e *errand) { e.Killpath = bad.path })
	a := holderOf(t, n, bad.leaseOf("LS", 1), nil)
	b := holderOf(t, n, bad.leaseOf("LS", 2), func(e *errand) { e.Killpath = script })
	other := holderOf(t, n, good.leaseOf("LT", 1), nil)
	asking, left := n.every(askPause), control.every(askPause)
	c.desert(t, n)
	time.Sleep(time.Duration(c.io) * 2500 * time.Millisecond)

	bad.become(c.how)
	at := float64(bad.stamp(1))
	renewals := watchRenewals(good)
	limit := time.After(time.Duration(8*c.io+killGrace+20) * time.Second)
	for _, h := range []*victim{first, a, b} {
		select {
		case <-h.done:
		case <-limit:
			t.Fatalf("%s: a holder lives on\n%s", n, n.tail())
		}
	}
	gone := c.leftAfter(t, n, lost)
	gap := renewals()
	asking.judge(t, c.kind, left)
	c.judgeHolder(t, a, b, at, readTimes(t, ran))
	if terms, _, by := other.fate(); len(terms) > 0 || by != 0 {
		t.Errorf("the holder on the other lockspace was told %v, %d", terms, by)
	}
	if want := float64(2*c.io + 2); gap > want {
		t.Errorf("the other lockspace was not renewed for %.1f s, want %.0f", gap, want)
	}
	t.Logf("%s: the lockspace is left %.1f s after the last holder; the other one was renewed every %.1f s or less",
		c, gone, gap)
	c.rejoin(t, n, bad, lost)
	for _, l := range []lockspace{lost, kept} {
		if rv, err := remLockspace(n.runDir, l); err != nil || rv != 0 {
			t.Errorf("%s: rem_lockspace: %d, %v", n, rv, err)
		}
	}
}

// desert kills the helper, of which status knows the pid.
func (c cut) desert(t *testing.T, n *node) {
	t.Helper()
	text, err := status(n.runDir)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "helper_pid=")
	pid, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	comm := strings.TrimSpace(readFile(t, fmt.Sprintf("/proc/%d/comm", pid)))
	if comm != "sanlock-helper" {
		t.Fatalf("%s: helper %d is called %q", n, pid, comm)
	}
	if c.deserted {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// judgeHolder compares what befell the holders with the spec, in seconds since the last renewal.
func (c cut) judgeHolder(t *testing.T, a, b *victim, at float64, ran []float64) {
	t.Helper()
	fail := float64(8 * c.io)
	slop := 0.0
	if c.kind == debian {
		slop = 1 // it looks once a second
	}
	terms, ended, by := a.fate()
	if len(terms) == 0 || by != syscall.SIGKILL || len(ran) != 1 {
		t.Fatalf("%s: SIGTERM at %v, ended by %d, killpath at %v", c, terms, by, ran)
	}
	within(t, "the first SIGTERM", terms[0]-at, fail, fail+1+slop)
	within(t, "SIGKILL", ended-at, fail+killGrace, fail+killGrace+1+slop)
	if got := len(terms); got < killGrace-2 || got > killGrace+1 {
		t.Errorf("%s: %d times SIGTERM in %d seconds", c, got, killGrace)
	}
	bTerms, bEnded, bBy := b.fate()
	if len(bTerms) != 0 || bBy != syscall.SIGKILL {
		t.Errorf("%s: the holder with a killpath got SIGTERM at %v and ended by %d", c, bTerms, bBy)
	}
	within(t, "the killpath", ran[0]-at, fail, fail+1+slop)
	within(t, "SIGKILL of the one with a killpath", bEnded-at, fail+killGrace, fail+killGrace+1+slop)
	t.Logf("%s: SIGTERM +%.2f s (%d times), SIGKILL +%.2f s; killpath +%.2f s, SIGKILL +%.2f s; spec %.0f and %.0f",
		c, terms[0]-at, len(terms), ended-at, ran[0]-at, bEnded-at, fail, fail+killGrace)
}

// killpathScript returns a program that notes when it ran and the file it does that in.
func killpathScript(t *testing.T) (script, ran string) {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "cut") //nolint:usetesting // a killpath has at most 127 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	script, ran = filepath.Join(dir, "kill"), filepath.Join(dir, "ran")
	text := "#!/bin/sh\ncut -d' ' -f1 /proc/uptime >>" + ran + "\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script, ran
}

func readTimes(t *testing.T, file string) []float64 {
	t.Helper()
	var all []float64
	text, _ := os.ReadFile(file) // none if the program never ran
	for word := range strings.FieldsSeq(string(text)) {
		s, err := strconv.ParseFloat(word, 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// leftAfter waits until the daemon has left the lockspace and returns how long that took.
func (c cut) leftAfter(t *testing.T, n *node, l lockspace) float64 {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(pollPause) {
		rv, err := inqLockspace(n.runDir, l)
		if err != nil {
			t.Fatal(err)
		}
		// Debian's daemon cannot leave while its thread waits for storage that hangs.
		if rv == -2 || rv == -115 && c.kind == debian && c.how == hangs {
			return time.Since(begin).Seconds()
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%s: inq_lockspace is %d, 10 seconds after the last holder\n%s", n, rv, n.tail())
		}
	}
}

// rejoin brings the storage back and joins again: same daemon, same name, no long wait.
func (c cut) rejoin(t *testing.T, n *node, bad *frailDisk, l lockspace) {
	t.Helper()
	bad.become(works)
	begin := time.Now()
	for {
		rv, err := addLockspace(n.runDir, l, c.io)
		if err != nil {
			t.Fatal(err)
		}
		if rv == 0 {
			break
		}
		if rv != resultAgain || time.Since(begin) > time.Minute {
			t.Fatalf("%s: join again: %d\n%s", n, rv, n.tail())
		}
		time.Sleep(pollPause)
	}
	if took := time.Since(begin); took > time.Duration(4*c.io+2)*time.Second {
		t.Errorf("%s: joined again after %v", n, took)
	}
	h := holderOf(t, n, bad.leaseOf("LS", 1), nil)
	if terms, _, by := h.fate(); len(terms) > 0 || by != 0 {
		t.Error("a new holder is told to go")
	}
}

// watchRenewals returns what ends the watch and tells the longest time without a renewal.
func watchRenewals(d *frailDisk) func() float64 {
	stop, longest := make(chan struct{}), make(chan float64, 1)
	go func() {
		last, at, most := d.stamp(1), time.Now(), 0.0
		for {
			select {
			case <-stop:
				longest <- most
				return
			case <-time.After(pollPause):
			}
			if now := d.stamp(1); now != last {
				last, at = now, time.Now()
			}
			most = math.Max(most, time.Since(at).Seconds())
		}
	}()
	return func() float64 {
		close(stop)
		return <-longest
	}
}

// judge ends the asking, and that of a daemon that is left alone, and looks at the answers.
func (l *latencies) judge(t *testing.T, k kind, left *latencies) {
	t.Helper()
	p99, leftAlone := l.end(t), left.end(t)
	if len(l.took) < statusFloor {
		t.Errorf("only %d answers", len(l.took))
	}
	t.Logf("%s: status of %d: p50 %v, p99 %v, longest %v; of a daemon that is left alone p99 %v, longest %v", k,
		len(l.took), percentile(l.took, 50), p99, slices.Max(l.took), leftAlone, slices.Max(left.took))
	if limit := max(askLimit, askShare*leftAlone); k == tenure && p99 > limit {
		t.Errorf("p99 of status is %v, want at most %v", p99, limit)
	}
}

// TestOpenHangs: a file server that has gone hangs the open of a lockspace, of which the kernel knows no
// deadline. The joiner is told so after an io_timeout, and nobody else waits.
func TestOpenHangs(t *testing.T) {
	waiting(t, 15)
	dead, good := newFrailDisk(t, "LS", 1), newFrailDisk(t, "LT", 1)
	n, control := start(t, tenure, 1), start(t, tenure, 1)
	defer dead.abort(t)
	dead.hangOpens()
	asking, left := n.every(askPause), control.every(askPause)
	begin := time.Now()
	rv, err := addLockspace(n.runDir, lockspace{"LS", 1, dead.path, 0}, ioTimeout)
	if took := time.Since(begin).Seconds(); err != nil || rv != resultIOTimeout || math.Abs(took-ioTimeout) > 1 {
		t.Errorf("%s: add_lockspace: %d, %v, after %.1f s; want %d after %d s",
			n, rv, err, took, resultIOTimeout, ioTimeout)
	}
	other := lockspace{"LT", 1, good.path, 0}
	if rv, err := addLockspace(n.runDir, other, ioTimeout); err != nil || rv != 0 {
		t.Errorf("%s: add_lockspace of another one: %d, %v", n, rv, err)
	}
	holderOf(t, n, good.leaseOf("LT", 1), nil)
	asking.end(t)
	left.end(t)
	longest, usual := slices.Max(asking.took), slices.Max(left.took)
	if longest > usual+time.Second {
		t.Errorf("%s: status took up to %v, of a daemon that is left alone %v", n, longest, usual)
	}
	dead.become(works)
	back := lockspace{"LS", 1, dead.path, 0}
	if rv, err := addLockspace(n.runDir, back, ioTimeout); err != nil || rv != 0 {
		t.Errorf("%s: add_lockspace when the server is back: %d, %v", n, rv, err)
	}
	for _, l := range []lockspace{back, other} {
		if rv, err := remLockspace(n.runDir, l); err != nil || rv != 0 {
			t.Errorf("%s: rem_lockspace: %d, %v", n, rv, err)
		}
	}
}
