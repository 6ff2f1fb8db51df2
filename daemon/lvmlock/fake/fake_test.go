package fake_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

var (
	vg   = lvmlock.VG{Name: "vg", UUID: "u", Args: "lvmlock"}
	glob = lvmlock.Resource{Kind: lvmwire.GL, Name: "GLLK"}
	vglk = lvmlock.Resource{Kind: lvmwire.VG, Name: "VGLK"}
	lv   = lvmlock.Resource{Kind: lvmwire.LV, Name: "uuid", Args: "1.0.0:70254592"}
)

func prepare(t *testing.T, m *fake.Manager, v lvmlock.VG) (lvmlock.Lockspace, uint64) {
	t.Helper()
	s, generation, err := m.Prepare(t.Context(), v, lvmlock.PrepareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s, generation
}

// join makes a host a member of vg.
func join(t *testing.T, m *fake.Manager) lvmlock.Lockspace {
	t.Helper()
	s, _ := prepare(t, m, vg)
	if _, err := s.Join(t.Context(), lvmlock.JoinOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// result is what an error says.
func result(t *testing.T, err error, want lvmwire.Result) *lvmlock.Error {
	t.Helper()
	if got := lvmlock.ResultOf(err); got != want {
		t.Errorf("result %d (%v), want %d", got, err, want)
	}
	var e *lvmlock.Error
	errors.As(err, &e)
	return e
}

func lock(t *testing.T, s lvmlock.Lockspace, r lvmlock.Resource, m lvmwire.Mode) error {
	t.Helper()
	_, err := s.Lock(t.Context(), r, m, lvmlock.LockOptions{})
	return err
}

// Every pair of modes that two hosts can want of one resource, taken and converted to.
func TestTwoHosts(t *testing.T) {
	const un, sh, ex = lvmwire.UN, lvmwire.SH, lvmwire.EX
	for _, typ := range []lvmwire.LockType{lvmwire.Sanlock, lvmwire.DLM} {
		for _, row := range []struct {
			first, second, to lvmwire.Mode
			want              lvmwire.Result
		}{
			{sh, sh, un, lvmwire.OK},
			{sh, ex, un, lvmwire.Again},
			{ex, sh, un, lvmwire.Again},
			{ex, ex, un, lvmwire.Again},
			{sh, sh, ex, lvmwire.Again},
			{un, sh, ex, lvmwire.OK},
			{un, ex, sh, lvmwire.OK},
		} {
			m := fake.New(fake.Config{Type: typ})
			a, b := join(t, m), join(t, m.Host(2))
			if row.first != un {
				result(t, lock(t, a, lv, row.first), lvmwire.OK)
			}
			err := lock(t, b, lv, row.second)
			if row.to != un {
				result(t, err, lvmwire.OK)
				err = b.Convert(t.Context(), lv, row.second, row.to, nil)
			}
			e := result(t, err, row.want)
			if e == nil {
				continue
			}
			sanlock := typ == lvmwire.Sanlock
			if retry := sanlock && row.to == un && row.second == sh; e.Retry != retry {
				t.Errorf("type %d %+v: retry is %v, want %v", typ, row, e.Retry, retry)
			}
			if known := e.Owner.HostID == fake.TestHost; known != sanlock {
				t.Errorf("type %d %+v: owner %+v", typ, row, e.Owner)
			}
			result(t, a.Unlock(t.Context(), lv, row.first, nil), lvmwire.OK)
			if row.to == un {
				result(t, lock(t, b, lv, row.second), lvmwire.OK)
			} else {
				result(t, b.Convert(t.Context(), lv, row.second, row.to, nil), lvmwire.OK)
			}
		}
	}
}

// What an engine must not do is told with BadRequest, so that a test of the engine sees it.
func TestContract(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fake.New(fake.Config{Fault: func(o fake.Op) fake.Fault {
			if o.Resource == "slow" {
				return fake.Fault{Before: time.Second}
			}
			return fake.Fault{}
		}})
		s := join(t, m)
		result(t, lock(t, s, lv, lvmwire.NL), lvmwire.BadRequest)
		result(t, s.Unlock(t.Context(), lv, lvmwire.EX, nil), lvmwire.BadRequest)
		result(t, lock(t, s, lv, lvmwire.SH), lvmwire.OK)
		result(t, lock(t, s, lv, lvmwire.SH), lvmwire.BadRequest)
		result(t, s.Convert(t.Context(), lv, lvmwire.EX, lvmwire.SH, nil), lvmwire.BadRequest)
		result(t, s.Convert(t.Context(), lv, lvmwire.SH, lvmwire.UN, nil), lvmwire.BadRequest)
		result(t, s.Unlock(t.Context(), lv, lvmwire.EX, nil), lvmwire.BadRequest)
		result(t, s.Unlock(t.Context(), lv, lvmwire.SH, nil), lvmwire.OK)
		done := make(chan error)
		go func() { done <- lock(t, s, lvmlock.Resource{Name: "slow"}, lvmwire.EX) }()
		synctest.Wait()
		begin := time.Now()
		result(t, lock(t, s, lvmlock.Resource{Name: "slow"}, lvmwire.EX), lvmwire.BadRequest)
		if time.Since(begin) != 0 {
			t.Error("a second call for a resource was let in")
		}
		result(t, lock(t, s, lv, lvmwire.EX), lvmwire.OK)
		result(t, <-done, lvmwire.OK)
		result(t, s.Leave(t.Context(), false), lvmwire.OK)
		result(t, lock(t, s, lv, lvmwire.EX), lvmwire.NoLockspace)
	})
}

func TestValueBlock(t *testing.T) {
	m := fake.New(fake.Config{Type: lvmwire.DLM})
	host2 := m.Host(2)
	a, b := join(t, m), join(t, host2)
	read := func(want lvmlock.Value) {
		t.Helper()
		got, err := a.Lock(t.Context(), vglk, lvmwire.SH, lvmlock.LockOptions{})
		if err != nil || got != want {
			t.Errorf("read %+v, %v; want %+v", got, err, want)
		}
		result(t, a.Unlock(t.Context(), vglk, lvmwire.SH, &lvmlock.Value{Version: 99}), lvmwire.OK)
	}
	read(lvmlock.Value{})
	result(t, lock(t, b, vglk, lvmwire.EX), lvmwire.OK)
	result(t, b.Convert(t.Context(), vglk, lvmwire.EX, lvmwire.SH, &lvmlock.Value{Version: 5}), lvmwire.OK)
	read(lvmlock.Value{Version: 5, Set: true})
	read(lvmlock.Value{Version: 5, Set: true}) // the 99 of an SH was not written
	result(t, b.Convert(t.Context(), vglk, lvmwire.SH, lvmwire.EX, nil), lvmwire.OK)
	result(t, b.Unlock(t.Context(), vglk, lvmwire.EX, &lvmlock.Value{Version: 6}), lvmwire.OK)
	read(lvmlock.Value{Version: 6, Set: true})
	result(t, lock(t, b, vglk, lvmwire.EX), lvmwire.OK)
	host2.Die()
	read(lvmlock.Value{})
	result(t, b.Unlock(t.Context(), vglk, lvmwire.EX, nil), lvmwire.LockIO)
}

// TestValueBlockAfterAll: dlm's is gone with the last member, sanlock's is on a disk.
func TestValueBlockAfterAll(t *testing.T) {
	for typ, want := range map[lvmwire.LockType]lvmlock.Value{lvmwire.DLM: {}, lvmwire.Sanlock: {Version: 7, Set: true}} {
		m := fake.New(fake.Config{Type: typ})
		s := join(t, m)
		result(t, lock(t, s, vglk, lvmwire.EX), lvmwire.OK)
		result(t, s.Unlock(t.Context(), vglk, lvmwire.EX, &lvmlock.Value{Version: 7}), lvmwire.OK)
		result(t, s.Leave(t.Context(), false), lvmwire.OK)
		s = join(t, m)
		got, err := s.Lock(t.Context(), vglk, lvmwire.EX, lvmlock.LockOptions{})
		if got != want || err != nil {
			t.Errorf("type %v: read %+v, %v; want %+v", typ, got, err, want)
		}
	}
}

// What lvmlockd --test answers (spec lvmlockd 3.15).
func TestTestMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fake.New(fake.Config{Type: lvmwire.Sanlock, JoinDelay: fake.TestJoinDelay})
		args, err := m.InitVG(t.Context(), vg, lvmlock.InitOptions{Global: true})
		if args != "1.0.0:lvmlock" || err != nil {
			t.Errorf("init_vg: %q, %v", args, err)
		}
		var lvs []string
		for _, uuid := range []string{"a", "b"} {
			args, err := m.InitLV(t.Context(), vg, nil, uuid, "")
			if err != nil {
				t.Error(err)
			}
			lvs = append(lvs, args)
		}
		if !slices.Equal(lvs, []string{"1.0.0:70254592", "1.0.0:71303168"}) {
			t.Errorf("init_lv: %q", lvs)
		}
		s, previous := prepare(t, m, vg)
		begin := time.Now()
		generation, err := s.Join(t.Context(), lvmlock.JoinOptions{})
		if generation != 1 || previous != 0 || err != nil {
			t.Errorf("join: generation %d after %d, %v", generation, previous, err)
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("the join took %v", took)
		}
		if others, unsure, err := s.Hosts(t.Context()); others != 0 || unsure || err != nil {
			t.Errorf("hosts: %d, %v, %v", others, unsure, err)
		}
		if err := s.(lvmlock.SlotFinder).FindFree(t.Context(), 0); err != nil {
			t.Error(err)
		}
		if on, err := s.(lvmlock.GlobalLocker).GlobalEnabled(t.Context()); !on || err != nil {
			t.Errorf("global lock: %v, %v", on, err)
		}
		result(t, m.Refresh(t.Context(), "/dev//vg/lv"), lvmwire.Unsupported)
		result(t, s.Leave(t.Context(), false), lvmwire.OK)
		begin = time.Now()
		if s, previous = prepare(t, m, vg); previous != 1 {
			t.Errorf("previous generation %d", previous)
		}
		g, err := s.Join(t.Context(), lvmlock.JoinOptions{NoDelay: true})
		if g != 2 || err != nil || time.Since(begin) != 0 {
			t.Errorf("second join: generation %d, %v after %v", g, err, time.Since(begin))
		}
		status, err := s.(lvmlock.Member).Status(t.Context())
		if status.HostID != fake.TestHost || status.Generation != 2 || status.State != "LIVE" || err != nil {
			t.Errorf("status %+v, %v", status, err)
		}
	})
}

