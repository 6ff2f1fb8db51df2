package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What 200 lockspaces may cost. Debian's daemon joins 8 at a time, by its worker threads, and keeps a thread
// per lockspace; tools/bench has its numbers.
const (
	manySpaces  = 200
	manyJoin    = 2 * time.Second // longer than one join
	manyRSS     = 100             // MB
	manyThreads = 40
	manyCPU     = 10 * time.Second // how long renewals are watched: each lockspace has two or three
)

// TestManyLockspaces is alone: it measures what the daemon takes of the machine.
func TestManyLockspaces(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 seconds")
	}
	begin := alone(t)
	s := soak{disk: disk{newLoop(t, 512, manySpaces<<20), layouts[512]}}
	s.format(t, manySpaces, 0, ioTimeout)
	n := start(t, tenure, 1)
	space := func(i int) lockspace {
		return lockspace{fmt.Sprintf("S%d", i), 1, s.path, int64(i) << 20}
	}
	begin()
	from := time.Now()
	if rv, err := addLockspace(n.runDir, space(0), ioTimeout); err != nil || rv != 0 {
		t.Fatalf("%s: add_lockspace: %d, %v\n%s", n, rv, err, n.tail())
	}
	first := time.Since(from)

	from = time.Now()
	each(t, n, "add_lockspace", func(i int) (int32, error) {
		if i == 0 {
			return 0, nil
		}
		return addLockspace(n.runDir, space(i), ioTimeout)
	})
	all := time.Since(from)
	before := n.usage(t)
	time.Sleep(manyCPU)
	after := n.usage(t)
	t.Logf("one lockspace joined in %v, %d more in %v; RSS %d MB, %d threads, %.1f %% of a CPU for renewals",
		first.Round(time.Millisecond), manySpaces-1, all.Round(time.Millisecond), after.rssMB, after.threads,
		100*(after.cpu-before.cpu).Seconds()/manyCPU.Seconds())
	if all > first+manyJoin {
		t.Errorf("joined in %v, want at most %v", all, first+manyJoin)
	}
	if after.rssMB >= manyRSS {
		t.Errorf("RSS %d MB, want less than %d", after.rssMB, manyRSS)
	}
	if after.threads >= manyThreads {
		t.Errorf("%d threads, want less than %d", after.threads, manyThreads)
	}
	from = time.Now()
	each(t, n, "rem_lockspace", func(i int) (int32, error) { return remLockspace(n.runDir, space(i)) })
	t.Logf("all left in %v", time.Since(from).Round(time.Millisecond))
}

// each does an exchange for every lockspace at once and demands success.
func each(t *testing.T, n *node, what string, do func(i int) (int32, error)) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range manySpaces {
		wg.Go(func() {
			if rv, err := do(i); err != nil || rv != 0 {
				t.Errorf("%s: %s S%d: %d, %v", n, what, i, rv, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// usage is what a daemon takes of the machine.
type usage struct {
	rssMB, threads, files int
	cpu                   time.Duration
}

func (n *node) usage(t testing.TB) usage {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(n.cmd.Process.Pid))
	u := usage{files: descriptors(t, n.cmd.Process.Pid)}
	for line := range strings.Lines(readFile(t, filepath.Join(proc, "status"))) {
		key, value, _ := strings.Cut(line, ":")
		number, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB")) // most lines are words
		switch key {
		case "VmRSS":
			u.rssMB = number / 1024
		case "Threads":
			u.threads = number
		}
	}
	const utime, stime, ticksPerSecond = 11, 12, 100
	_, rest, _ := strings.Cut(readFile(t, filepath.Join(proc, "stat")), ") ")
	fields := strings.Fields(rest)
	for _, i := range []int{utime, stime} {
		ticks, err := strconv.Atoi(fields[i])
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return u
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}
