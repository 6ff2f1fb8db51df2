package native

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// failWait is how long a lockspace that cannot be renewed may take to fail where the machine is busy; 8 s where not.
const failWait = time.Minute

func wantLost(t *testing.T, what string, s *space, within time.Duration) {
	t.Helper()
	select {
	case <-s.Lost():
	case <-time.After(within):
		t.Fatalf("%s: not lost", what)
	}
}

// TestLost: whoever joined a lockspace hears when it is gone, when the daemon is, and when it cannot be
// renewed, in which case the killpath runs.
func TestLost(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k)+" dies", func(t *testing.T) {
			t.Parallel()
			h := start(t, k, 1, disks(t, 80*mib, "vg"))
			h.format(t, "vg", true)
			s := h.join(t, "vg")
			mustLock(t, s, groupLock, lvmwire.EX)
			h.kill()
			wantLost(t, "daemon killed", s, failWait)
			_, err := s.Lock(t.Context(), globalLock, lvmwire.SH, lvmlock.LockOptions{})
			wantResult(t, "global lock, SH", err, lvmwire.LockIO)
			if err := s.Unlock(t.Context(), groupLock, lvmwire.EX, nil); err != nil {
				t.Errorf("unlock what is lost: %v", err)
			}
			if err := s.Leave(t.Context(), false); err != nil {
				t.Errorf("leave what is lost: %v", err)
			}
		})
		t.Run(string(k)+" leaves", func(t *testing.T) {
			t.Parallel()
			h := start(t, k, 1, disks(t, 80*mib, "vg"))
			h.format(t, "vg", true)
			s := h.join(t, "vg")
			err := h.ask(t.Context(), func(c *client.Conn) error { return c.RemLockspace(t.Context(), s.space(), 0) })
			if err != nil {
				t.Fatal(err)
			}
			wantLost(t, "lockspace removed by others", s, failWait)
			if err := s.Leave(t.Context(), false); err != nil {
				t.Errorf("leave what is lost: %v", err)
			}
		})
		t.Run(string(k)+" cannot renew", func(t *testing.T) {
			t.Parallel()
			dir := disks(t, 80*mib, "vg")
			h := start(t, k, 1, dir)
			script, ran := killpath(t)
			h.cfg.Killpath = script
			h.Manager = New(h.cfg)
			h.format(t, "vg", true)
			s := h.join(t, "vg")
			mustLock(t, s, groupLock, lvmwire.EX)
			if err := os.Truncate(filepath.Join(dir, "vg-lvmlock"), 0); err != nil {
				t.Fatal(err)
			}
			wantLost(t, "storage lost", s, failWait)
			_, err := s.Lock(t.Context(), globalLock, lvmwire.SH, lvmlock.LockOptions{})
			wantResult(t, "global lock, SH", err, lvmwire.LockIO)
			if text := await(t, ran); text != "--kill vg\n" {
				t.Errorf("the killpath got %q", text)
			}
			if err := s.Unlock(t.Context(), groupLock, lvmwire.EX, nil); err != nil {
				t.Errorf("unlock what is lost: %v", err)
			}
			if err := s.Leave(t.Context(), false); err != nil {
				t.Errorf("leave what is lost: %v", err)
			}
			if names, err := h.Lockspaces(t.Context()); err != nil || len(names) != 0 {
				t.Errorf("after leaving: lockspaces %q, %v", names, err)
			}
		})
	}
}

// killpath makes a program that writes its arguments to a file.
func killpath(t *testing.T) (script, ran string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "kill") //nolint:usetesting // a killpath has at most 126 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	script, ran = filepath.Join(dir, "kill"), filepath.Join(dir, "ran")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$@\" >>"+ran+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return script, ran
}

// await waits for a file that has something in it.
func await(t *testing.T, path string) string {
	t.Helper()
	for deadline := time.Now().Add(failWait); time.Now().Before(deadline); time.Sleep(pollEvery) {
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
			return string(text)
		}
	}
	t.Errorf("nothing wrote %s", path)
	return ""
}

// TestNotLost: a lockspace that is left, or that is well, is not lost.
func TestNotLost(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			h := start(t, k, 1, disks(t, 80*mib, "vg"))
			h.format(t, "vg", true)
			s := h.join(t, "vg")
			time.Sleep(failIO * ioTimeout * time.Second)
			if err := s.Leave(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			select {
			case <-s.Lost():
				t.Error("lost")
			default:
			}
		})
	}
}