func TestTestModeOfDLM(t *testing.T) {
	m := fake.New(fake.Config{Type: lvmwire.DLM})
	if args, err := m.InitVG(t.Context(), vg, lvmlock.InitOptions{}); args != "1.0.0:test" || err != nil {
		t.Errorf("init_vg: %q, %v", args, err)
	}
	if args, err := m.InitLV(t.Context(), vg, nil, "u", ""); args != "" || err != nil {
		t.Errorf("init_lv: %q, %v", args, err)
	}
	s, _ := prepare(t, m, lvmlock.VG{Name: "lvm_global"})
	if g, err := s.Join(t.Context(), lvmlock.JoinOptions{}); g != 0 || err != nil {
		t.Errorf("join: generation %d, %v", g, err)
	}
	if _, ok := s.(lvmlock.GlobalLocker); ok {
		t.Error("a dlm lockspace has a place for the global lock")
	}
	if _, ok := s.(lvmlock.SlotFinder); ok {
		t.Error("a dlm lockspace has slots")
	}
	if _, ok := s.(lvmlock.Member); ok {
		t.Error("a dlm lockspace knows of hosts")
	}
	if names, err := m.Lockspaces(t.Context()); !slices.Equal(names, []string{"lvm_global"}) || err != nil {
		t.Errorf("lockspaces %q, %v", names, err)
	}
	result(t, m.Refresh(t.Context(), "/dev//vg/lv"), lvmwire.Perm)
	result(t, m.Running(t.Context()), lvmwire.OK)
}

