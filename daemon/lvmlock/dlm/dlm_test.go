package dlm

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

const lvUUID = "5xeQFY-2sTM-ZsIW-YUbT-ldMa-HAIe-92cXGy"

var (
	vgLock = lvmlock.Resource{Kind: lvmwire.VG, Name: "VGLK"}
	lvLock = lvmlock.Resource{Kind: lvmwire.LV, Name: lvUUID, Args: "dlm"}
	vgA    = lvmlock.VG{Name: "a", UUID: "u", Args: "1.0.0:tst"}
)

func (h *fakeHost) manager() *Manager { return New(Config{Kernel: h, Cluster: h.cluster.dir}) }

func prepare(t *testing.T, h *fakeHost) *Lockspace {
	t.Helper()
	s, previous, err := h.manager().Prepare(t.Context(), vgA, lvmlock.PrepareOptions{})
	if err != nil || previous != 0 {
		t.Fatalf("prepare: %d, %v", previous, err)
	}
	return s.(*Lockspace)
}

func join(t *testing.T, h *fakeHost) *Lockspace {
	t.Helper()
	s := prepare(t, h)
	if _, err := s.Join(t.Context(), lvmlock.JoinOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func lock(t *testing.T, s *Lockspace, r lvmlock.Resource, m lvmwire.Mode) lvmlock.Value {
	t.Helper()
	v, err := s.Lock(t.Context(), r, m, lvmlock.LockOptions{})
	if err != nil {
		t.Fatalf("lock %s: %v", r.Name, err)
	}
	return v
}

func unlock(t *testing.T, s *Lockspace, r lvmlock.Resource, m lvmwire.Mode, v *lvmlock.Value) {
	t.Helper()
	if err := s.Unlock(t.Context(), r, m, v); err != nil {
		t.Fatalf("unlock %s: %v", r.Name, err)
	}
}

func leave(t *testing.T, s *Lockspace) {
	t.Helper()
	if err := s.Leave(t.Context(), false); err != nil {
		t.Errorf("leave: %v", err)
	}
}

func wantResult(t *testing.T, err error, want lvmwire.Result) {
	t.Helper()
	e, ok := errors.AsType[*lvmlock.Error](err)
	if !ok || e.Result != want {
		t.Errorf("got %v, want result %d", err, want)
	}
	if ok && e.Retry {
		t.Errorf("%v: dlm never asks for a retry", err)
	}
}

func wantHolds(t *testing.T, h *fakeHost, name, want string) {
	t.Helper()
	if got := h.cluster.holds("lvm_a", name); got != want {
		t.Errorf("holders of %s: %q, want %q", name, got, want)
	}
}

func TestManager(t *testing.T) {
	h := newFakeCluster(t, "tst\n").host()
	m, ctx := h.manager(), t.Context()
	if m.Type() != lvmwire.DLM || m.Running(ctx) != nil {
		t.Errorf("type %d, running: %v", m.Type(), m.Running(ctx))
	}
	if args, err := m.InitVG(ctx, vgA, lvmlock.InitOptions{}); args != vgA.Args || err != nil {
		t.Errorf("args %q, %v", args, err)
	}
	for _, test := range []struct {
		args string
		want lvmwire.Result
	}{
		{"1.0.0:other", lvmwire.BadArgs},
		{"2.0.0:tst", lvmwire.BadArgs},
		{"tst", lvmwire.BadArgs},
		{"1.0.0:", lvmwire.BadArgs},
		{"1.0.0:ts", lvmwire.BadArgs},
	} {
		_, _, err := m.Prepare(ctx, lvmlock.VG{Name: "a", Args: test.args}, lvmlock.PrepareOptions{})
		wantResult(t, err, test.want)
	}
	for vg, want := range map[lvmlock.VG]string{
		{Name: "global"}:                         GlobalSpace,
		{Name: GlobalSpace}:                      GlobalSpace,
		{Name: GlobalSpace, UUID: "u"}:           "lvm_lvm_global",
		{Name: strings.Repeat("v", 70)}:          "lvm_" + strings.Repeat("v", 60),
		{Name: "vge", UUID: "u", Args: "ignore"}: "lvm_vge",
	} {
		if got := spaceName(vg); got != want {
			t.Errorf("lockspace of %+v: %s, want %s", vg, got, want)
		}
	}
	h.cluster.put(t, "cluster_name", strings.Repeat("n", 59))
	_, err := m.InitVG(ctx, vgA, lvmlock.InitOptions{})
	wantResult(t, err, lvmwire.BadArgs)
	h.cluster.put(t, "cluster_name", "\n")
	wantResult(t, m.Running(ctx), lvmwire.NoManager)
	_, err = m.InitVG(ctx, vgA, lvmlock.InitOptions{})
	wantResult(t, err, lvmwire.NoManager)
	if err := os.Remove(h.cluster.dir + "/cluster_name"); err != nil {
		t.Fatal(err)
	}
	_, _, err = m.Prepare(ctx, vgA, lvmlock.PrepareOptions{})
	wantResult(t, err, lvmwire.NoManager)
}

func TestModes(t *testing.T) {
	c := newFakeCluster(t, "tst")
	h1, h2 := c.host(), c.host()
	one, two := join(t, h1), join(t, h2)
	ctx := t.Context()
	if n, unsure, err := one.Hosts(ctx); n != 1 || unsure || err != nil {
		t.Errorf("others: %d, unsure %v, %v", n, unsure, err)
	}
	lock(t, one, lvLock, lvmwire.EX)
	for _, m := range []lvmwire.Mode{lvmwire.SH, lvmwire.EX} {
		_, err := two.Lock(ctx, lvLock, m, lvmlock.LockOptions{})
		wantResult(t, err, lvmwire.Again)
	}
	wantHolds(t, h1, lvUUID, "0:EX 1:NL")
	if err := one.Convert(ctx, lvLock, lvmwire.EX, lvmwire.SH, nil); err != nil {
		t.Fatal(err)
	}
	lock(t, two, lvLock, lvmwire.SH)
	wantHolds(t, h1, lvUUID, "0:PR 1:PR")
	wantResult(t, one.Convert(ctx, lvLock, lvmwire.SH, lvmwire.EX, nil), lvmwire.Again)
	wantHolds(t, h1, lvUUID, "0:PR 1:PR")
	unlock(t, two, lvLock, lvmwire.SH, nil)
	wantHolds(t, h1, lvUUID, "0:PR")
	if err := one.Convert(ctx, lvLock, lvmwire.SH, lvmwire.EX, nil); err != nil {
		t.Fatal(err)
	}
	wantHolds(t, h1, lvUUID, "0:EX")
	wantResult(t, two.Unlock(ctx, lvLock, lvmwire.EX, nil), lvmwire.NotFound)
	wantResult(t, two.Convert(ctx, lvLock, lvmwire.SH, lvmwire.EX, nil), lvmwire.NotFound)
	wantResult(t, one.Unlock(ctx, lvLock, lvmwire.SH, nil), lvmwire.ManagerError)
	_, err := one.Lock(ctx, lvLock, lvmwire.NL, lvmlock.LockOptions{})
	wantResult(t, err, lvmwire.BadRequest)
	_, err = one.Lock(ctx, lvmlock.Resource{Name: strings.Repeat("x", 65)}, lvmwire.SH, lvmlock.LockOptions{})
	wantResult(t, err, lvmwire.ManagerError)
	leave(t, one)
	leave(t, two)
	_, err = one.Lock(ctx, lvLock, lvmwire.SH, lvmlock.LockOptions{})
	wantResult(t, err, lvmwire.ManagerError)
	if len(h1.cluster.spaces["lvm_a"].hosts) != 0 {
		t.Error("a host stayed a member")
	}
}

// TestFlags holds the commands against stock's (spec lvmlockd 5.1.4): what is held survives us, what is NL does not.
func TestFlags(t *testing.T) {
	h := newFakeCluster(t, "tst").host()
	s := join(t, h)
	h.written = nil
	v := &lvmlock.Value{Version: 12}
	lock(t, s, vgLock, lvmwire.EX)
	if err := s.Convert(t.Context(), vgLock, lvmwire.EX, lvmwire.SH, v); err != nil {
		t.Fatal(err)
	}
	unlock(t, s, vgLock, lvmwire.SH, v)
	lock(t, s, vgLock, lvmwire.EX)
	unlock(t, s, vgLock, lvmwire.EX, v)
	lock(t, s, lvLock, lvmwire.SH)
	if err := s.Convert(t.Context(), lvLock, lvmwire.SH, lvmwire.EX, nil); err != nil {
		t.Fatal(err)
	}
	unlock(t, s, lvLock, lvmwire.EX, nil)
	type step struct {
		verb  verb
		mode  mode
		flags uint32
		value byte
	}
	want := []step{
		{verbLock, modeNL, 0x408, 0},
		{verbLock, modeEX, 0x8d, 0},
		{verbLock, modePR, 0x8d, 12},
		{verbLock, modeNL, 0x4, 0},
		{verbLock, modeEX, 0x8d, 0},
		{verbLock, modeNL, 0xc, 12},
		{verbLock, modeNL, 0x400, 0},
		{verbLock, modePR, 0x85, 0},
		{verbLock, modeEX, 0x85, 0},
		{verbLock, modeNL, 0x4, 0},
		{verbUnlock, modeNL, 0, 0},
	}
	if len(h.written) != len(want) {
		t.Fatalf("%d commands, want %d: %+v", len(h.written), len(want), h.written)
	}
	cookies := map[uint64]bool{}
	for i, c := range h.written {
		if got := (step{c.Verb, c.Mode, c.Flags, c.Value[4]}); got != want[i] {
			t.Errorf("command %d: %+v, want %+v", i, got, want[i])
		}
		if cookies[c.Cookie] || (c.Lock != 0) == (c.Name != "") {
			t.Errorf("command %d: %+v: a cookie comes twice, or both lock and name are there", i, c)
		}
		cookies[c.Cookie] = true
	}
	leave(t, s)
}

func TestValueTravels(t *testing.T) {
	c := newFakeCluster(t, "tst")
	one, two := join(t, c.host()), join(t, c.host())
	if v := lock(t, one, vgLock, lvmwire.EX); v != (lvmlock.Value{}) {
		t.Errorf("a new VG has %+v", v)
	}
	unlock(t, one, vgLock, lvmwire.EX, &lvmlock.Value{Version: 12})
	want := lvmlock.Value{Version: 12, Set: true}
	if v := lock(t, two, vgLock, lvmwire.SH); v != want {
		t.Errorf("got %+v, want %+v", v, want)
	}
	// One that does not write leaves it as it is.
	unlock(t, two, vgLock, lvmwire.SH, &lvmlock.Value{Version: 99})
	lock(t, two, vgLock, lvmwire.EX)
	unlock(t, two, vgLock, lvmwire.EX, nil)
	if v := lock(t, one, vgLock, lvmwire.SH); v != want {
		t.Errorf("got %+v, want %+v", v, want)
	}
	unlock(t, one, vgLock, lvmwire.SH, nil)
	// A host that goes down with EX takes it along.
	lock(t, two, vgLock, lvmwire.EX)
	c.mu.Lock()
	c.spaces["lvm_a"].leave(two.manager.kernel.(*fakeHost))
	c.mu.Unlock()
	if v := lock(t, one, vgLock, lvmwire.SH); v != (lvmlock.Value{}) {
		t.Errorf("got %+v of a block that is lost", v)
	}
	unlock(t, one, vgLock, lvmwire.SH, nil)
	// A later LVM's block is refused, and the lock is not kept.
	c.spaces["lvm_a"].resources["VGLK"].value[1] = 2
	c.spaces["lvm_a"].resources["VGLK"].lost = false
	_, err := one.Lock(t.Context(), vgLock, lvmwire.EX, lvmlock.LockOptions{})
	wantResult(t, err, lvmwire.BadRequest)
	wantHolds(t, one.manager.kernel.(*fakeHost), "VGLK", "0:NL")
	leave(t, one)
}

// TestRemovedVG: the hosts that stay see that the VG is gone.
func TestRemovedVG(t *testing.T) {
	c := newFakeCluster(t, "tst")
	one, two := join(t, c.host()), join(t, c.host())
	lock(t, one, vgLock, lvmwire.EX)
	unlock(t, one, vgLock, lvmwire.EX, &lvmlock.Value{Version: 12})
	lock(t, two, vgLock, lvmwire.SH)
	unlock(t, two, vgLock, lvmwire.SH, nil)
	lock(t, one, vgLock, lvmwire.EX)
	if err := one.Leave(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	want := lvmlock.Value{Version: 12, Removed: true, Set: true}
	if v := lock(t, two, vgLock, lvmwire.SH); v != want {
		t.Errorf("got %+v, want %+v", v, want)
	}
	leave(t, two)
}

// TestAdopt: a daemon dies, the next finds what it left. Spec lvmlockd 5.1.4, 5.1.10.
func TestAdopt(t *testing.T) {
	c := newFakeCluster(t, "tst")
	h := c.host()
	first, ctx := join(t, h), t.Context()
	shared := lvmlock.Resource{Kind: lvmwire.LV, Name: "shared"}
	stale := lvmlock.Resource{Kind: lvmwire.LV, Name: "stale"}
	lock(t, first, vgLock, lvmwire.EX)
	unlock(t, first, vgLock, lvmwire.EX, &lvmlock.Value{Version: 3})
	lock(t, first, lvLock, lvmwire.EX)
	lock(t, first, shared, lvmwire.SH)
	lock(t, first, stale, lvmwire.EX)
	if err := first.wire.close(); err != nil { // as the kernel does when a process dies
		t.Fatal(err)
	}
	wantHolds(t, h, lvUUID, "orphan:EX")
	wantHolds(t, h, "VGLK", "")

	if names, err := h.manager().Lockspaces(ctx); err != nil || len(names) != 1 || names[0] != "lvm_a" {
		t.Errorf("lockspaces to adopt: %v, %v", names, err)
	}
	plain := prepare(t, h)
	_, err := plain.Join(ctx, lvmlock.JoinOptions{})
	wantResult(t, err, lvmwire.Exists)

	next := prepare(t, h)
	if _, err := next.Join(ctx, lvmlock.JoinOptions{Adopt: true, AdoptOnly: true}); err != nil {
		t.Fatal(err)
	}
	adopt := lvmlock.LockOptions{Adopt: true, AdoptOnly: true}
	for _, test := range []struct {
		r    lvmlock.Resource
		mode lvmwire.Mode
		want lvmwire.Result
	}{
		{lvLock, lvmwire.SH, lvmwire.AdoptRetry},
		{lvLock, lvmwire.EX, 0},
		{lvLock, lvmwire.EX, 0},
		{lvLock, lvmwire.SH, lvmwire.AdoptRetry},
		{shared, lvmwire.EX, lvmwire.AdoptRetry},
		{shared, lvmwire.SH, 0},
		{vgLock, lvmwire.SH, lvmwire.AdoptNone},
		{vgLock, lvmwire.EX, lvmwire.AdoptNone},
	} {
		if _, err := next.Lock(ctx, test.r, test.mode, adopt); test.want != 0 {
			wantResult(t, err, test.want)
		} else if err != nil {
			t.Errorf("adopt %s in %d: %v", test.r.Name, test.mode, err)
		}
	}
	if err := next.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	wantHolds(t, h, lvUUID, "0:EX")
	wantHolds(t, h, "stale", "")
	// What nobody left may be taken anew if that will do.
	if _, err := next.Lock(ctx, stale, lvmwire.SH, lvmlock.LockOptions{Adopt: true}); err != nil {
		t.Error(err)
	}
	unlock(t, next, lvLock, lvmwire.EX, nil)
	wantHolds(t, h, lvUUID, "")
	leave(t, next)
	other := prepare(t, h)
	_, err = other.Join(ctx, lvmlock.JoinOptions{Adopt: true, AdoptOnly: true})
	wantResult(t, err, lvmwire.AdoptNone)
	if _, err := other.Join(ctx, lvmlock.JoinOptions{Adopt: true}); err != nil {
		t.Errorf("join where nothing is to be adopted: %v", err)
	}
	leave(t, other)
}

// TestGivingUp: what comes after its asker gave up is undone, and never before it is known.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, "tst")
		h := c.host()
		s := join(t, h)
		wait := func() (context.Context, context.CancelFunc) {
			stall := make(chan struct{})
			c.mu.Lock()
			h.stall = stall
			c.mu.Unlock()
			time.AfterFunc(time.Minute, func() {
				c.mu.Lock()
				h.stall = nil
				c.mu.Unlock()
				close(stall)
			})
			return context.WithTimeout(t.Context(), time.Second)
		}
		ctx, cancel := wait()
		defer cancel()
		_, err := s.Lock(ctx, lvLock, lvmwire.EX, lvmlock.LockOptions{})
		wantResult(t, err, lvmwire.ManagerError)
		// The next command waits for the end of the one that was given up.
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		_, err = s.Lock(short, lvLock, lvmwire.EX, lvmlock.LockOptions{})
		wantResult(t, err, lvmwire.ManagerError)
		time.Sleep(2 * time.Minute)
		wantHolds(t, h, lvUUID, "0:NL")

		lock(t, s, lvLock, lvmwire.SH)
		ctx, cancel = wait()
		defer cancel()
		wantResult(t, s.Convert(ctx, lvLock, lvmwire.SH, lvmwire.EX, nil), lvmwire.ManagerError)
		time.Sleep(2 * time.Minute)
		wantHolds(t, h, lvUUID, "0:PR")

		// The way down is waited for: half an unlock cannot be told from none.
		ctx, cancel = wait()
		defer cancel()
		begun := time.Now()
		if err := s.Unlock(ctx, lvLock, lvmwire.SH, nil); err != nil || time.Since(begun) != time.Minute {
			t.Errorf("unlock: %v after %v, want none after the minute that the cluster needs", err, time.Since(begun))
		}
		wantHolds(t, h, lvUUID, "")
		leave(t, s)

		ctx, cancel = wait()
		defer cancel()
		late := prepare(t, h)
		_, err = late.Join(ctx, lvmlock.JoinOptions{})
		wantResult(t, err, lvmwire.ManagerError)
		time.Sleep(2 * time.Minute)
		if _, err := h.Minor("lvm_a"); err == nil {
			t.Error("a lockspace that was joined too late stayed")
		}
	})
}

