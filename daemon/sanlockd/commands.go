package sanlockd

import (
	"errors"
	"fmt"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// handler carries out a command on its own connection and answers it.
type handler struct {
	do func(s *Server, c *client, r request)
	// closes: the daemon hangs up after the answer, which is how its end is known, unless the connection is
	// registered and would lose its leases.
	closes bool
}

// handlers are the commands that are served (spec sanlock-daemon 1.7). Those that are not are dropped like
// headers that are none.
var handlers = map[uint32]handler{
	sanlockwire.CmdRegister:           {do: func(s *Server, c *client, _ request) { s.register(c) }},
	sanlockwire.CmdAddLockspace:       {do: (*Server).doAddLockspace},
	sanlockwire.CmdRemLockspace:       {do: (*Server).doRemLockspace},
	sanlockwire.CmdInqLockspace:       {do: (*Server).doInqLockspace},
	sanlockwire.CmdShutdown:           {do: (*Server).doShutdown, closes: true},
	sanlockwire.CmdShutdownWait:       {do: (*Server).doShutdownWait},
	sanlockwire.CmdStatus:             {do: (*Server).doStatus, closes: true},
	sanlockwire.CmdLogDump:            {do: (*Server).doLogDump, closes: true},
	sanlockwire.CmdAcquire:            {do: (*Server).doTargeted},
	sanlockwire.CmdRelease:            {do: (*Server).doTargeted},
	sanlockwire.CmdInquire:            {do: (*Server).doTargeted},
	sanlockwire.CmdConvert:            {do: (*Server).doTargeted},
	sanlockwire.CmdKillpath:           {do: (*Server).doTargeted},
	sanlockwire.CmdRestrict:           {do: (*Server).doRestrict},
	sanlockwire.CmdHostStatus:         {do: (*Server).doHostStatus, closes: true},
	sanlockwire.CmdGetLockspaces:      {do: (*Server).doGetLockspaces, closes: true},
	sanlockwire.CmdGetHosts:           {do: (*Server).doGetHosts, closes: true},
	sanlockwire.CmdRenewal:            {do: (*Server).doRenewal, closes: true},
	sanlockwire.CmdVersion:            {do: (*Server).doVersion},
	sanlockwire.CmdSetLVB:             {do: (*Server).doSetLVB},
	sanlockwire.CmdGetLVB:             {do: (*Server).doGetLVB},
	sanlockwire.CmdSetConfig:          {do: (*Server).doSetConfig, closes: true},
	sanlockwire.CmdAlign:              {do: (*Server).doAlign},
	sanlockwire.CmdWriteLockspace:     {do: (*Server).doWriteLockspace},
	sanlockwire.CmdWriteResource:      {do: (*Server).doWriteResource},
	sanlockwire.CmdReadLockspace:      {do: (*Server).doReadLockspace},
	sanlockwire.CmdReadResource:       {do: (*Server).doReadResource},
	sanlockwire.CmdReadResourceOwners: {do: (*Server).doReadResourceOwners},
	sanlockwire.CmdRequest:            {do: (*Server).doRequest},
	sanlockwire.CmdExamineLockspace:   {do: (*Server).doExamineLockspace},
	sanlockwire.CmdExamineResource:    {do: (*Server).doExamineResource},
	sanlockwire.CmdRegEvent:           {do: (*Server).doRegEvent},
	sanlockwire.CmdEndEvent:           {do: (*Server).doEndEvent, closes: true},
	sanlockwire.CmdSetEvent:           {do: (*Server).doSetEvent},
	sanlockwire.CmdFormatRindex:       {do: (*Server).doIndex},
	sanlockwire.CmdUpdateRindex:       {do: (*Server).doIndex},
	sanlockwire.CmdLookupRindex:       {do: (*Server).doIndex},
	sanlockwire.CmdCreateResource:     {do: (*Server).doIndex},
	sanlockwire.CmdDeleteResource:     {do: (*Server).doIndex},
	sanlockwire.CmdRebuildRindex:      {do: (*Server).doIndex},
}

// served reports whether a command is carried out at all.
func served(cmd uint32) bool {
	_, ok := handlers[cmd]
	return ok
}

// command carries out one request and reports whether the connection goes on.
func (s *Server) command(c *client, r request) bool {
	h := handlers[r.Cmd]
	s.mu.Lock()
	c.last = r.Cmd
	registered := c.proc != nil
	cmd, _ := sanlockwire.CommandOf(r.Cmd)
	if name := transientName(r.Cmd); name != "" {
		c.name = name
	}
	s.mu.Unlock()
	if r.bad != nil && !cmd.Targeted {
		s.reply(c, r.Header, resultOf(r.bad), 0, bodyOfBad(r))
		return true
	}
	h.do(s, c, r)
	if h.closes && registered {
		s.log.Error().Msgf("client_free ci %d live pid %d", c.slot, c.pid.Load())
	}
	return (!h.closes || registered) && c.listens == nil
}

// bodyOfBad is what goes with the answer to a request that was refused while it was read: stock's library
// reads the resource of those two whatever the result is.
func bodyOfBad(r request) []byte {
	switch r.Cmd {
	case sanlockwire.CmdReadResource, sanlockwire.CmdReadResourceOwners:
		if len(r.body) >= sanlockwire.ResourceSize {
			return r.body[:sanlockwire.ResourceSize]
		}
	}
	return nil
}

// transientName is what status calls a connection after a command: "" for those that leave it its name. The
// others take it also from a registered client, as in stock.
func transientName(cmd uint32) string {
	c, _ := sanlockwire.CommandOf(cmd)
	if c.Targeted {
		return ""
	}
	switch cmd {
	case sanlockwire.CmdRegister, sanlockwire.CmdRestrict, sanlockwire.CmdVersion:
		return ""
	case sanlockwire.CmdStatus, sanlockwire.CmdHostStatus, sanlockwire.CmdRenewal, sanlockwire.CmdLogDump,
		sanlockwire.CmdGetLockspaces, sanlockwire.CmdGetHosts, sanlockwire.CmdSetConfig, sanlockwire.CmdShutdown,
		sanlockwire.CmdAddLockspace, sanlockwire.CmdInqLockspace, sanlockwire.CmdRemLockspace:
		return c.Name
	}
	return fmt.Sprintf("cmd%d", cmd)
}

// doTargeted carries out the commands that are about a registered process (spec 1.8).
func (s *Server) doTargeted(c *client, r request) {
	t, err := s.target(c, r.Header)
	if err != nil {
		s.reply(c, r.Header, resultOf(err), 0, nil)
		return
	}
	result, data2, body := s.onTarget(t, r)
	s.done(t)
	s.reply(c, r.Header, result, data2, body)
}

func (s *Server) onTarget(t *client, r request) (result int32, data2 uint32, body []byte) {
	if r.bad != nil {
		return resultOf(r.bad), 0, nil
	}
	switch r.Cmd {
	case sanlockwire.CmdAcquire:
		rs, options, err := sanlockwire.DecodeAcquire(r.Header, r.body)
		if err == nil {
			s.debugCmd(r.Cmd, "cmd_acquire %v count %d flags %x", t, len(rs), r.Flags)
			err = s.acquire(t, r.Header, rs, options.OwnerName)
			s.debugCmd(r.Cmd, "cmd_acquire %v result %d pid_dead %d%s", t, resultOf(err), s.deadBit(t), because(err))
		}
		return resultOf(err), 0, nil
	case sanlockwire.CmdRelease:
		rs, err := sanlockwire.DecodeRelease(r.body)
		if err != nil {
			return resultOf(err), 0, nil
		}
		s.debugCmd(r.Cmd, "cmd_release %v count %d flags %x", t, len(rs), r.Flags)
		result = s.releaseCommand(t, r.Header, rs)
		s.debugCmd(r.Cmd, "cmd_release %v result %d pid_dead %d count %d", t, result, s.deadBit(t), len(rs))
		return result, 0, nil
	case sanlockwire.CmdInquire:
		n, text := s.holdsText(t)
		return 0, n, text
	case sanlockwire.CmdConvert:
		var res sanlockwire.Resource
		err := res.Decode(r.body)
		if err == nil {
			err = s.convert(t, r.Header, res)
			s.debugCmd(r.Cmd, "cmd_convert %v result %d pid_dead %d%s", t, resultOf(err), s.deadBit(t), because(err))
		}
		return resultOf(err), 0, nil
	default:
		return resultOf(s.setKillpath(t, r)), 0, nil
	}
}

// deadBit is the log's word for whether a client is gone.
func (s *Server) deadBit(c *client) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bit(c.dead)
}

