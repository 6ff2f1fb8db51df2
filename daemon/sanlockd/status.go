package sanlockd

import (
	"cmp"
	"slices"

	"github.com/tenurelock/tenure/daemon/helper"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
)

// resourceFlags are the internal flags of a lease that status shows.
const (
	flagShared       = 1
	flagRestrictKill = 8
	flagRestrictTerm = 0x10
	flagWriteValue   = 0x20
)

// doStatus answers with state records until the end of the connection (spec sanlock-daemon 1.9). What others
// need s.mu for does not wait while thousands of clients are put into words.
func (s *Server) doStatus(c *client, r request) {
	s.debugCmd(r.Cmd, "cmd_status %d,%d", c.slot, c.fd)
	s.send(c, s.statusText(r))
}

// statusText is the whole answer. Few are put together at a time: who floods the daemon with such requests
// waits for itself, and not all others for the processor.
func (s *Server) statusText(r request) []byte {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	var clients []clientView
	var rest []byte
	s.mu.Lock()
	if r.Data != sanlockwire.StatusDaemon {
		clients = s.clientViews()
		if r.Data != sanlockwire.StatusClients {
			for _, on := range []list{held, adding, removing} {
				for _, sp := range s.listed(on) {
					rest = s.spaceRecord(sp).Append(rest)
				}
			}
			if r.Data != sanlockwire.StatusLockspaces {
				rest = s.appendResources(rest)
			}
		}
	}
	s.mu.Unlock()
	p := make([]byte, 0, daemonRecordSize+len(clients)*clientRecordSize+len(rest))
	p = r.Header.Reply(0, 0).Append(p)
	p = s.daemonRecord().Append(p)
	for _, v := range clients {
		p = v.record().Append(p)
	}
	return append(p, rest...)
}

// What records take, so that an answer is seldom moved while it grows.
const (
	daemonRecordSize = 1024
	clientRecordSize = 256
)

func (s *Server) daemonRecord() sanlockwire.State {
	var w sanlockwire.Words
	c := &s.cfg
	now := uint64(c.Clock.Now().Seconds())
	w.Add("our_host_name", "%s", c.OurHostName)
	w.Add("use_watchdog", "%d", c.UseWatchdog)
	w.Add("high_priority", "%d", c.HighPriority)
	w.Add("mlock_level", "%d", c.MlockLevel)
	w.Add("quiet_fail", "%d", c.QuietFail)
	w.Add("debug_renew", "%d", c.DebugRenew)
	w.Add("debug_clients", "%d", c.DebugClients)
	w.Add("debug_cmds", "0x%x", c.DebugCmds)
	w.Add("renewal_history_size", "%d", c.RenewalHistory)
	w.Add("gid", "%d", c.GID)
	w.Add("uid", "%d", c.UID)
	w.Add("sh_retries", "%d", c.SharedRetries)
	w.Add("max_sectors_kb_ignore", "%d", bit(c.MaxSectors.Ignore))
	w.Add("max_sectors_kb_align", "%d", bit(c.MaxSectors.Align))
	w.Add("max_sectors_kb_num", "%d", c.MaxSectors.KB)
	w.Add("max_worker_threads", "%d", c.MaxWorkers)
	w.Add("write_init_io_timeout", "%d", c.WriteInitIOTimeout)
	w.Add("use_aio", "%d", c.UseAIO)
	w.Add("io_timeout", "%d", c.IOTimeout)
	w.Add("watchdog_fire_timeout", "%d", c.WatchdogFireTimeout)
	w.Add("kill_grace_seconds", "%d", c.KillGrace)
	h := s.helperStatus()
	w.Add("helper_pid", "%d", h.PID)
	w.Add("helper_kill_fd", "%d", h.FD)
	w.Add("helper_full_count", "%d", h.Full)
	w.Add("helper_last_status", "%d", h.Last)
	w.Add("monotime", "%d", now)
	w.Add("version_str", "%s", version)
	w.Add("version_num", "%s", version)
	w.Add("version_hex", "%08x", sanlockwire.DaemonVersion)
	w.Add("smproto_hex", "%08x", sanlockwire.Protocol)
	return sanlockwire.State{Type: sanlockwire.StateDaemon, Name: leases.NameOf(c.OurHostName), Text: w.String()}
}

