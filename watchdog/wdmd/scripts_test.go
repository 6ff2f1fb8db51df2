package wdmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/leases/monotime"
)

func writeScript(t *testing.T, dir, name, body string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestScripts(t *testing.T) {
	dir := t.TempDir()
	writeScript(t, dir, "a-good", "exit 0", 0o700)
	writeScript(t, dir, "b-bad", "exit 3", 0o700)
	writeScript(t, dir, "c-signal", "kill -9 $$", 0o700)
	writeScript(t, dir, "d-long", "exec sleep 30", 0o700)
	writeScript(t, dir, ".hidden", "exit 1", 0o700)
	writeScript(t, dir, "e-data", "exit 1", 0o600)
	log := &text{}
	sc := NewScripts(dir, time.Second, monotime.System(), zerolog.New(log))
	if n := sc.Run(300*time.Millisecond, nil); n != 3 {
		t.Errorf("%d failed, want 3", n)
	}
	for _, want := range []string{
		"script b-bad pid ", " exit status 3", "script c-signal last_result -1 start ", "script d-long pid ", "taking too long",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log without %q:\n%s", want, log)
		}
	}
	// The good one is not run again so soon; the long one is killed after a second, and has failed then.
	if n := sc.Run(5*time.Second, nil); n != 3 {
		t.Errorf("%d failed, want 3", n)
	}
	got := string(sc.Dump(nil, 7))
	for _, want := range []string{
		"script 0 name a-good pid 0 now 7 start ", " last_result 0 run 1 fail 0 good 2 kill 0 long 0\n",
		"script 1 name b-bad", " last_result 3 run 2 fail 2 good 0 kill 0 long 0\n", " last_result -1 run 1 fail 1 good 0 kill 1 long 1\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("dump without %q:\n%s", want, got)
		}
	}
	// One that is gone is no failure; one that is new is found when asked for.
	for _, name := range []string{"b-bad", "c-signal", "d-long"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if n := sc.Run(5*time.Second, nil); n != 0 || strings.Count(string(sc.Dump(nil, 7)), "\n") != 1 {
		t.Errorf("%d failed after they were removed:\n%s", n, sc.Dump(nil, 7))
	}
	for i := range maxScripts {
		writeScript(t, dir, fmt.Sprint("f", i), "exit 1", 0o700)
	}
	sc.Rescan()
	if n := sc.Run(5*time.Second, nil); n != maxScripts-1 || !strings.Contains(log.String(), "script f7 no space") {
		t.Errorf("%d failed of %d", n, maxScripts)
	}
}

// runner stands for scripts in virtual time.
type runner struct {
	takes  time.Duration
	failed atomic.Int32
	runs   atomic.Int32
}

func (r *runner) Run(limit time.Duration, ended <-chan struct{}) int {
	r.runs.Add(1)
	select {
	case <-time.After(min(r.takes, limit)):
	case <-ended:
	}
	return int(r.failed.Load())
}

func (r *runner) Rescan()                         {}
func (r *runner) Dump(to []byte, _ uint64) []byte { return to }
func (r *runner) KillAfter() time.Duration        { return 0 }
func withScripts(r *runner) func(*bubble, *Config) {
	return func(_ *bubble, c *Config) { c.Scripts = r }
}

// Scripts that fail forbid the pet, with or without clients; when they are good again the device is taken back.
func TestScriptsForbid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{takes: 2 * time.Second}
		b := start(t, withScripts(r))
		b.until(100)
		if !b.dog.Counting() || b.dog.Fired() != 0 || r.runs.Load() < 9 {
			t.Fatalf("%d runs, %s", r.runs.Load(), b.events())
		}
		r.failed.Store(1)
		b.until(113)
		if !strings.HasSuffix(b.events(), "abandon@102") && !strings.HasSuffix(b.events(), "abandon@112") {
			t.Errorf("%s", b.events())
		}
		r.failed.Store(0)
		b.until(300)
		if b.dog.Fired() != 0 || strings.Count(b.events(), "open") != 3 {
			t.Errorf("not taken back: %s", b.events())
		}
		r.failed.Store(1)
		b.until(400)
		if b.dog.Fired() == 0 {
			t.Error("scripts that fail for ever reset nothing")
		}
	})
}

// Scripts that take nearly until the next test do not make a pet come after a client's end.
func TestSlowScripts(t *testing.T) {
	for phase := range 10 {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Second / 3)
			b := start(t, withScripts(&runner{takes: time.Hour}))
			b.until(phase)
			p := b.dial()
			p.live(40, 120)
			b.until(125)
			if last := b.dog.Last(); last > 120*time.Second || !strings.Contains(b.events(), "abandon") {
				t.Errorf("last pet at %v: %s", last, b.events())
			}
			b.bound(100, 120)
		})
	}
}
