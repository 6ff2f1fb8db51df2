package interop

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/tools/need"
)

// ioTimeout is the io_timeout of every test cluster in seconds: joins take 5 s and a dead host is known to
// be dead 8*2+60 = 76 s after it was last seen to renew.
const ioTimeout = 2

const (
	failAfter = 8 * ioTimeout    // seconds of silence
	deadAfter = 8*ioTimeout + 60 // seconds of silence; 60 is what stock's watchdog takes to fire
	watchSlop = 2*ioTimeout + 2  // a renewal is seen by another host's next one at the latest
	opTimeout = 3 * time.Minute  // no socket exchange of these tests may take longer
	startWait = 10 * time.Second // from exec of a daemon to a socket that answers
	stopWait  = 10 * time.Second // from SIGTERM to a daemon's end
	pollPause = 100 * time.Millisecond
)

// kind says whose program a daemon runs.
type kind int

const (
	debian kind = iota
	tenure
)

func (k kind) String() string { return [...]string{"debian", "tenure"}[k] }

// program returns the path of the kind's sanlock. TENURE_ALL_DEBIAN=1 puts Debian's in place of ours: what
// fails then is a fault of the tests, or a hole of stock's that ours does not have.
func (k kind) program(t testing.TB) string {
	t.Helper()
	if k == debian || os.Getenv("TENURE_ALL_DEBIAN") != "" {
		return theirs(t)
	}
	return ours(t)
}

// node is one running daemon: a host of the cluster.
type node struct {
	kind   kind
	id     uint64 // host id
	runDir string
	log    string
	cmd    *exec.Cmd
	done   chan struct{} // closed when the process has been waited for
	space  lockspace

	mu   sync.Mutex
	dead bool // killed on purpose
}

func (n *node) String() string { return fmt.Sprintf("host %d (%s)", n.id, n.kind) }

// start runs a daemon without watchdog and waits until its socket answers. It is stopped when the test ends.
// Options that are given besides win. Unprivileged: root in a container may not raise the limits that stock
// insists on otherwise.
func start(t testing.TB, k kind, id uint64, options ...string) *node {
	t.Helper()
	return startIn(t, t.TempDir(), k, id, options...)
}

// startIn is start in a directory, which may be that of a daemon that was killed. It is the daemon's current
// one: relative paths in requests are looked for there.
func startIn(t testing.TB, dir string, k kind, id uint64, options ...string) *node {
	t.Helper()
	need.Root(t)
	n := &node{
		kind: k, id: id, runDir: filepath.Join(dir, "run"), log: filepath.Join(dir, "log"),
		done: make(chan struct{}),
	}
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	args := []string{"daemon", "-D", "-w", "0", "-h", "0", "-l", "0", "-e", fmt.Sprintf("host%d", id)}
	n.cmd = exec.Command(k.program(t), append(args, options...)...)
	n.cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+n.runDir, "SANLOCK_PRIVILEGED=0")
	n.cmd.Dir = dir
	n.cmd.Stdout, n.cmd.Stderr = out, out
	// It ends also when a test is interrupted. Stock's may send signals to its whole process group.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", n, err)
	}
	go func() {
		_ = n.cmd.Wait() // how it ended is seen by whoever still needs it
		close(n.done)
	}()
	t.Cleanup(func() { n.stop(t) })
	for deadline := time.Now().Add(startWait); ; time.Sleep(20 * time.Millisecond) {
		c, err := dial(n.runDir)
		if err == nil {
			_ = c.Close()
			return n
		}
		select {
		case <-n.done:
			t.Fatalf("%s ended at once:\n%s", n, n.tail())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v\n%s", n, err, n.tail())
		}
	}
}

// tail returns the last lines that the daemon logged.
func (n *node) tail() string {
	b, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// kill ends the daemon as a power cut would: SIGKILL, nothing is given back.
func (n *node) kill(t testing.TB) {
	t.Helper()
	n.mu.Lock()
	n.dead = true
	n.mu.Unlock()
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill %s: %v", n, err)
	}
	<-n.done
}

