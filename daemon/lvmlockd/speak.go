package lvmlockd

import (
	"fmt"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// maxWord bounds how much of a client's text goes into one line of the log, bytes.
const maxWord = 64

func clip(s string) string { return s[:min(len(s), maxWord)] }

// command is how logs call the client's program.
func (c *conn) command() string {
	if c.name == "" {
		return "client"
	}
	return c.name
}

// logRequest writes the line by which stock tells of a request (spec lvmlockd 2.15).
func (c *conn) logRequest(r *lvmwire.Request) {
	if c.server.cfg.Dialect == lvmwire.Dialect16 {
		c.server.log.Debug().Msgf("recv %s[%d] cl %d %v %v %q mode %v flags %x", c.command(), c.pid, c.id, r.Op, r.Kind,
			clip(r.VGName), r.Mode, uint32(r.Options))
		return
	}
	vg, lv := "", ""
	if r.VGName != "" {
		vg = "vg=" + clip(r.VGName)
	}
	if r.LVUUID != "" {
		lv = "lv=" + clip(r.LVName) + ":" + r.LVUUID
	}
	c.server.log.Debug().Msgf("recv %s[%d][%d] %s %s %s opts=0x%x", c.command(), c.pid, c.id, action(r), vg, lv,
		uint32(r.Options))
}

// logReply writes the line by which stock tells of an answer.
func (c *conn) logReply(req *lvmwire.Request, r *lvmwire.Reply) {
	head := fmt.Sprintf("send %s[%d]", c.command(), c.pid)
	if c.server.cfg.Dialect == lvmwire.Dialect16 {
		head += fmt.Sprintf(" cl %d", c.id)
	} else {
		head += fmt.Sprintf("[%d]", c.id)
	}
	what, result := fmt.Sprintf(" %v %v rv", req.Op, req.Kind), ""
	if c.server.cfg.Dialect != lvmwire.Dialect16 {
		what = " " + action(req) + " result"
	}
	switch r.Op {
	case lvmwire.OpDumpInfo, lvmwire.OpDumpLog:
		what, result = " dump result", fmt.Sprintf("%d dump_len %d", int32(r.Result), r.DumpLen)
	case lvmwire.OpInit, lvmwire.OpSetLockArgsFinal:
		result = fmt.Sprintf("%d vg_args %s lv_args %s", int32(r.Result), orNone(r.VGArgs), orNone(r.LVArgs))
	case lvmwire.OpQueryLock:
		result = fmt.Sprintf("%d mode %d", int32(r.Result), int(r.Mode))
	case lvmwire.OpVGStatus:
		o := &r.Owner
		what = " vg_status result"
		result = fmt.Sprintf("%d owner %d %d %d %s", int32(r.Result), o.HostID, o.Generation, o.Timestamp, o.State)
	default:
		word := ""
		if r.Result == lvmwire.NoLockspace {
			word = "ENOLS"
		}
		result = fmt.Sprintf("%d %s %s", int32(r.Result), word, flagsOf(r))
	}
	c.server.log.Debug().Msg(head + what + " " + result)
}

// action names a request as the newer version logs it: "lock_sh_vg".
func action(r *lvmwire.Request) string {
	name := r.Op.String()
	switch {
	case r.Op == lvmwire.OpLock && r.Mode == lvmwire.UN:
		name = "unlock"
	case r.Op == lvmwire.OpLock:
		name += "_" + r.Mode.String()
	}
	if r.Kind != lvmwire.NoKind {
		name += "_" + r.Kind.String()
	}
	return name
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func flagsOf(r *lvmwire.Reply) string {
	if r.Flags == "none" {
		return ""
	}
	return r.Flags
}