// TestAdoptedTooLate: an LV may be in use under what was adopted, so it is kept even if nobody waited for it; the next
// who asks has it.
func TestAdoptedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, "tst")
		h := c.host()
		first := join(t, h)
		lock(t, first, lvLock, lvmwire.EX)
		if err := first.wire.close(); err != nil {
			t.Fatal(err)
		}
		next := prepare(t, h)
		if _, err := next.Join(t.Context(), lvmlock.JoinOptions{AdoptOnly: true}); err != nil {
			t.Fatal(err)
		}
		stall := make(chan struct{})
		h.stall = stall
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := next.Lock(ctx, lvLock, lvmwire.EX, lvmlock.LockOptions{AdoptOnly: true})
		wantResult(t, err, lvmwire.ManagerError)
		c.mu.Lock()
		h.stall = nil
		c.mu.Unlock()
		close(stall)
		synctest.Wait()
		wantHolds(t, h, lvUUID, "0:EX")
		if _, err := next.Lock(t.Context(), lvLock, lvmwire.EX, lvmlock.LockOptions{AdoptOnly: true}); err != nil {
			t.Error(err)
		}
		leave(t, next)
	})
}

func TestFailures(t *testing.T) {
	c := newFakeCluster(t, "tst")
	h := c.host()
	s, ctx := join(t, h), t.Context()
	refuse := func(f func(command) error) {
		c.mu.Lock()
		h.refuse = f
		c.mu.Unlock()
	}
	lock(t, s, lvLock, lvmwire.EX)
	refuse(func(command) error { return syscall.EINVAL })
	wantResult(t, s.Unlock(ctx, lvLock, lvmwire.EX, nil), lvmwire.ManagerError)
	wantResult(t, s.Leave(ctx, false), lvmwire.Busy)
	// EAGAIN from the write is no conflict, which comes as a status.
	refuse(func(command) error { return syscall.EAGAIN })
	_, err := s.Lock(ctx, vgLock, lvmwire.EX, lvmlock.LockOptions{})
	wantResult(t, err, lvmwire.ManagerError)
	refuse(nil)
	// Nothing was lost by what failed.
	wantHolds(t, h, lvUUID, "0:EX")
	unlock(t, s, lvLock, lvmwire.EX, nil)
	select {
	case <-s.Lost():
		t.Fatal("lost although the kernel has it")
	default:
	}
	lock(t, s, lvLock, lvmwire.EX)
	c.mu.Lock()
	c.spaces["lvm_a"].leave(h)
	delete(h.minors, "lvm_a")
	c.mu.Unlock()
	_, err = s.Lock(ctx, vgLock, lvmwire.EX, lvmlock.LockOptions{})
	wantResult(t, err, lvmwire.ManagerError)
	select {
	case <-s.Lost():
	default:
		t.Error("the kernel has no such lockspace, and nobody was told")
	}
	leave(t, s)
}