// stop ends the daemon at the end of a test: politely if it has left its lockspace, else by SIGKILL.
func (n *node) stop(t testing.TB) {
	n.mu.Lock()
	dead := n.dead
	n.mu.Unlock()
	if t.Failed() && !dead {
		t.Logf("%s, last lines:\n%s", n, n.tail())
	}
	if n.space.name == "" {
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-n.done:
			return
		case <-time.After(stopWait):
			t.Errorf("%s ignores SIGTERM though it is in no lockspace", n)
		}
	}
	_ = n.cmd.Process.Kill() // it may have ended already
	<-n.done
}

// join adds the lockspace at offset 0 of dev.
func (n *node) join(t testing.TB, dev string) {
	t.Helper()
	l := lockspace{name: "LS", hostID: n.id, path: dev}
	if rv, err := addLockspace(n.runDir, l, ioTimeout); err != nil || rv != 0 {
		t.Fatalf("%s: add_lockspace: %d, %v\n%s", n, rv, err, n.tail())
	}
	n.space = l
}

// leave removes the lockspace.
func (n *node) leave(t testing.TB) {
	t.Helper()
	if rv, err := remLockspace(n.runDir, n.space); err != nil || rv != 0 {
		t.Fatalf("%s: rem_lockspace: %d, %v\n%s", n, rv, err, n.tail())
	}
	n.space = lockspace{}
}

// client opens a registered connection that is closed when the test ends.
func (n *node) client(t testing.TB) *conn {
	t.Helper()
	c, err := client(n.runDir)
	if err != nil {
		t.Fatalf("%s: register: %v\n%s", n, err, n.tail())
	}
	if err := c.c.SetDeadline(time.Now().Add(opTimeout)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // a killed daemon's connection fails here
	return c
}

// cluster starts and joins one host of each given kind; the first has host id 1.
func cluster(t testing.TB, dev string, kinds ...kind) []*node {
	t.Helper()
	nodes := make([]*node, len(kinds))
	for i, k := range kinds {
		nodes[i] = start(t, k, uint64(i+1))
	}
	var wg sync.WaitGroup
	results := make([]error, len(nodes))
	for i, n := range nodes {
		wg.Go(func() {
			l := lockspace{name: "LS", hostID: n.id, path: dev}
			rv, err := addLockspace(n.runDir, l, ioTimeout)
			if err == nil && rv != 0 {
				err = fmt.Errorf("add_lockspace: %d", rv)
			}
			if err == nil {
				n.space = l
			}
			results[i] = err
		})
	}
	wg.Wait()
	for i, err := range results {
		if err != nil {
			t.Fatalf("%s: %v\n%s", nodes[i], err, nodes[i].tail())
		}
	}
	waitFirstLook(t, nodes)
	return nodes
}

// waitFirstLook waits until every host has looked at the others once: get_hosts answers, and no host takes
// a neighbour for alive only because it has just been seen for the first time.
func waitFirstLook(t testing.TB, nodes []*node) {
	t.Helper()
	for _, n := range nodes {
		for _, o := range nodes {
			n.waitState(t, o.id, hostLive, 4*time.Duration(watchSlop)*time.Second)
		}
	}
}

// state asks the daemon how it sees a host; 0 if it does not know.
func (n *node) state(t testing.TB, id uint64) uint32 {
	t.Helper()
	rv, hosts, err := getHosts(n.runDir, "LS", id)
	if err != nil {
		t.Fatalf("%s: get_hosts: %v\n%s", n, err, n.tail())
	}
	if rv == resultAgain || len(hosts) == 0 {
		return 0
	}
	if rv != 0 {
		t.Fatalf("%s: get_hosts: %d", n, rv)
	}
	return hosts[0].Flags & 0xF
}

// waitState polls until the daemon sees the host in the state and returns how long that took.
func (n *node) waitState(t testing.TB, id uint64, want uint32, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		got := n.state(t, id)
		if got == want {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			t.Fatalf("%s sees host %d in state %d after %v, want %d\n%s", n, id, got, limit, want, n.tail())
		}
		time.Sleep(pollPause)
	}
}

