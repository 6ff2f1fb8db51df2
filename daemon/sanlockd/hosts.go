package sanlockd

import (
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/lockspace"
	"github.com/tenurelock/tenure/lockspace/hosts"
)

// doGetLockspaces lists the lockspaces: active, being removed, being added, each newest first.
func (s *Server) doGetLockspaces(c *client, r request) {
	s.debugCmd(r.Cmd, "cmd_get_lockspaces %d,%d", c.slot, c.fd)
	var body []byte
	var count uint32
	var result int32
	s.mu.Lock()
	for _, on := range []list{held, removing, adding} {
		for _, sp := range s.listed(on) {
			l := sp.wire
			switch on {
			case removing:
				l.Flags = sanlockwire.SpaceRemoving
			case adding:
				l.Flags = sanlockwire.SpaceAdding
			default:
			}
			count++
			if len(body)+sanlockwire.LockspaceSize > maxListReply {
				result = resultNoSpace
				continue
			}
			body = l.Append(body)
		}
	}
	s.mu.Unlock()
	s.reply(c, r.Header, result, count, body)
}

// doGetHosts lists the hosts of an active lockspace (spec sanlock-daemon 1.7).
func (s *Server) doGetHosts(c *client, r request) {
	l, err := spaceOf(r)
	var all []sanlockwire.Host
	if err == nil {
		all, err = s.hostsOf(c, l, r.Flags&sanlockwire.GetHostLocal != 0)
	}
	s.debugCmd(r.Cmd, "cmd_get_hosts %d,%d %s done %d count %d", c.slot, c.fd, l.Name, resultOf(err), len(all))
	var body []byte
	for _, h := range all {
		body = h.Append(body)
	}
	s.reply(c, r.Header, resultOf(err), uint32(len(all)), body)
}

func (s *Server) hostsOf(c *client, l sanlockwire.Lockspace, local bool) ([]sanlockwire.Host, error) {
	s.mu.Lock()
	sp := s.active(l.Name)
	s.mu.Unlock()
	if sp == nil {
		return nil, fail("list the hosts of", l.Name, leases.NotFound, errSpaceUnknown)
	}
	if local {
		return []sanlockwire.Host{ourselves(sp)}, nil
	}
	if err := sp.ls.Look(c.ctx); err != nil {
		s.log.Warn().Str("space", l.Name.String()).Err(err).Msg("get_hosts tells what the last renewals saw")
	}
	views, ready := sp.ls.Hosts()
	if !ready {
		return nil, fail("list the hosts of", l.Name, leases.Again, errNotSeenYet)
	}
	var all []sanlockwire.Host
	found := false
	for _, v := range views {
		if l.HostID == 0 && v.Timestamp != 0 || l.HostID != 0 && uint64(v.Host) == l.HostID {
			all, found = append(all, hostOf(v)), true
		}
	}
	if !found && l.HostID != 0 && l.HostID <= sp.ls.Geometry().MaxHosts() {
		all = append(all, sanlockwire.Host{HostID: l.HostID, Flags: uint32(leases.Free)})
	}
	return all, nil
}

func hostOf(v hosts.View) sanlockwire.Host {
	return sanlockwire.Host{
		HostID: uint64(v.Host), Generation: uint64(v.Owner.Generation), Timestamp: v.Timestamp, IOTimeout: v.IO,
		Flags: uint32(v.State),
	}
}

// ourselves is our own slot, known from the join on. Newer lvmlockd asks for it right after that.
func ourselves(sp *space) sanlockwire.Host {
	self := sp.ls.Self()
	return sanlockwire.Host{
		HostID: uint64(self.Host), Generation: uint64(self.Generation),
		Timestamp: uint64(sp.ls.Renewed().Seconds()), IOTimeout: sp.set.IO, Flags: uint32(leases.Alive),
	}
}

// named returns the lockspace of a name on any list, or nil, and what it has joined. An active one is
// preferred.
func (s *Server) named(name leases.Name) (*space, *lockspace.Space) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, on := range []list{held, removing, adding} {
		for _, sp := range s.listed(on) {
			if sp.wire.Name.Equal(name) {
				return sp, sp.ls
			}
		}
	}
	return nil, nil
}

// doHostStatus answers with a state record per host until the end of the connection.
func (s *Server) doHostStatus(c *client, r request) {
	s.debugCmd(r.Cmd, "cmd_host_status %d,%d", c.slot, c.fd)
	l, err := spaceOf(r)
	sp, ls := s.named(l.Name)
	if err != nil || sp == nil {
		s.reply(c, r.Header, resultNoSpace, 0, nil)
		return
	}
	p := r.Header.Reply(0, 0).Append(nil)
	if ls != nil {
		views, _ := ls.Hosts()
		for _, v := range views {
			if v.LastLive != 0 || v.Owner.Host != 0 {
				p = hostRecord(v).Append(p)
			}
		}
	}
	s.send(c, p)
}

func hostRecord(v hosts.View) sanlockwire.State {
	var w sanlockwire.Words
	w.Add("last_check", "%d", v.LastCheck)
	w.Add("last_live", "%d", v.LastLive)
	w.Add("last_req", "%d", v.LastReq)
	w.Add("owner_id", "%d", v.Owner.Host)
	w.Add("owner_generation", "%d", v.Owner.Generation)
	w.Add("timestamp", "%d", v.Timestamp)
	w.Add("io_timeout", "%d", v.IO)
	w.Add("owner_name", "%.48s", v.Name)
	return sanlockwire.State{
		Type: sanlockwire.StateHost, Data32: uint32(v.Host), Data64: v.Timestamp, Text: w.String(),
	}
}

// doRenewal answers with a state record per remembered renewal until the end of the connection.
func (s *Server) doRenewal(c *client, r request) {
	s.debugCmd(r.Cmd, "cmd_renewal %d,%d", c.slot, c.fd)
	l, err := spaceOf(r)
	sp, ls := s.named(l.Name)
	if err != nil || sp == nil {
		s.reply(c, r.Header, resultNoSpace, 0, nil)
		return
	}
	h := r.Header.Reply(0, 0)
	h.Data2 = sp.set.IO
	p := h.Append(nil)
	if ls != nil {
		for _, e := range ls.History() {
			p = renewalRecord(e).Append(p)
		}
	}
	s.send(c, p)
}

func renewalRecord(e lockspace.RenewalEntry) sanlockwire.State {
	var w sanlockwire.Words
	w.Add("timestamp", "%d", e.Timestamp)
	w.Add("read_ms", "%d", e.ReadTook.Milliseconds())
	w.Add("write_ms", "%d", e.WriteTook.Milliseconds())
	w.Add("next_timeouts", "%d", e.NextTimeouts)
	w.Add("next_errors", "%d", e.NextErrors)
	return sanlockwire.State{Type: sanlockwire.StateRenewal, Data64: uint64(e.Timestamp), Text: w.String()}
}