// TestGlobalAnywhere moves the global lock by asking where it is.
func TestGlobalAnywhere(t *testing.T) {
	m := fake.New(fake.Config{Type: lvmwire.Sanlock, GlobalAnywhere: true})
	s := join(t, m)
	other, _ := prepare(t, m, lvmlock.VG{Name: "vg2", UUID: "u2"})
	if _, err := other.Join(t.Context(), lvmlock.JoinOptions{}); err != nil {
		t.Fatal(err)
	}
	want := func(where string, s lvmlock.Lockspace, want bool) {
		t.Helper()
		if on, err := s.(lvmlock.GlobalLocker).GlobalEnabled(t.Context()); on != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", where, on, err, want)
		}
	}
	want("the first", s, true)
	want("the other", other, false)
	result(t, s.(lvmlock.GlobalLocker).SetGlobal(t.Context(), false), lvmwire.OK)
	want("the other, after it was disabled", other, true)
	want("the first, after it was found elsewhere", s, false)
	result(t, other.Leave(t.Context(), false), lvmwire.OK)
	want("the first, alone", s, true)
	if _, err := other.Join(t.Context(), lvmlock.JoinOptions{}); err != nil {
		t.Fatal(err)
	}
	want("the other, joined again", other, false)
}

// The global lock is in the first VG that is started, unless init_vg said where.
func TestGlobalLock(t *testing.T) {
	m := fake.New(fake.Config{Type: lvmwire.Sanlock})
	s := join(t, m)
	other, _ := prepare(t, m, lvmlock.VG{Name: "vg2", UUID: "u2"})
	if _, err := other.Join(t.Context(), lvmlock.JoinOptions{}); err != nil {
		t.Fatal(err)
	}
	result(t, lock(t, s, glob, lvmwire.EX), lvmwire.OK)
	result(t, s.Unlock(t.Context(), glob, lvmwire.EX, nil), lvmwire.OK)
	result(t, lock(t, other, glob, lvmwire.EX), lvmwire.Unattached)
	result(t, lock(t, other, vglk, lvmwire.EX), lvmwire.OK)
	result(t, s.(lvmlock.GlobalLocker).SetGlobal(t.Context(), false), lvmwire.OK)
	result(t, other.(lvmlock.GlobalLocker).SetGlobal(t.Context(), true), lvmwire.OK)
	result(t, lock(t, s, glob, lvmwire.EX), lvmwire.Unattached)
	result(t, lock(t, other, glob, lvmwire.EX), lvmwire.OK)
	if _, err := m.InitVG(t.Context(), vg, lvmlock.InitOptions{}); lvmlock.ResultOf(err) != lvmwire.Exists {
		t.Errorf("the locks of a started VG were made anew: %v", err)
	}
	result(t, m.RenameVG(t.Context(), vg), lvmwire.Busy)
	result(t, s.Leave(t.Context(), true), lvmwire.OK)
	result(t, m.RenameVG(t.Context(), vg), lvmwire.OK)
	s = join(t, m)
	result(t, lock(t, s, glob, lvmwire.EX), lvmwire.Unattached)
}