// holdsText lists what a client holds, as INQUIRE answers: how many, and the text with its zero.
func (s *Server) holdsText(c *client) (uint32, []byte) {
	s.mu.Lock()
	var rs []sanlockwire.Resource
	for _, t := range c.tokens {
		if t != nil && t.h != nil {
			rs = append(rs, t.shown())
		}
	}
	s.mu.Unlock()
	if len(rs) == 0 {
		return 0, nil
	}
	return uint32(len(rs)), append([]byte(sanlockwire.FormatInquire(rs)), 0)
}

// shown is a token's resource as clients are shown it. s.mu is held.
func (t *token) shown() sanlockwire.Resource {
	r := t.h.wire
	r.LVer = t.lver
	r.Flags &^= sanlockwire.ResShared
	if t.h.mode == leases.Shared {
		r.Flags |= sanlockwire.ResShared
	}
	return r
}

func (s *Server) setKillpath(c *client, r request) error {
	var k sanlockwire.Killpath
	if err := k.Decode(r.body); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.kill = k
	if r.Flags&sanlockwire.KillpathPID != 0 {
		c.flags |= killpathPID
	}
	return nil
}

func (s *Server) doRestrict(c *client, r request) {
	s.mu.Lock()
	c.restricted = r.Flags
	s.mu.Unlock()
	s.reply(c, r.Header, 0, 0, nil)
}

