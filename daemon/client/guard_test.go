package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// guarded is a host with a lockspace of io_timeout 2, whose leases last 16 s, and a guard of it. The time passes
// by suspend.
type guarded struct {
	text  atomic.Value // string: of the lockspace's state record
	asked atomic.Int32
	slept atomic.Int64
	dir   string
	guard *client.Guard
}

// base is when the guard is made, in seconds.
const base = 1000

func newGuarded(t *testing.T, text string) *guarded {
	g := &guarded{}
	g.text.Store(text)
	g.dir = serve(t, func(h sanlockwire.Header, _ []byte) ([]byte, bool) {
		g.asked.Add(1)
		p := h.Reply(0, 0).Append(nil)
		for _, name := range []string{"other", "LS"} {
			s := sanlockwire.State{Type: sanlockwire.StateLockspace, Name: leases.NameOf(name), Text: g.text.Load().(string)}
			if name == "other" {
				s.Text = "io_timeout=200 renewal_last_success=1000"
			}
			if s.Text != "" {
				p = s.Append(p)
			}
		}
		return p, true
	})
	clock := monotime.At(monotime.Instant(base*time.Second), func() time.Duration { return time.Duration(g.slept.Load()) })
	g.guard = client.NewGuard(g.dir, "LS", clock)
	return g
}

func (g *guarded) check(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := g.guard.Check(ctx)
	if err != nil && leases.KindOf(err) != leases.Lost {
		t.Errorf("kind %d: %v", leases.KindOf(err), err)
	}
	return err
}

func TestGuard(t *testing.T) {
	g := newGuarded(t, "io_timeout=2 renew_fail=0 space_dead=0 killing_pids=0 renewal_last_success=999")
	for range 3 {
		if err := g.check(t); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.asked.Load(); n != 1 {
		t.Errorf("asked %d times while nothing was due", n)
	}
	// The renewal may be older than the suspend.
	g.slept.Store(int64(15500 * time.Millisecond))
	if err := g.check(t); err == nil || g.asked.Load() != 2 {
		t.Errorf("a renewal from before a suspend counts as one from after it: %v, asked %d times", err, g.asked.Load())
	}
	g.text.Store("io_timeout=2 renewal_last_success=1000")
	if err := g.check(t); err != nil {
		t.Errorf("a newer renewal does not count: %v", err)
	}
	g.slept.Store(int64(40 * time.Second))
	g.text.Store("io_timeout=2 renewal_last_success=1000")
	if err := g.check(t); err == nil {
		t.Error("a renewal that is too old counts")
	}
}

func TestGuardWithoutRenewal(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "not joined"},
		{"io_timeout=2", "not renewed yet"},
		{"renewal_last_success=1000", "not renewed yet"},
		{"io_timeout=2 renewal_last_success=983", "ago"},
		{"io_timeout=2 renewal_last_success=1000 renew_fail=1", "renew_fail"},
		{"io_timeout=2 renewal_last_success=1000 space_dead=1", "space_dead"},
		{"io_timeout=2 renewal_last_success=1000 killing_pids=1", "killing_pids"},
	} {
		if err := newGuarded(t, c.text).check(t); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v; want %q", c.text, err, c.want)
		}
	}
	// A daemon that is not there says nothing, so nothing is known.
	g := client.NewGuard(t.TempDir(), "LS", monotime.System())
	if err := g.Check(t.Context()); leases.KindOf(err) != leases.Lost {
		t.Errorf("without a daemon: %v", err)
	}
}

// A daemon that does not answer does not end what is known to be valid.
func TestGuardOfSilentDaemon(t *testing.T) {
	g := newGuarded(t, "io_timeout=2 renewal_last_success=1000")
	if err := g.check(t); err != nil {
		t.Fatal(err)
	}
	g.text.Store("nonsense")
	g.slept.Store(int64(9 * time.Second))
	if err := g.check(t); err != nil {
		t.Errorf("valid for seven seconds more: %v", err)
	}
	g.slept.Store(int64(17 * time.Second))
	if err := g.check(t); err == nil {
		t.Error("valid though what is known has ended")
	}
}

// enforcedEnv names the run directory of the fake daemon to a copy of this program that is to be killed.
const enforcedEnv = "TENURE_TEST_ENFORCED"

// TestEnforcedProcess is that copy; it does nothing when it is run as a test.
func TestEnforcedProcess(t *testing.T) {
	dir := os.Getenv(enforcedEnv)
	if dir == "" {
		t.Skip("runs as a part of TestEnforce")
	}
	g := client.NewGuard(dir, "LS", monotime.System())
	if err := g.Enforce(); err != nil {
		t.Fatal(err)
	}
	err := g.Check(t.Context())
	if err == nil {
		fmt.Println("valid")
	} else {
		fmt.Println(leases.KindOf(err) == leases.Lost)
	}
	time.Sleep(time.Minute)
}

// A process dies by the kernel when its daemon would kill it, and no earlier.
func TestEnforce(t *testing.T) {
	const life = 8*2 + timeouts.Grace
	renewed := monotime.System().Now().Seconds() - life + 2
	if renewed < 1 || renewed > 1<<62 {
		t.Skip("this machine was started a minute ago")
	}
	g := newGuarded(t, fmt.Sprintf("io_timeout=2 renewal_last_success=%d", renewed))
	began := time.Now()
	process := exec.Command(os.Args[0], "-test.run=^TestEnforcedProcess$", "-test.timeout=30s")
	process.Env = append(os.Environ(), enforcedEnv+"="+g.dir)
	out, err := process.Output()
	took := time.Since(began)
	died, ok := errors.AsType[*exec.ExitError](err)
	if !ok || died.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v, want SIGKILL; %s", err, out)
	}
	if string(out) != "true\n" || took < 800*time.Millisecond || took > 10*time.Second {
		t.Errorf("after %v, having said %q", took, out)
	}
}