func TestSlots(t *testing.T) {
	m := fake.New(fake.Config{Type: lvmwire.Sanlock, Slots: 1})
	s := join(t, m)
	f := s.(lvmlock.SlotFinder)
	result(t, f.FindFree(t.Context(), 0), lvmwire.OK)
	_, err := m.InitLV(t.Context(), vg, s, "uuid", "")
	result(t, err, lvmwire.OK)
	result(t, f.FindFree(t.Context(), 0), lvmwire.TooLong)
	_, err = m.InitLV(t.Context(), vg, s, "second", "")
	result(t, err, lvmwire.TooLong)
	result(t, f.FreeLV(t.Context(), lv), lvmwire.OK)
	result(t, f.FindFree(t.Context(), 0), lvmwire.OK)
}

// A daemon that was killed leaves orphans, which a later one adopts or purges.
func TestOrphans(t *testing.T) {
	m := fake.New(fake.Config{Type: lvmwire.Sanlock})
	before := join(t, m)
	result(t, lock(t, before, lv, lvmwire.EX), lvmwire.OK)
	result(t, lock(t, before, vglk, lvmwire.SH), lvmwire.OK)
	m = m.Host(fake.TestHost)
	if names, err := m.Lockspaces(t.Context()); !slices.Equal(names, []string{"lvm_vg"}) || err != nil {
		t.Errorf("lockspaces %q, %v", names, err)
	}
	if id, err := m.HostID(t.Context(), "lvm_vg"); id != fake.TestHost || err != nil {
		t.Errorf("host id %d, %v", id, err)
	}
	s, _ := prepare(t, m, vg)
	_, err := s.Join(t.Context(), lvmlock.JoinOptions{})
	result(t, err, lvmwire.Exists)
	if g, err := s.Join(t.Context(), lvmlock.JoinOptions{AdoptOnly: true}); g != 1 || err != nil {
		t.Errorf("adopted: generation %d, %v", g, err)
	}
	result(t, lock(t, before, lv, lvmwire.EX), lvmwire.NoLockspace)
	only := lvmlock.LockOptions{AdoptOnly: true}
	result(t, lock(t, s, lv, lvmwire.EX), lvmwire.Orphan)
	_, err = s.Lock(t.Context(), lv, lvmwire.SH, only)
	result(t, err, lvmwire.AdoptRetry)
	_, err = s.Lock(t.Context(), glob, lvmwire.SH, only)
	result(t, err, lvmwire.AdoptNone)
	_, err = s.Lock(t.Context(), lv, lvmwire.EX, only)
	result(t, err, lvmwire.OK)
	result(t, s.Leave(t.Context(), false), lvmwire.Busy) // VGLK is an orphan still
	result(t, s.(lvmlock.Purger).Purge(t.Context()), lvmwire.OK)
	other := join(t, m.Host(2))
	result(t, lock(t, other, vglk, lvmwire.EX), lvmwire.OK)
	result(t, lock(t, other, lv, lvmwire.EX), lvmwire.Again)
	if n, _, err := s.Hosts(t.Context()); n != 1 || err != nil {
		t.Errorf("hosts %d, %v", n, err)
	}
	result(t, s.Leave(t.Context(), false), lvmwire.OK)
	result(t, lock(t, other, lv, lvmwire.EX), lvmwire.OK)
	alone, _ := prepare(t, m, vg)
	_, err = alone.Join(t.Context(), lvmlock.JoinOptions{AdoptOnly: true})
	result(t, err, lvmwire.AdoptNone)
	result(t, alone.Leave(t.Context(), false), lvmwire.OK)
}