func (s *Server) doVersion(c *client, r request) {
	h := r.Header
	h.Flags, h.Seq = 0, 0
	s.reply(c, h, 0, sanlockwire.DaemonVersion, nil)
}

func (s *Server) doLogDump(c *client, r request) {
	var text []byte
	if s.cfg.Dump != nil {
		text = s.cfg.Dump()
	}
	// The header's length leaves the text out, as stock's does.
	s.send(c, append(r.Header.Reply(int32(len(text)), 0).Append(nil), text...))
}

// spaceOf decodes the lockspace that begins a body.
func spaceOf(r request) (l sanlockwire.Lockspace, err error) {
	err = l.Decode(r.body)
	return l, err
}

func (s *Server) doAddLockspace(c *client, r request) {
	l, err := spaceOf(r)
	text := sanlockwire.FormatLockspace(l)
	s.debugCmd(r.Cmd, "cmd_add_lockspace %d,%d %s flags %x timeout %d", c.slot, c.fd, text, r.Flags, r.Data)
	var sp *space
	if err == nil {
		sp, err = s.addSpace(l, r.Data)
	}
	if err == nil && r.Flags&sanlockwire.AddAsync == 0 {
		select {
		case <-sp.added:
			err = sp.addErr
		case <-s.root.Done():
			err = fail("add lockspace", l.Name, leases.Aborted, errShuttingDown)
		}
	}
	s.debugCmd(r.Cmd, "cmd_add_lockspace %d,%d done %d%s", c.slot, c.fd, resultOf(err), because(err))
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

func (s *Server) doRemLockspace(c *client, r request) {
	l, err := spaceOf(r)
	text := sanlockwire.FormatLockspace(l)
	s.debugCmd(r.Cmd, "cmd_rem_lockspace %d,%d %s flags %x", c.slot, c.fd, text, r.Flags)
	async := r.Flags&sanlockwire.RemoveAsync != 0
	var sp *space
	if err == nil {
		sp, err = s.removeSpace(l, r.Flags&sanlockwire.RemoveIdle != 0, async)
	}
	if err == nil && !async {
		select {
		case <-sp.gone:
		case <-s.root.Done():
		}
	}
	s.debugCmd(r.Cmd, "cmd_rem_lockspace %d,%d done %d%s", c.slot, c.fd, resultOf(err), because(err))
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

func (s *Server) doInqLockspace(c *client, r request) {
	l, err := spaceOf(r)
	if err == nil {
		err = s.inquire(l)
	}
	for leases.KindOf(err) == leases.InProgress && r.Flags&sanlockwire.InquireWait != 0 {
		if s.await(c.ctx, func() bool { return s.settled(l) }) != nil {
			break
		}
		err = s.inquire(l)
	}
	s.debugCmd(r.Cmd, "cmd_inq_lockspace %d,%d done %d", c.slot, c.fd, resultOf(err))
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

// settled reports whether a lockspace is neither being added nor being removed. s.mu is held.
func (s *Server) settled(l sanlockwire.Lockspace) bool {
	sp := s.lookup(l)
	return sp == nil || sp.list == held
}

var errUnknownConfig = errors.New("no such setting")

// doSetConfig sets or clears the marks that keep a lockspace from being left (spec sanlock-daemon 2.10).
func (s *Server) doSetConfig(c *client, r request) {
	l, err := spaceOf(r)
	if err == nil {
		err = s.setConfig(l.Name, r.Data)
	}
	s.log.Debug().Msgf("cmd_set_config fd %d rv %d", c.fd, resultOf(err))
	s.reply(c, r.Header, resultOf(err), r.Data2, nil)
}

func (s *Server) setConfig(name leases.Name, what uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.active(name)
	if sp == nil {
		return fail("configure lockspace", name, leases.NotFound, errSpaceUnknown)
	}
	setting := what == sanlockwire.ConfigUsed || what == sanlockwire.ConfigUsedByOrphans
	if setting && sp.isOver() {
		return fail("configure lockspace", name, leases.NoSpace, errSpaceNotActive)
	}
	switch what {
	case sanlockwire.ConfigUsed, sanlockwire.ConfigUnused:
		sp.used = setting
	case sanlockwire.ConfigUsedByOrphans, sanlockwire.ConfigUnusedByOrphans:
		sp.usedByOrphans = setting
	default:
		return fail("configure lockspace", name, leases.Invalid, errUnknownConfig)
	}
	return nil
}