// TestLeaveFails: whatever step of it fails, we are still a member and can go on, or leave again.
func TestLeaveFails(t *testing.T) {
	c := newFakeCluster(t, "tst")
	for _, verb := range []verb{verbUnlock, verbRemove} {
		h := c.host()
		s := join(t, h)
		lock(t, s, vgLock, lvmwire.EX)
		c.mu.Lock()
		h.refuse = func(c command) error {
			if c.Verb == verb {
				return syscall.EINTR
			}
			return nil
		}
		c.mu.Unlock()
		wantResult(t, s.Leave(t.Context(), true), lvmwire.Busy)
		c.mu.Lock()
		h.refuse = nil
		c.mu.Unlock()
		unlock(t, s, vgLock, lvmwire.EX, nil) // who holds it knows nothing of that
		wantResult(t, s.Unlock(t.Context(), vgLock, lvmwire.EX, nil), lvmwire.NotFound)
		lock(t, s, lvLock, lvmwire.EX)
		wantHolds(t, h, lvUUID, "0:EX")
		leave(t, s)
		if _, err := h.Minor("lvm_a"); err == nil {
			t.Errorf("verb %d failed, and the lockspace stayed for ever", verb)
		}
	}
}

// TestGarbage: an answer that cannot be understood ends the trust in the lockspace, and every call on it.
func TestGarbage(t *testing.T) {
	h := newFakeCluster(t, "tst").host()
	s := join(t, h)
	lock(t, s, lvLock, lvmwire.EX)
	s.wire.dev.(*fakeDevice).queue <- make([]byte, resultSize)
	<-s.Lost()
	_, err := s.Lock(t.Context(), vgLock, lvmwire.EX, lvmlock.LockOptions{})
	wantResult(t, err, lvmwire.ManagerError)
	leave(t, s)
	if _, err := h.Minor("lvm_a"); err == nil {
		t.Error("the lockspace stayed")
	}
}

