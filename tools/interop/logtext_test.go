package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The lines that sanlock logs are looked for by its own tests, by those of its users, and by people who
// search for what bug reports quote. Here one story is told to each daemon, once with storage that fails at
// its end and once with storage that hangs.

const (
	tellIO    = 2 // io_timeout of the story, seconds
	tellGrace = 3 // seconds between the loss and SIGKILL
)

// promised are the lines that must be the same, and have the same priority. The rest of stock's tells of its
// own insides.
var promised = []string{
	`^sanlock daemon started `, `^Using non-standard run directory `, `^Running in unprivileged mode$`,
	`^s\d+ lockspace `, `^s\d+ host \d+ `, ` conflicts with (?:name|path) of `, `^s\d+ add_lockspace (?:fail|done)`,
	`^s\d+ delta_acquire done `, `^s\d+:rN resource `, `cmd_acquire C acquire_token `, ` invalid lockspace `,
	`^cmd_(?:acquire|convert|release) .* (?:result|no resource) `, ` replaced by `,
	`^client connection `, `^client_free `, `^client_pid_dead `, `^dead `, `^ignore shutdown, lockspace exists$`,
	`check_our_lease (?:warning|failed) `, `^s\d+ renewal error `, `^s\d+ kill `, `^s\d+ all pids clear$`,
	` blocking lockspace removal$`, `^s\d+ free lockspace$`, `^lockfile `,
}

var contract = regexp.MustCompile(strings.Join(promised, "|"))

// ofOneLog are the parts of lines that differ between two runs of one program. What follows a number that
// says why something was refused is the program's own.
var ofOneLog = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`:r\d+ `), ":rN "},
	{regexp.MustCompile(`^(s\d+ host \d+ \d+|s\d+ delta_acquire done \d+ \d+) \d+`), "$1 T"},
	{regexp.MustCompile(`^(client connection) (?:ci )?\d+ (?:fd )?\d+ `), "$1 C "},
	{regexp.MustCompile(` \d+,\d+,\d+ `), " C "},
	{regexp.MustCompile(`^client_free ci \d+ live pid \d+`), "client_free ci C live pid P"},
	{regexp.MustCompile(`(check_our_lease \w+) \d+( last_success)? ?\d*`), "$1 N$2"},
	{regexp.MustCompile(`(renewal error -?\d+) delta_length \d+ last_success \d+.*`), "$1 delta_length N last_success T"},
	{regexp.MustCompile(`\b(kill|dead) \d+ `), "$1 P "},
	{regexp.MustCompile(`ci \d+ count \d+$`), "ci C count N"},
	{regexp.MustCompile(`count (?:[2-9]|\d\d+)$`), "count N"},       // how often depends on the seconds of the run
	{regexp.MustCompile(`(client_pid_dead .* suspend) \d`), "$1 N"}, // whether its last command had ended
	{regexp.MustCompile(`(replaced by .* t) \d+`), "$1 T"},
	{regexp.MustCompile(`(used by orphan) \d+`), "$1 N"},
	{regexp.MustCompile(`(fail result -?\d+|acquire_token -?\d+|pid_dead \d).*`), "$1"},
}