// lastLive returns the second of the monotonic clock at which the daemon last saw the host's sector change.
func (n *node) lastLive(t testing.TB, id uint64) int64 {
	t.Helper()
	status, err := hostStatus(n.runDir, "LS")
	if err != nil {
		t.Fatalf("%s: host_status: %v", n, err)
	}
	for field := range strings.FieldsSeq(status[id]) {
		if v, ok := strings.CutPrefix(field, "last_live="); ok {
			s, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Fatalf("%s: host_status has no last_live of host %d: %q", n, id, status[id])
	return 0
}

// monotonic is the clock that sanlock writes to disk, in seconds.
func monotonic(t testing.TB) float64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return float64(ts.Sec) + float64(ts.Nsec)/1e9
}

// layout is a pair of sector and area size, with what names it on stock's command line.
type layout struct {
	sector, align int64
	flags         []string // of direct init
}

var layouts = map[int64]layout{
	512:  {512, 1 << 20, []string{"-Z", "512", "-A", "1M"}},
	4096: {4096, 8 << 20, []string{"-Z", "4096", "-A", "8M"}},
}

// disk is a loop device with lockspace LS in its first area and leases R1, R2 … in the following ones.
type disk struct {
	path string
	layout
}

// newDisk formats a new loop device with Debian's program.
func newDisk(t testing.TB, sector int64, leases int) disk {
	t.Helper()
	return newDiskOn(t, newLoop, sector, leases)
}

// newDiskOn is newDisk on a loop device that loop makes.
func newDiskOn(t testing.TB, loop func(testing.TB, int, int64) string, sector int64, leases int) disk {
	t.Helper()
	sanlock := theirs(t)
	l := layouts[sector]
	d := disk{loop(t, int(sector), l.align*int64(leases+1)), l}
	d.init(t, sanlock, "-s", "LS:0:"+d.path+":0", "-o", fmt.Sprint(ioTimeout))
	for i := range leases {
		r := d.lease(i + 1)
		d.init(t, sanlock, "-r", fmt.Sprintf("LS:%s:%s:%d", r.name, r.path, r.offset))
	}
	return d
}

func (d disk) init(t testing.TB, sanlock string, args ...string) {
	t.Helper()
	args = append(append([]string{"direct", "init"}, args...), d.flags...)
	if out, err := exec.Command(sanlock, args...).CombinedOutput(); err != nil {
		t.Fatalf("sanlock %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// lease returns the i-th lease, counted from 1.
func (d disk) lease(i int) lease {
	return lease{space: "LS", name: fmt.Sprintf("R%d", i), path: d.path, offset: int64(i) * d.align}
}

// sectorAt reads sector i of the area at off from the device, past the page cache.
func (d disk) sectorAt(t testing.TB, off, i int64) []byte {
	t.Helper()
	p, err := d.read(off+i*d.sector, int(d.sector))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (d disk) read(off int64, n int) ([]byte, error) {
	f, err := os.OpenFile(d.path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := aligned(n)
	if _, err := f.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return p, nil
}

// write puts p, whole sectors, on the device.
func (d disk) write(t testing.TB, off int64, p []byte) {
	t.Helper()
	f, err := os.OpenFile(d.path, os.O_RDWR|syscall.O_DIRECT|syscall.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := aligned(len(p))
	copy(b, p)
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// aligned returns n bytes of page aligned memory, which O_DIRECT wants. It is never given back: the tests
// read a few sectors.
func aligned(n int) []byte {
	page := os.Getpagesize()
	p, err := unix.Mmap(-1, 0, (n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		panic(fmt.Sprintf("map %d bytes: %v", n, err))
	}
	return p[:n]
}

// trial is a named part of a test.
type trial struct {
	name string
	run  func(t *testing.T)
}

// together runs all trials at once. They wait nearly all the time, so the number of processors does not matter.
func together(t *testing.T, trials ...trial) {
	t.Helper()
	several(t, len(trials), trials...)
}

// several runs all trials, n at a time.
func several(t *testing.T, n int, trials ...trial) {
	t.Helper()
	var wg sync.WaitGroup
	room := make(chan struct{}, n)
	for _, c := range trials {
		room <- struct{}{}
		wg.Go(func() {
			t.Run(c.name, c.run)
			<-room
		})
	}
	wg.Wait()
}
