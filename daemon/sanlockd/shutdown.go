package sanlockd

import (
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// Shutdown ends the daemon: at once if there is no lockspace, or, when forced, after the users of all
// lockspaces were stopped and the lockspaces left. It reports whether it was accepted (spec sanlock-daemon
// 2.14); Serve returns when it is done.
func (s *Server) Shutdown(force bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.spaces) > 0 && !force {
		s.log.Debug().Msg("ignore shutdown, lockspace exists")
		return false
	}
	s.ending = true
	s.forced = s.forced || force
	for _, sp := range s.spaces {
		if sp.list != removing {
			s.end(sp, false)
		}
	}
	s.tell()
	return true
}

func (s *Server) doShutdown(_ *client, r request) { s.Shutdown(r.Data != 0) }

// doShutdownWait is answered when the daemon ends, or with EBUSY at once.
func (s *Server) doShutdownWait(c *client, r request) {
	s.mu.Lock()
	busy := len(s.spaces) > 0 && r.Data == 0
	if !busy {
		s.waiters = append(s.waiters, c)
	}
	s.mu.Unlock()
	if busy {
		s.reply(c, r.Header, resultBusy, 0, nil)
		return
	}
	s.Shutdown(r.Data != 0)
}

// answerWaiters tells everybody who waits for the daemon's end that it has come. Such an answer has no
// command.
func (s *Server) answerWaiters() {
	s.mu.Lock()
	waiters := s.waiters
	s.waiters = nil
	s.mu.Unlock()
	answer := sanlockwire.NewHeader(0, 0, 0, 0, 0).Append(nil)
	for _, c := range waiters {
		s.send(c, answer)
	}
}