// TestBlockingWord: that we stand in another's way is no end of what we asked for.
func TestBlockingWord(t *testing.T) {
	h := newFakeCluster(t, "tst").host()
	s := join(t, h)
	word := make([]byte, resultSize)
	word[0], word[12], word[32], word[64] = 6, resultSize, 2, byte(modeEX) // the cookie of the conversion
	asked := 0
	h.twist = func([]byte) {
		if asked++; asked == 2 {
			s.wire.dev.(*fakeDevice).queue <- word
		}
	}
	lock(t, s, lvLock, lvmwire.EX)
	h.twist = nil
	wantHolds(t, h, lvUUID, "0:EX")
	if s.records[lvUUID].mode != modeEX {
		t.Error("the record does not know what is held")
	}
	leave(t, s)
}

// TestAnotherLock: an answer for another lock than was asked for is believed by nobody.
func TestAnotherLock(t *testing.T) {
	h := newFakeCluster(t, "tst").host()
	s := join(t, h)
	lock(t, s, lvLock, lvmwire.SH)
	h.twist = func(p []byte) { p[44]++ }
	wantResult(t, s.Convert(t.Context(), lvLock, lvmwire.SH, lvmwire.EX, nil), lvmwire.ManagerError)
	<-s.Lost()
	leave(t, s)
}

func TestOtherKernel(t *testing.T) {
	h := newFakeCluster(t, "tst").host()
	h.version = 7
	_, err := prepare(t, h).Join(t.Context(), lvmlock.JoinOptions{})
	wantResult(t, err, lvmwire.ManagerError)
	if len(h.written) != 0 {
		t.Errorf("wrote %+v to a device of another version", h.written)
	}
}