// helperStatus is that of no helper, if there is none.
func (s *Server) helperStatus() helper.Status {
	if s.cfg.Helper == nil {
		return helper.Status{PID: -1, FD: -1}
	}
	return s.cfg.Helper.Status()
}

// version is that of the sanlock whose behaviour this daemon has.
const version = "3.8.5"

// clientView is what status shows of a client.
type clientView struct {
	slot, fd, pid     int
	name              string
	flags, restricted uint32
	active, last      uint32
	dead, needFree    bool
	killCount         int
	killLast          monotime.Seconds
}

// clientViews returns stock's helper and listener, then the connections by slot. s.mu is held.
func (s *Server) clientViews() []clientView {
	all := make([]clientView, 0, len(s.clients))
	all = append(all,
		clientView{slot: 0, fd: s.helperStatus().FD, pid: nobody, name: "helper"},
		clientView{slot: 1, fd: -1, pid: nobody, name: "listener"})
	for _, c := range s.clients {
		if c != nil {
			all = append(all, clientView{
				slot: c.slot, fd: c.fd, pid: int(c.pid.Load()), name: c.name, flags: c.flags,
				restricted: c.restricted, active: c.active, last: c.last, dead: c.dead, needFree: c.needFree,
				killCount: c.killCount, killLast: c.killLast,
			})
		}
	}
	return all
}

// record is the client's state record.
func (c *clientView) record() sanlockwire.State {
	var w sanlockwire.Words
	w.Add("ci", "%d", c.slot)
	w.Add("fd", "%d", c.fd)
	w.Add("pid", "%d", c.pid)
	w.Add("flags", "%x", c.flags)
	w.Add("restricted", "%x", c.restricted)
	w.Add("cmd_active", "%d", int(c.active))
	w.Add("cmd_last", "%d", int(c.last))
	w.Add("pid_dead", "%d", bit(c.dead))
	w.Add("kill_count", "%d", c.killCount)
	w.Add("kill_last", "%d", int(c.killLast))
	w.Add("suspend", "%d", bit(c.active != 0))
	w.Add("need_free", "%d", bit(c.needFree))
	return sanlockwire.State{
		Type: sanlockwire.StateClient, Data32: uint32(c.pid), Name: leases.NameOf(c.name), Text: w.String(),
	}
}

// listName is what status calls a lockspace's list.
func listName(l list) string {
	switch l {
	case adding:
		return "add"
	case removing:
		return "rem"
	default:
		return "spaces"
	}
}

