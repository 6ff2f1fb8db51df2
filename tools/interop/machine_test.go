package interop

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/tools/need"
)

// Nearly all the time that these tests take they wait: for joins, renewals and hosts to be dead. What they judge by
// the second goes wrong on a machine that is too busy, so they share it:
//
//   - Tests that are not parallel measure what daemons take of the machine, or take all of it. go test runs
//     them first, one by one.
//   - Then come those that are waiting, a few at a time, and beside them one that is working.
//   - When all that were waiting are done, there is a processor for each that is working.
const waitingAtOnce = 4

var machine = struct {
	waits     sync.WaitGroup // the tests that are waiting
	waiting   chan struct{}
	processor chan struct{} // for a working test
	others    chan struct{} // the other processors
	stock     sync.Map      // paths of stock's programs, by name
}{
	waiting:   make(chan struct{}, waitingAtOnce),
	processor: make(chan struct{}, 1),
	others:    make(chan struct{}, runtime.GOMAXPROCS(0)-1),
}

// shareMachine lets all parallel tests begin: how many run is decided here.
func shareMachine() {
	flag.Parse()
	const all = 1000
	if err := flag.Set("test.parallel", strconv.Itoa(all)); err != nil {
		panic(err) // go test has had this flag for ever
	}
}

// waiting makes a parallel test of one that waits most of the time. Before its turn it takes what only one test
// can have.
func waiting(t *testing.T, own ...sync.Locker) {
	t.Helper()
	machine.waits.Add(1) // before the first parallel test goes on
	t.Cleanup(machine.waits.Done)
	t.Parallel()
	for _, l := range own {
		l.Lock()
		t.Cleanup(l.Unlock)
	}
	machine.waiting <- struct{}{}
	t.Cleanup(func() { <-machine.waiting })
}

// working makes a parallel test of one that keeps a processor busy.
func working(t *testing.T) {
	t.Helper()
	t.Parallel()
	quiet := make(chan struct{})
	go func() {
		machine.waits.Wait()
		close(quiet)
	}()
	turn := machine.processor
	select {
	case machine.processor <- struct{}{}:
	case <-quiet:
		select {
		case machine.processor <- struct{}{}:
		case machine.others <- struct{}{}:
			turn = machine.others
		}
	}
	t.Cleanup(func() { <-turn })
}

// theirs returns the path of Debian's sanlock. It is looked for once: some tests run it thousands of times.
func theirs(tb testing.TB) string {
	tb.Helper()
	const name = "sanlock"
	if path, ok := machine.stock.Load(name); ok {
		return path.(string)
	}
	path := need.Program(tb, name)
	machine.stock.Store(name, path)
	return path
}

// shm is a file system in memory. What it lacks of a real one are sectors: a loop device has them all the same,
// and does not wait for a disk.
const shm = "/dev/shm"

// inMemory reports whether shm can be used: there must be room, and O_DIRECT.
var inMemory = sync.OnceValue(func() bool {
	const room = 2 << 30
	var fs unix.Statfs_t
	if err := unix.Statfs(shm, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < room {
		return false
	}
	fd, err := unix.Open(shm, unix.O_TMPFILE|unix.O_RDWR|unix.O_DIRECT, 0o600)
	if err != nil {
		return false
	}
	return unix.Close(fd) == nil
})

// memoryDir makes a directory in memory, or where there is none, on disk.
func memoryDir(tb testing.TB) string {
	tb.Helper()
	if !inMemory() {
		return tb.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "interop") //nolint:usetesting // that is on disk
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

// newLoop is need.Loop in memory.
func newLoop(tb testing.TB, sectorSize int, size int64) string {
	tb.Helper()
	return need.LoopIn(tb, memoryDir(tb), sectorSize, size)
}
