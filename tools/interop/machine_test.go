package interop

import (
	"flag"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/tools/need"
)

// Nearly all the time that these tests take they wait: for joins, renewals and hosts to be dead. What they judge by
// the second goes wrong on a machine that is too busy, so they share it. A test says what it is:
//
//   - alone: takes the whole machine, or measures what daemons take of it. These come first. What they do before, such
//     as to join, they do together.
//   - waiting: a few at a time.
//   - measuring: waits too, and judges by times that others spoil who work. Nobody works beside it.
//   - working: keeps a processor busy much of the time. One for each processor while there are any that wait, then one
//     more.
//
// Of those that may begin, the longest does: the order of go test is random.
const (
	waitingAtOnce   = 4
	measuringAtOnce = 2
)

type load int

const (
	alones load = iota
	waits
	measures
	labours
	loads
)

// turn is a parallel test that waits for its turn, or has it.
type turn struct {
	load   load
	length int    // seconds that it takes, about
	own    string // what only one test can have at a time, or ""
	begin  chan struct{}
	begun  time.Time // zero before
}

// machine has the turns.
var machine = schedule{owned: map[string]bool{}}

type schedule struct {
	mu        sync.Mutex
	coming    int // tests that go test has not let go on yet
	preparing int // tests that will be alone
	queue     []*turn
	ahead     [loads]int // tests that are not done
	running   [loads]int // those of them that have their turn
	owned     map[string]bool

	programs sync.Map // paths of stock's programs, by name
}

// shareMachine lets all parallel tests begin: how many run is decided here.
func shareMachine() {
	flag.Parse()
	const all = 1000
	if err := flag.Set("test.parallel", strconv.Itoa(all)); err != nil {
		panic(err) // go test has had this flag for ever
	}
}

// waiting makes a parallel test of one that waits most of the time, about so many seconds.
func waiting(t *testing.T, seconds int) {
	t.Helper()
	waitingFor(t, "", seconds)
}

// waitingFor is waiting for a test that needs what only one can have at a time.
func waitingFor(t *testing.T, own string, seconds int) {
	t.Helper()
	machine.take(machine.register(t, turn{load: waits, length: seconds, own: own}))
}

// measuring makes a parallel test of one that judges by times, beside which nobody may work.
func measuring(t *testing.T, seconds int) {
	t.Helper()
	machine.take(machine.register(t, turn{load: measures, length: seconds}))
}

// working makes a parallel test of one that keeps a processor busy for about so many seconds.
func working(t *testing.T, seconds int) {
	t.Helper()
	machine.take(machine.register(t, turn{load: labours, length: seconds}))
}

// alone makes a parallel test of one that wants the machine for itself, and lets it prepare for that beside others
// that do. When it has, it calls what is returned.
func alone(t *testing.T) (begin func()) {
	t.Helper()
	w := machine.register(t, turn{load: alones})
	prepared := sync.OnceFunc(func() {
		machine.mu.Lock()
		defer machine.mu.Unlock()
		machine.preparing--
		machine.next()
	})
	t.Cleanup(prepared) // also of a test that fails before
	return func() {
		machine.enqueue(w)
		prepared()
		<-w.begin
	}
}

// register returns when go test lets parallel tests go on: by then all have come here. The turn is given back when
// the test is done.
func (s *schedule) register(t *testing.T, w turn) *turn {
	t.Helper()
	w.begin = make(chan struct{})
	s.mu.Lock()
	s.coming++
	s.ahead[w.load]++
	if w.load == alones {
		s.preparing++
	}
	s.mu.Unlock()
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ahead[w.load]--
		if !w.begun.IsZero() {
			t.Logf("its turn took %v", time.Since(w.begun).Round(time.Second))
			s.running[w.load]--
			delete(s.owned, w.own)
		}
		s.next()
	})
	t.Parallel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming--
	return &w
}

// take returns when it is the test's turn.
func (s *schedule) take(w *turn) {
	s.enqueue(w)
	<-w.begin
}

func (s *schedule) enqueue(w *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, w)
	s.next()
}

// next gives turns to whoever may have one. mu is held.
func (s *schedule) next() {
	if s.coming > 0 || s.preparing > 0 {
		return
	}
	// What only one can have is had for as long as all take that want it.
	length := map[*turn]int{}
	for _, w := range s.queue {
		for _, o := range s.queue {
			if w == o || w.own != "" && w.own == o.own {
				length[w] += o.length
			}
		}
	}
	slices.SortStableFunc(s.queue, func(a, b *turn) int { return length[b] - length[a] })
	var left []*turn
	for _, w := range s.queue {
		if !s.room(w) {
			left = append(left, w)
			continue
		}
		s.running[w.load]++
		s.owned[w.own] = w.own != ""
		w.begun = time.Now()
		close(w.begin)
	}
	s.queue = left
}

// room reports whether a test may run beside those that do. mu is held.
func (s *schedule) room(w *turn) bool {
	switch {
	case w.load == alones:
		return s.running[alones] == 0
	case s.ahead[alones] > 0:
		return false
	case w.load == waits:
		return s.running[waits] < waitingAtOnce && !s.owned[w.own]
	case w.load == measures:
		return s.running[labours] == 0 && s.running[measures] < measuringAtOnce
	default:
		room := runtime.GOMAXPROCS(0)
		if s.ahead[waits] == 0 {
			room++
		}
		return s.running[measures] == 0 && s.running[labours] < room
	}
}

// theirs returns the path of Debian's sanlock. It is looked for once: some tests run it thousands of times.
func theirs(tb testing.TB) string {
	tb.Helper()
	const name = "sanlock"
	if path, ok := machine.programs.Load(name); ok {
		return path.(string)
	}
	path := need.Program(tb, name)
	machine.programs.Store(name, path)
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
