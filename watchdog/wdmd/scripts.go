package wdmd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog/mux"
)

// maxScripts is how many scripts are run; further ones are ignored, which is logged.
const maxScripts = 8

// Scripts are programs that forbid a pet by failing (spec sanlock-daemon 3.6).
type Scripts struct {
	Dir   string
	Kill  time.Duration // after which a script is killed; 0 never
	Clock monotime.Clock
	Log   zerolog.Logger

	mu   sync.Mutex
	list []*script
}

// script is one of them. Its fields belong to Scripts.mu.
type script struct {
	name                        string
	process                     *os.Process // nil: not running
	began                       monotime.Instant
	result                      int // of the last run that ended; 0 is good
	done                        chan struct{}
	removed                     bool
	run, fail, good, kill, long uint
}

// NewScripts finds the scripts of a directory. One that does not exist has none.
func NewScripts(dir string, kill time.Duration, clock monotime.Clock, log zerolog.Logger) *Scripts {
	sc := &Scripts{Dir: dir, Kill: kill, Clock: clock, Log: log}
	sc.Rescan()
	return sc
}

// Rescan adds the scripts that are new. Those that are gone are noticed when they are to run.
func (sc *Scripts) Rescan() {
	entries, err := os.ReadDir(sc.Dir) // sorted by name
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		sc.Log.Error().Err(err).Msg("scripts")
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || sc.has(e.Name()) || !runnable(filepath.Join(sc.Dir, e.Name())) {
			continue
		}
		if len(sc.list) == maxScripts {
			sc.Log.Error().Msgf("script %s no space", e.Name())
			continue
		}
		sc.list = append(sc.list, &script{name: e.Name()})
		sc.Log.Info().Msgf("add_script %d %s", len(sc.list)-1, e.Name())
	}
}

func (sc *Scripts) has(name string) bool {
	for _, s := range sc.list {
		if s.name == name {
			return true
		}
	}
	return false
}

// runnable reports whether path is a file that its owner may execute.
func runnable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o100 != 0
}

// Run runs all scripts and waits for them, at most for limit and until ended, and returns how many failed.
func (sc *Scripts) Run(limit time.Duration, ended <-chan struct{}) int {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	sc.mu.Lock()
	all := append([]*script(nil), sc.list...)
	sc.mu.Unlock()
	for _, s := range all {
		sc.start(s)
	}
	failed := 0
	for _, s := range all {
		sc.mu.Lock()
		done := s.done
		sc.mu.Unlock()
		select {
		case <-done:
		case <-timer.C:
			timer.Reset(0) // the others have had their time too
		case <-ended:
			return failed
		}
		failed += sc.judge(s)
	}
	sc.prune()
	return failed
}

// start starts a script that does not run, unless it was good a moment ago.
func (sc *Scripts) start(s *script) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	now := sc.Clock.Now()
	switch {
	case s.process != nil:
		return
	case s.good > 0 && s.result == 0 && now.Sub(s.began) < mux.Standard-time.Second:
		return
	}
	s.began, s.done = now, make(chan struct{})
	path := filepath.Join(sc.Dir, s.name)
	cmd := exec.Command(path)
	if !runnable(path) {
		sc.Log.Error().Msgf("script %s removed", s.name)
		s.removed = true
		close(s.done)
		return
	}
	if err := cmd.Start(); err != nil {
		sc.Log.Error().Err(err).Msgf("script %s", s.name)
		s.result = -1
		close(s.done)
		return
	}
	s.process = cmd.Process
	s.run++
	// It has inherited the daemon's priority, if that is high. It runs as well if this fails.
	_ = unix.SchedSetAttr(s.process.Pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
	go sc.reap(s, cmd, s.done) // ends with the script, which may outlive the daemon
	if sc.Kill > 0 {
		process := cmd.Process
		time.AfterFunc(sc.Kill, func() { sc.stop(s, process) })
	}
}

// stop kills a run of a script that takes too long.
func (sc *Scripts) stop(s *script, p *os.Process) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if s.process == p {
		s.kill++
		_ = p.Kill() // it may have ended just now
	}
}

func (sc *Scripts) reap(s *script, cmd *exec.Cmd, done chan struct{}) {
	err := cmd.Wait()
	sc.mu.Lock()
	defer sc.mu.Unlock()
	defer close(done)
	pid := s.process.Pid
	s.process, s.result = nil, 0
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Exited():
		s.result = exit.ExitCode()
		sc.Log.Error().Msgf("script %s pid %d exit status %d", s.name, pid, s.result)
	default:
		s.result = -1
		sc.Log.Error().Err(err).Msgf("script %s pid %d", s.name, pid)
	}
}

// judge counts the last run of a script and returns 1 if it forbids the pet.
func (sc *Scripts) judge(s *script) int {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	switch {
	case s.removed:
		return 0
	case s.process != nil:
		s.long++
		sc.Log.Error().Msgf("script %s pid %d start %d now %d taking too long", s.name, s.process.Pid,
			s.began.Seconds(), sc.Clock.Now().Seconds())
		return 1
	case s.result != 0:
		s.fail++
		sc.Log.Error().Msgf("script %s last_result %d start %d run %d fail %d good %d kill %d long %d", s.name,
			s.result, s.began.Seconds(), s.run, s.fail, s.good, s.kill, s.long)
		return 1
	}
	s.good++
	return 0
}

// prune forgets the scripts that are gone.
func (sc *Scripts) prune() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	var kept []*script
	for _, s := range sc.list {
		if !s.removed {
			kept = append(kept, s)
		}
	}
	sc.list = kept
}

// KillAfter returns the time after which a script is killed; 0: never.
func (sc *Scripts) KillAfter() time.Duration { return sc.Kill }

// Dump appends a line for each script.
func (sc *Scripts) Dump(to []byte, now uint64) []byte {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for i, s := range sc.list {
		pid := 0
		if s.process != nil {
			pid = s.process.Pid
		}
		to = fmt.Appendf(to, "script %d name %.*s pid %d now %d start %d last_result %d run %d fail %d good %d "+
			"kill %d long %d\n", i, maxShown, s.name, pid, now, s.began.Seconds(), s.result, s.run, s.fail, s.good,
			s.kill, s.long)
	}
	return to
}
