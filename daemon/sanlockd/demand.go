package sanlockd

import (
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/resource"
)

// doRequest asks the owner of a lease, through the disk, to give it up (spec sanlock-daemon 2.6).
func (s *Server) doRequest(c *client, r request) {
	res, err := resourceOf(r)
	if err == nil {
		err = s.demand(res, r.Data, r.Flags&sanlockwire.RequestNextLVer != 0)
	}
	s.debugCmd(r.Cmd, "cmd_request %d,%d force_mode %d done %d%s",
		c.slot, c.fd, r.Data, resultOf(err), because(err))
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

func (s *Server) demand(r sanlockwire.Resource, mode uint32, next bool) error {
	s.mu.Lock()
	sp := s.active(r.Space)
	joined := sp != nil && !sp.isOver()
	if joined {
		sp.beginOp()
	}
	s.mu.Unlock()
	if !joined {
		return fail("request", r.Space, leases.NoSpace, errSpaceNotActive)
	}
	defer s.endOp(sp)
	disks, err := s.openDisks(r)
	if err != nil {
		return err
	}
	defer s.abandon(sp, disks)
	lease, err := s.look(&r, disks, sp.ls.Geometry())
	if err != nil {
		return err
	}
	owner, err := lease.PutRequest(sp.ctx, r.LVer, mode, next)
	if err == nil && owner.Host != 0 {
		sp.ls.Notify(owner.Host)
	}
	return err
}

// abandon gives disks back, except while a write to them is in flight.
func (s *Server) abandon(sp *space, disks []resource.Disk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp.wreckage = closeLanded(append(sp.wreckage, disks...))
}
