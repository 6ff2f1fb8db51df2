package native

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/tools/need"
)

// ioTimeout of every test's lockspaces in seconds: a join takes about 3 s.
const ioTimeout = 1

const (
	startWait = 10 * time.Second
	meetWait  = time.Minute // what takes a few io_timeouts where the machine is not busy
	pollEvery = 50 * time.Millisecond
)

// built is our binary, made at most once per run of the tests.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	if os.Getenv(lifeEnv) != "" {
		os.Exit(live())
	}
	if err := toMemory(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// toMemory lets the temporary files of the tests lie in memory, where its file system does direct I/O. Leases that
// last for seconds are else lost, and formatting takes minutes, while somebody writes to the disk.
func toMemory() error {
	const memory = "/dev/shm"
	f, err := os.CreateTemp(memory, "native")
	if err != nil {
		return nil // there is none that we may use
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return err
	}
	fd, err := unix.Open(f.Name(), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return errors.Join(unix.Close(fd), os.Setenv("TMPDIR", memory))
}

// kind says whose sanlock a host runs.
type kind string

const (
	tenure kind = "tenure"
	debian kind = "debian"
)

// kinds are what each test of one host runs against.
var kinds = []kind{tenure, debian}

func (k kind) program(tb testing.TB) string {
	tb.Helper()
	if k == debian {
		return need.Program(tb, "sanlock")
	}
	built.once.Do(func() {
		//nolint:usetesting // it outlives the test that builds it: TestMain removes it
		if built.dir, built.err = os.MkdirTemp("", "native"); built.err != nil {
			return
		}
		binary := filepath.Join(built.dir, "tenure")
		build := exec.Command("go", "build", "-o", binary, "../../../tools/tenure")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
			return
		}
		built.err = os.Symlink("tenure", filepath.Join(built.dir, "sanlock"))
	})
	if built.err != nil {
		tb.Fatal(built.err)
	}
	return filepath.Join(built.dir, "sanlock")
}

// host is one sanlock daemon with a Manager.
type host struct {
	*Manager

	kind kind
	id   uint64
	cfg  Config
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the daemon has been waited for
}

// disks is a directory that stands for /dev/mapper.
func disks(tb testing.TB, size int64, vgs ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	for _, vg := range vgs {
		path := filepath.Join(dir, deviceName(vg, "lvmlock"))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			tb.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// start runs a daemon and waits until it answers. It is killed when the test ends.
func start(tb testing.TB, k kind, id uint64, devDir string) *host {
	tb.Helper()
	if k == debian {
		need.Root(tb) // it gives up where it may not lock its memory
	}
	dir := tb.TempDir()
	h := &host{kind: k, id: id, log: filepath.Join(dir, "log"), done: make(chan struct{})}
	h.cfg = Config{
		RunDir: filepath.Join(dir, "run"), IOTimeout: ioTimeout, DevDir: devDir, Killpath: "/bin/true",
		Log: zerolog.New(zerolog.NewTestWriter(tb)),
	}
	h.Manager = New(h.cfg)
	out, err := os.Create(h.log)
	if err != nil {
		tb.Fatal(err)
	}
	defer out.Close()
	h.cmd = exec.Command(k.program(tb), "daemon", "-D", "-w", "0", "-h", "0", "-l", "0",
		"-e", fmt.Sprintf("host%d", id))
	h.cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+h.cfg.RunDir, "SANLOCK_PRIVILEGED=0")
	h.cmd.Stdout, h.cmd.Stderr = out, out
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when a test is interrupted
	if err := h.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		_ = h.cmd.Wait() // how it ended is seen by whoever needs it
		close(h.done)
	}()
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("%s host %d, last lines:\n%s", h.kind, h.id, h.tail())
		}
		h.kill()
	})
	for deadline := time.Now().Add(startWait); h.Running(tb.Context()) != nil; time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s does not answer:\n%s", k, h.tail())
		}
	}
	return h
}