// A lost lockspace is told, fails, and keeps others out until the host is dead.
func TestLoseAndDie(t *testing.T) {
	m := fake.New(fake.Config{})
	host2 := m.Host(2)
	a, b := join(t, m), join(t, host2)
	result(t, lock(t, b, lv, lvmwire.EX), lvmwire.OK)
	select {
	case <-b.Lost():
		t.Error("lost already")
	default:
	}
	host2.Lose("lvm_vg")
	host2.Lose("lvm_vg")
	<-b.Lost()
	result(t, lock(t, b, vglk, lvmwire.SH), lvmwire.LockIO)
	result(t, b.Unlock(t.Context(), lv, lvmwire.EX, nil), lvmwire.LockIO)
	result(t, lock(t, a, lv, lvmwire.SH), lvmwire.Again)
	host2.Die()
	result(t, lock(t, a, lv, lvmwire.SH), lvmwire.OK)
	if n, _, err := a.Hosts(t.Context()); n != 0 || err != nil {
		t.Errorf("hosts %d, %v", n, err)
	}
}

func TestSetRemote(t *testing.T) {
	m := fake.New(fake.Config{})
	s := join(t, m)
	m.SetRemote("vg", "uuid", lvmwire.SH)
	result(t, lock(t, s, lv, lvmwire.EX), lvmwire.Again)
	result(t, lock(t, s, lv, lvmwire.SH), lvmwire.OK)
	result(t, s.Convert(t.Context(), lv, lvmwire.SH, lvmwire.EX, nil), lvmwire.Again)
	m.SetRemote("vg", "uuid", lvmwire.UN)
	result(t, s.Convert(t.Context(), lv, lvmwire.SH, lvmwire.EX, nil), lvmwire.OK)
}

// Faults come before a call has its effect; a call that failed had none.
func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		broken := errors.New("broken")
		faults := map[string]fake.Fault{
			"lock":   {Err: broken},
			"leave":  {Err: broken},
			"unlock": {Before: time.Second, After: 2 * time.Second},
		}
		m := fake.New(fake.Config{Type: lvmwire.Sanlock, Fault: func(o fake.Op) fake.Fault {
			seen = append(seen, o.Name)
			return faults[o.Name]
		}})
		s := join(t, m)
		if err := lock(t, s, lv, lvmwire.EX); !errors.Is(err, broken) {
			t.Errorf("lock: %v", err)
		}
		delete(faults, "lock")
		result(t, lock(t, s, lv, lvmwire.EX), lvmwire.OK)
		begin := time.Now()
		other := join(t, m.Host(2))
		go func() {
			time.Sleep(1500 * time.Millisecond) // the effect is there, the end is not told yet
			result(t, lock(t, other, lv, lvmwire.EX), lvmwire.OK)
		}()
		result(t, s.Unlock(t.Context(), lv, lvmwire.EX, nil), lvmwire.OK)
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("unlock took %v", took)
		}
		if err := s.Leave(t.Context(), false); !errors.Is(err, broken) {
			t.Errorf("leave: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		faults["lock"] = fake.Fault{Before: time.Hour}
		_, err := s.Lock(ctx, vglk, lvmwire.EX, lvmlock.LockOptions{})
		result(t, err, lvmwire.IOTimeout)
		if got := strings.Join(seen, " "); got != "prepare join lock lock prepare join unlock lock leave lock" {
			t.Errorf("calls: %s", got)
		}
	})
}
