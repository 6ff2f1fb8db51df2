package wdmd

import (
	"fmt"
	"os"
	"time"

	"github.com/tenurelock/tenure/watchdog/mux"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

const maxShown = 64 // bytes of a name

// dump is the text that answers DUMP_DEBUG, in stock's form (spec sanlock-daemon 3.7).
func (s *Server) dump() []byte {
	now := s.clock.Now().Seconds()
	kill, allowed := 0, 0
	if s.cfg.Scripts != nil {
		allowed, kill = 1, int(s.cfg.Scripts.KillAfter()/time.Second)
	}
	text := fmt.Appendf(nil, "wdmd %d socket_gid %d high_priority %d now %d last_keepalive %d "+
		"last_closeunclean %d allow_scripts %d kill_script_sec %d fire_timeout %d\n",
		os.Getpid(), s.cfg.GID, bit(s.cfg.High), now, s.keeper.petted.Seconds(), s.keeper.abandoned.Seconds(),
		allowed, kill, s.keeper.protected()/time.Second)
	// Stock counts its own descriptors among the clients.
	own := []mux.Client{{ID: 0, Name: "signal", FD: -1}, {ID: 1, Name: "listen", FD: -1}}
	for _, c := range append(own, s.mux.Clients()...) {
		text = fmt.Appendf(text, "client %d name %.*s pid %d fd %d dead %d ref %d now %d renewal %d expire %d\n",
			c.ID, maxShown, c.Name, c.PID, c.FD, bit(c.Dead), bit(c.Ref), now, c.Renewed, c.Expires)
	}
	if s.cfg.Scripts != nil {
		text = s.cfg.Scripts.Dump(text, uint64(now))
	}
	return text[:min(len(text), wdmdwire.MaxDump)]
}
