package sanlockd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/helper"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

const (
	killEvery = time.Second            // between two attempts to stop one client
	lookEvery = 200 * time.Millisecond // between two looks at who is left
	// usedEvery is how often it is logged that a lockspace is kept because it is marked as used.
	usedEvery = 200 * time.Second
	// killpathSignal is the signal that stock logs when it runs a killpath program.
	killpathSignal = 100
	maxKillArgs    = 8 // words of a killpath command, the path included
)

// stopUsers stops everybody who holds a lease of a lockspace that is over, and returns when nobody does, no
// operation on its leases is at work, and nothing that was set by SET_CONFIG keeps it.
func (s *Server) stopUsers(sp *space) {
	s.mu.Lock()
	sp.killing = true
	s.mu.Unlock()
	var complained time.Time
	gaveUp := false
	for {
		orders, users, stuck := s.orders(sp)
		for _, o := range orders {
			s.carryOut(sp, o)
		}
		if stuck > 0 && stuck == users && !gaveUp {
			sp.log.Error().Msgf("killing pids stuck %d", stuck)
			gaveUp = true
		}
		kept, why := s.kept(sp)
		switch {
		case users == 0 && !kept:
			s.logClear(sp)
			return
		case users == 0 && why != "" && (complained.IsZero() || time.Since(complained) >= usedEvery):
			sp.log.Error().Msg(why)
			complained = time.Now()
		}
		sleep(context.Background(), lookEvery)
	}
}

// logClear says that nobody holds a lease of the lockspace any more: as stock does, an error only where the
// lockspace was lost.
func (s *Server) logClear(sp *space) {
	level := zerolog.DebugLevel
	s.mu.Lock()
	if sp.failed {
		level = zerolog.ErrorLevel
	}
	s.mu.Unlock()
	sp.log.WithLevel(level).Msg("all pids clear")
}

// kept reports whether a lockspace without users must not be left yet, with the words for the log if it is
// the administrator who keeps it.
func (s *Server) kept(sp *space) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp.used {
		return true, "used external blocking lockspace removal"
	}
	if sp.usedByOrphans {
		for _, h := range s.holdings {
			if h.home == sp && h.list == orphan {
				return true, fmt.Sprintf("used by orphan %d blocking lockspace removal", h.id)
			}
		}
	}
	return sp.ops > 0, ""
}

// order is what is to be done to one client now.
type order struct {
	c     *client
	proc  Process
	count int
	sig   syscall.Signal
	run   *sanlockwire.Killpath
	pid   bool // append the pid to the program's arguments
}

// orders decides what to do to each client that holds leases of the lockspace, at most once a second each. It
// also returns how many there are, and how many of them are told nothing more.
func (s *Server) orders(sp *space) (all []order, users, stuck int) {
	now := s.cfg.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		if c == nil || !c.uses(sp) {
			continue
		}
		users++
		if c.killCount >= maxKills {
			stuck++
			continue
		}
		if c.dead || c.killCount > 0 && now.Seconds() < c.killLast+1 {
			continue
		}
		c.killCount++
		c.killLast = now.Seconds()
		o := order{c: c, proc: c.proc, count: c.killCount}
		s.choose(sp, c, &o)
		all = append(all, o)
	}
	return all, users, stuck
}

// uses reports whether c holds a lease of the lockspace. s.mu is held.
func (c *client) uses(sp *space) bool {
	for _, t := range c.tokens {
		if t != nil && t.h != nil && t.h.home == sp {
			return true
		}
	}
	return false
}

// choose fills in the signal or the program (spec sanlock-daemon 2.9). s.mu is held.
func (s *Server) choose(sp *space, c *client, o *order) {
	o.sig = syscall.SIGKILL
	if s.inGrace(sp) {
		if c.kill.Path != "" {
			o.sig = 0
			if c.flags&runpathSent == 0 {
				c.flags |= runpathSent
				kill := c.kill
				o.run, o.pid = &kill, c.flags&killpathPID != 0
			}
			return
		}
		o.sig = syscall.SIGTERM
	}
	if o.sig == syscall.SIGKILL && c.restricted&sanlockwire.RestrictSigkill != 0 {
		o.sig = syscall.SIGTERM
	}
	if o.sig == syscall.SIGTERM && c.restricted&sanlockwire.RestrictSigterm != 0 {
		o.sig = syscall.SIGKILL
	}
}

// inGrace reports whether users of a failed lockspace may still end in an orderly way. The time that the
// machine was suspended counts: the watchdogs of other hosts' judgement went on. s.mu is held.
func (s *Server) inGrace(sp *space) bool {
	if sp.removed || s.cfg.KillGrace == 0 {
		return false
	}
	return sp.ls.Age() < sp.set.RenewalFail()+time.Duration(s.cfg.KillGrace)*time.Second
}

// carryOut does what was decided. Neither a signal nor starting a program can hold up the others.
func (s *Server) carryOut(sp *space, o order) {
	pid := o.proc.PID()
	switch {
	case o.run != nil:
		sp.log.Error().Msgf("kill %d sig %d count %d", pid, killpathSignal, o.count)
		s.runKillpath(sp, *o.run, pid, o.pid)
	case o.sig != 0:
		sp.log.Error().Msgf("kill %d sig %d count %d", pid, o.sig, o.count)
		s.signal(sp, o.proc, o.sig)
	}
}

// signal sends a signal, through the helper if there is one.
func (s *Server) signal(sp *space, p Process, sig syscall.Signal) {
	if s.cfg.Helper != nil {
		s.cfg.Helper.Signal(p, sig)
		return
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		sp.log.Error().Err(err).Msgf("kill %d sig %d", p.PID(), sig)
	}
}

// runKillpath starts a client's program and waits for nothing, not even for exec to find it: it may lie on
// the storage that has just failed. Such a goroutine may outlive the daemon's work.
func (s *Server) runKillpath(sp *space, k sanlockwire.Killpath, pid int, withPID bool) {
	args := splitArgs(k.Args)
	if withPID && len(args) < maxKillArgs-1 {
		args = append(args, fmt.Sprint(pid))
	}
	if s.cfg.Helper != nil {
		s.cfg.Helper.Run(k.Path, args)
		return
	}
	go func() {
		if err := s.cfg.Start(k.Path, args); err != nil {
			sp.log.Error().Err(err).Msgf("run killpath %s for %d", k.Path, pid)
		}
	}()
}

// splitArgs cuts at white space; a backslash keeps a space or a backslash in the word. Any other escape, and
// any control character, ends the arguments.
func splitArgs(s string) []string {
	var all []string
	var word strings.Builder
	flush := func() {
		if word.Len() > 0 && len(all) < maxKillArgs-1 {
			all = append(all, word.String())
		}
		word.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c == '\t':
			flush()
		case c < ' ' || c == 0x7f:
			flush()
			return all
		case c == '\\':
			i++
			if i == len(s) || s[i] != ' ' && s[i] != '\\' {
				flush()
				return all
			}
			word.WriteByte(s[i])
		default:
			word.WriteByte(c)
		}
	}
	flush()
	return all
}

// startProgram runs a program with nothing on its standard files and reaps it.
func startProgram(path string, args []string) error { return helper.Command(path, args).Run() }