// logLine is a line of a log: its text comes after time and thread.
var logLine = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \d+ \[\d+\]: (.*)$`)

// teller tells the story to one daemon.
type teller struct {
	t    *testing.T
	how  storage
	disk *frailDisk
	n    *node // the host that is judged
	file string
	swap *strings.Replacer
	said []string // what it answered
}

// heard is what one daemon logged of the contract: each text once.
type heard struct {
	Answers   []string
	Second    []string // of a daemon that may not start
	All, File []string
}

// TestLogTexts compares the lines of contract. With storage that fails the log file has errors alone, with
// storage that hangs warnings too, so that each line's priority is compared.
func TestLogTexts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	waiting(t, 50)
	var trials []trial
	var mu sync.Mutex
	var stock []string // lines of all trials
	for _, c := range []struct {
		name     string
		how      storage
		priority int
	}{{"errors of storage that fails", fails, 3}, {"warnings of storage that hangs", hangs, 4}} {
		trials = append(trials, trial{c.name, func(t *testing.T) {
			var all [2]heard
			var both sync.WaitGroup
			for _, k := range []kind{debian, tenure} {
				w := newTeller(t, k, c.how, c.priority)
				both.Go(func() { all[k] = w.tell() })
			}
			both.Wait()
			mu.Lock()
			stock = append(append(stock, all[debian].Second...), all[debian].All...)
			mu.Unlock()
			if diff := cmp.Diff(all[debian], all[tenure]); diff != "" {
				t.Errorf("(-debian +ours):\n%s", diff)
			}
		}})
	}
	together(t, trials...)
	for _, p := range promised {
		if !slices.ContainsFunc(stock, regexp.MustCompile(p).MatchString) {
			t.Errorf("the story does not make stock log %s", p)
		}
	}
}

func newTeller(t *testing.T, k kind, how storage, priority int) *teller {
	t.Helper()
	w := &teller{t: t, how: how, disk: newFrailDisk(t, "LS", 4)}
	c := startConfigured(t, k, fmt.Sprintf("%slogfile_priority = %d\n", plainDaemon, priority),
		"-e", "host1", "-g", fmt.Sprint(tellGrace))
	t.Cleanup(func() { w.disk.abort(t) })
	w.n = &node{kind: k, id: 1, runDir: c.runDir, log: filepath.Join(filepath.Dir(c.runDir), "out")}
	w.file = filepath.Join(c.logDir, "sanlock.log")
	w.swap = strings.NewReplacer(w.disk.path, "DISK", c.runDir, "RUNDIR")
	return w
}

func (w *teller) tell() heard {
	w.spaces()
	w.leases()
	w.strays()
	second := w.second()
	w.loss()
	if w.t.Failed() {
		w.t.Logf("%s, last lines:\n%s", w.n, w.n.tail())
	}
	return heard{w.said, second, w.lines(w.n.log), w.lines(w.file)}
}

// ask notes an answer.
func (w *teller) ask(what string) func(rv int32, err error) {
	return func(rv int32, err error) {
		if err != nil {
			w.t.Errorf("%s: %s: %v", w.n, what, err)
		}
		w.said = append(w.said, fmt.Sprintf("%s: %d", what, rv))
	}
}

// spaces adds lockspaces, most of which cannot be.
func (w *teller) spaces() {
	p := w.disk.path
	for _, c := range []struct {
		what string
		l    lockspace
	}{
		{"add", lockspace{"LS", 1, p, 0}},
		{"add again", lockspace{"LS", 1, p, 0}},
		{"add with a name in use", lockspace{"LS", 1, p, 1 << 20}},
		{"add with a place in use", lockspace{"LT", 1, p, 0}},
		{"add without a device", lockspace{"LT", 1, "/dev/nowhere", 0}},
		{"add without a lockspace", lockspace{"LT", 1, p, 1 << 20}},
	} {
		w.ask(c.what)(addLockspace(w.n.runDir, c.l, tellIO))
	}
}

// leases lets another host join, and acquires, most of which cannot be.
func (w *teller) leases() {
	other := start(w.t, debian, 2)
	w.ask("the other joins")(addLockspace(other.runDir, lockspace{"LS", 2, w.disk.path, 0}, tellIO))
	other.space = lockspace{"LS", 2, w.disk.path, 0}
	waitFirstLook(w.t, []*node{w.n, other})
	c, o := w.n.client(w.t), other.client(w.t)
	mine, theirs := w.disk.leaseOf("LS", 1), w.disk.leaseOf("LS", 2)
	misnamed, lost, homeless := mine, mine, mine
	misnamed.name, lost.path, homeless.space = "RX", "/dev/nowhere", "XX"
	lost.name = "RY"
	w.ask("acquire")(c.acquire(mine, 0))
	w.ask("acquire again")(c.acquire(mine, 0))
	w.ask("acquire by a wrong name")(c.acquire(misnamed, 0))
	w.ask("acquire without a device")(c.acquire(lost, 0))
	w.ask("acquire without a lockspace")(c.acquire(homeless, 0))
	w.ask("the other acquires")(o.acquire(theirs, 0))
	w.ask("acquire what is held")(c.acquire(theirs, 0))
	w.ask("convert what is not held")(c.convert(lost))
	w.ask("convert to what it is")(c.convert(mine))
	w.ask("release")(c.release(mine))
	w.ask("release again")(c.release(mine))
	for event := range uint64(2) {
		w.ask("set_event")(w.n.setEvent(0, 2, 7, 1+event, 5+event))
	}
	// After this answer a connection is closed, unless it is registered.
	w.ask("set_config by a client")(c.result(cmdSetConfig, 0, 2, lockspace{name: "LS"}.body()))
	w.ask("acquire after that")(c.acquire(mine, 0))
	w.ask("release after that")(c.release(mine))
	if err := c.Close(); err != nil {
		w.t.Error(err)
	}
	if err := o.Close(); err != nil {
		w.t.Error(err)
	}
	other.leave(w.t)
}

// strays sends what is no request, and a shutdown that is not heeded.
func (w *teller) strays() {
	header := func(m order) []byte { return m.bytes() }
	for _, p := range [][]byte{
		header(order{cmd: 99, magic: wireMagic, version: 1}),
		header(order{cmd: cmdStatus, magic: 7, version: 1}),
		header(order{cmd: cmdStatus, magic: wireMagic, version: 0x70000}),
		make([]byte, 5),
		header(order{cmd: cmdShutdown, magic: wireMagic, version: 1}),
	} {
		err := once(w.n.runDir, func(c *conn) error {
			_, err := c.c.Write(p)
			return err
		})
		if err != nil {
			w.t.Error(err)
		}
		time.Sleep(3 * pollPause) // the next one gets the same place in the table
	}
}

// second starts another daemon in the same run directory, and returns what it says.
func (w *teller) second() []string {
	cmd := exec.Command(w.n.kind.program(w.t), "daemon", "-D", "-w", "0", "-h", "0", "-l", "0", "-e", "host1")
	cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+w.n.runDir, "SANLOCK_PRIVILEGED=0")
	out, err := cmd.CombinedOutput()
	if err == nil {
		w.t.Errorf("%s: a second daemon ended well", w.n)
	}
	return w.linesOf(out)
}

// loss takes the storage away from two holders and an orphan, and lets the lockspace go in the end.
func (w *teller) loss() {
	keep, drop, blocking := uint32(1), uint32(2), "used external"
	if w.how == hangs {
		keep, drop, blocking = 4, 8, "used by orphan"
	}
	script, _ := killpathScript(w.t)
	a := holderOf(w.t, w.n, w.disk.leaseOf("LS", 1), nil)
	b := holderOf(w.t, w.n, w.disk.leaseOf("LS", 2), func(e *errand) { e.Killpath = script })
	w.orphan()
	w.config(keep)
	w.disk.become(w.how)
	for _, h := range []*victim{a, b} {
		select {
		case <-h.done:
		case <-time.After(time.Minute):
			w.t.Fatalf("%s: a holder lives on\n%s", w.n, w.n.tail())
		}
	}
	w.await(blocking)
	c := w.n.client(w.t)
	w.ask("acquire after the loss")(c.acquire(w.disk.leaseOf("LS", 3), 0))
	w.config(drop)
	w.await("all pids clear")
	w.disk.become(works)
	w.await("free lockspace")
}

func (w *teller) config(flag uint32) {
	err := once(w.n.runDir, func(c *conn) error {
		rv, err := c.result(cmdSetConfig, 0, flag, lockspace{name: "LS"}.body())
		w.ask(fmt.Sprintf("set_config %d", flag))(rv, err)
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
}

// orphan leaves a persistent lease behind.
func (w *teller) orphan() {
	c := w.n.client(w.t)
	r := w.disk.leaseOf("LS", 4).append(nil, true)
	r[120] |= resPersistent
	w.ask("acquire for good")(c.result(cmdAcquire, 0, 1, append(r, make([]byte, 56)...)))
	if err := c.Close(); err != nil {
		w.t.Error(err)
	}
}

// await waits until the daemon has logged a text.
func (w *teller) await(text string) {
	for end := time.Now().Add(time.Minute); ; time.Sleep(pollPause) {
		all, err := os.ReadFile(w.n.log)
		if err == nil && strings.Contains(string(all), text) {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s does not log %q: %v\n%s", w.n, text, err, w.n.tail())
		}
	}
}

// lines returns the lines of contract in a file.
func (w *teller) lines(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Error(err)
	}
	return w.linesOf(text)
}

// linesOf returns the lines of contract in a text, sorted, each once.
func (w *teller) linesOf(text []byte) (all []string) {
	for line := range strings.Lines(string(text)) {
		m := logLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		one := w.swap.Replace(m[1])
		for _, r := range ofOneLog {
			one = r.find.ReplaceAllString(one, r.put)
		}
		if contract.MatchString(one) {
			all = append(all, one)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
