package lvmlock

import "github.com/tenurelock/tenure/daemon/lvmwire"

// kill ends all locking in a VG whose storage is gone; what is held stays held until drop (spec lvmlockd
// 3.4.8).
func (s *space) kill(p *pending) {
	s.log.Error().Msg("VG killed: its LVs must be deactivated and the VG dropped")
	s.die()
	p.result(s, lvmwire.OK)
}

// lose does the same when the lock manager says that the membership ended.
func (s *space) lose() {
	s.lost = nil
	if s.state == stopping {
		return
	}
	if s.global { // there is no VG to be dropped, and nothing to be guarded but commands that run now
		s.log.Error().Msg("the lock manager lost the lockspace of the global lock: starting anew when it is needed")
		s.beginStop(nil, false)
		return
	}
	s.log.Error().Msg("the lock manager lost the lockspace: deactivate the VG's LVs and drop the VG")
	s.die()
}

// die refuses what waits: it must not be granted when storage comes back for a moment.
func (s *space) die() {
	s.killed = true
	for _, l := range s.lanes {
		l.locks.Cancel(lvmwire.VGKilled)
		s.deliver(l)
		s.pump(l)
	}
}

// drop gives everything back, locks of active LVs too, and leaves (spec 3.4.9).
func (s *space) drop(p *pending) {
	s.log.Warn().Msg("dropping all locks of the VG")
	s.beginStop(p, false)
	s.leaving.always = true
}