// kill ends the daemon as a power cut would.
func (h *host) kill() {
	_ = h.cmd.Process.Kill() // it may have ended
	<-h.done
}

func (h *host) tail() string {
	b, err := os.ReadFile(h.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// vg is a volume group as the engine names it to this host.
func (h *host) vg(name string) lvmlock.VG {
	return lvmlock.VG{Name: name, Args: "1.0.0:lvmlock", HostID: h.id}
}

// format makes a VG's locks.
func (h *host) format(tb testing.TB, name string, global bool) {
	tb.Helper()
	args, err := h.InitVG(tb.Context(), lvmlock.VG{Name: name, Args: "lvmlock"}, lvmlock.InitOptions{Global: global})
	if err != nil || args != "1.0.0:lvmlock" {
		tb.Fatalf("InitVG: %q, %v", args, err)
	}
}

// join starts a VG. It is left when the test ends, if it was not before.
func (h *host) join(tb testing.TB, name string) *space {
	tb.Helper()
	return h.joinWith(tb, name, lvmlock.JoinOptions{})
}

func (h *host) joinWith(tb testing.TB, name string, o lvmlock.JoinOptions) *space {
	tb.Helper()
	joined, _, err := h.Prepare(tb.Context(), h.vg(name), lvmlock.PrepareOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	s, ok := joined.(*space)
	if !ok {
		tb.Fatalf("Prepare returned a %T", joined)
	}
	if _, err := s.Join(tb.Context(), o); err != nil {
		_ = s.Leave(tb.Context(), false)
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.setLeaving(true)
		s.stop()
		s.watchers.Wait()
		_ = s.hold.Close() // it may have been closed by Leave
	})
	return s
}

// twoHosts starts a host of each kind, and both join the VG.
func twoHosts(t *testing.T, vg string) (ours, debians *space, a, b *host) {
	t.Helper()
	dir := disks(t, 80*mib, vg)
	a, b = start(t, tenure, 1, dir), start(t, debian, 2, dir)
	a.format(t, vg, true)
	var both sync.WaitGroup
	both.Go(func() { debians = b.join(t, vg) })
	ours = a.join(t, vg)
	both.Wait()
	meet(t, ours)
	meet(t, debians)
	return ours, debians, a, b
}

// meet waits until a host has seen that another is alive.
func meet(tb testing.TB, s *space) {
	tb.Helper()
	for deadline := time.Now().Add(meetWait); ; time.Sleep(pollEvery) {
		others, unsure, err := s.Hosts(tb.Context())
		if err == nil && others == 1 && !unsure {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("host %d sees %d others, unsure %t, %v", s.vg.HostID, others, unsure, err)
		}
	}
}

var (
	globalLock = lvmlock.Resource{Kind: lvmwire.GL, Name: globalName}
	groupLock  = lvmlock.Resource{Kind: lvmwire.VG, Name: groupName}
)

// uuid is that of the i-th LV of a test.
func uuid(i int) string { return fmt.Sprintf("%06d-uuid-uuid-uuid-uuid-uuid-uuidXX", i) }

// wantResult fails the test unless err tells the client r.
func wantResult(tb testing.TB, what string, err error, r lvmwire.Result) *lvmlock.Error {
	tb.Helper()
	e, ok := errors.AsType[*lvmlock.Error](err)
	if !ok || e.Result != r {
		tb.Errorf("%s: %v; want result %d", what, err, r)
		return &lvmlock.Error{}
	}
	return e
}

func mustLock(tb testing.TB, s *space, r lvmlock.Resource, m lvmwire.Mode) lvmlock.Value {
	tb.Helper()
	v, err := s.Lock(tb.Context(), r, m, lvmlock.LockOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func mustUnlock(tb testing.TB, s *space, r lvmlock.Resource, m lvmwire.Mode, v *lvmlock.Value) {
	tb.Helper()
	if err := s.Unlock(tb.Context(), r, m, v); err != nil {
		tb.Fatal(err)
	}
}