// spaceRecord is a lockspace's state record. s.mu is held.
func (s *Server) spaceRecord(sp *space) sanlockwire.State {
	var w sanlockwire.Words
	var sector, align int
	var generation leases.Generation
	acquired, renewed := int32(0), int32(0)
	times := [4]uint64{uint64(sp.attempt), uint64(sp.success)}
	extend := s.cfg.RenewalReadExtend
	if extend < 0 {
		extend = int(sp.set.IO)
	}
	if sp.ls != nil {
		g, st := sp.ls.Geometry(), sp.ls.Status()
		sector, align, generation = g.Sector, g.Align, sp.ls.Self().Generation
		acquired, renewed = 1, stockResult(st.RenewalResult)
		times[2], times[3] = uint64(st.RenewalAttempt), uint64(st.RenewalSuccess)
	}
	w.Add("list", "%s", listName(sp.list))
	w.Add("space_id", "%d", sp.id)
	w.Add("io_timeout", "%d", sp.set.IO)
	w.Add("sector_size", "%d", sector)
	w.Add("align_size", "%d", align)
	w.Add("host_generation", "%d", generation)
	w.Add("renew_fail", "%d", bit(sp.failed))
	w.Add("space_dead", "%d", bit(sp.dead))
	w.Add("killing_pids", "%d", bit(sp.killing))
	w.Add("used_retries", "%d", 0)
	w.Add("external_used", "%d", bit(sp.used))
	w.Add("used_by_orphans", "%d", bit(sp.usedByOrphans))
	w.Add("renewal_read_extend_sec", "%d", extend)
	w.Add("set_max_sectors_kb", "%d", sp.maxSectorsKB)
	w.Add("corrupt_result", "%d", sp.corrupt)
	w.Add("acquire_last_result", "%d", acquired)
	w.Add("renewal_last_result", "%d", renewed)
	w.Add("acquire_last_attempt", "%d", times[0])
	w.Add("acquire_last_success", "%d", times[1])
	w.Add("renewal_last_attempt", "%d", times[2])
	w.Add("renewal_last_success", "%d", times[3])
	return sanlockwire.State{
		Type: sanlockwire.StateLockspace, Data64: sp.wire.HostID, Name: sp.wire.Name, Text: w.String(),
		Space: sp.wire,
	}
}

// stockResult is 1 for a success, as inside stock.
func stockResult(err error) int32 {
	if err == nil {
		return 1
	}
	return resultOf(err)
}

// appendResources adds what is held and being acquired, one record per token, newest first, then what is
// being released and the orphans. s.mu is held.
func (s *Server) appendResources(p []byte) []byte {
	for _, on := range []list{held, adding} {
		for _, h := range s.sorted(on) {
			tokens := slices.Clone(h.tokens)
			slices.SortFunc(tokens, func(a, b *token) int { return cmp.Compare(b.id, a.id) })
			for _, t := range tokens {
				p = h.record(t).Append(p)
			}
		}
	}
	for _, on := range []list{removing, orphan} {
		for _, h := range s.sorted(on) {
			p = h.record(nil).Append(p)
		}
	}
	return p
}

// record is the state record of a lease, of one token or of none. Server.mu is held.
func (h *holding) record(t *token) sanlockwire.State {
	var w sanlockwire.Words
	// Of the structure behind the text only the names, the disks and the mode are shown.
	r := sanlockwire.Resource{Space: h.wire.Space, Name: h.wire.Name, Disks: h.wire.Disks}
	flags, pid, id := uint32(0), uint32(h.lastPID), uint32(0)
	g, lver := h.home.ls.Geometry(), uint64(0)
	if h.grant != nil {
		g, lver = h.grant.Geometry, h.grant.Version
	}
	if h.mode == leases.Shared {
		r.Flags = sanlockwire.ResShared
		flags = flagShared
		pid = 0 // of several it would be no one's
	}
	if h.valueSet {
		flags |= flagWriteValue
	}
	if h.restrict&sanlockwire.RestrictSigkill != 0 {
		flags |= flagRestrictKill
	}
	if h.restrict&sanlockwire.RestrictSigterm != 0 {
		flags |= flagRestrictTerm
	}
	if t != nil {
		pid, id = uint32(t.c.pid.Load()), t.id
	}
	w.Add("list", "%s", [...]string{adding: "add", held: "held", removing: "rem", orphan: "orphan"}[h.list])
	w.Add("flags", "%x", flags)
	w.Add("sector_size", "%d", g.Sector)
	w.Add("align_size", "%d", g.Align)
	w.Add("lver", "%d", lver)
	w.Add("reused", "%d", h.reused)
	w.Add("res_id", "%d", h.id)
	w.Add("token_id", "%d", id)
	return sanlockwire.State{
		Type: sanlockwire.StateResource, Data32: pid, Data64: lver, Name: r.Name, Text: w.String(), Resource: r,
	}
}
