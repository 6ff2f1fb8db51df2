package lvmlock

import (
	"context"
	"strings"
	"unicode"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// reply puts what became of a request into words. It is the one place that knows what a command can bear to
// hear.
func (e *Engine) reply(ctx context.Context, req lvmwire.Request, v verdict) lvmwire.Reply {
	r := v.result
	if r == lvmwire.Unattached {
		r = lvmwire.NoLockspace
	}
	if req.Op == lvmwire.OpLock && req.Kind == lvmwire.GL && req.Mode == lvmwire.SH {
		r = bearable(r, req.Options)
	}
	v.owner.Name, v.owner.State = clean(v.owner.Name), clean(v.owner.State)
	return lvmwire.Reply{
		Op: req.Op, Type: v.typ, Result: r, ManagerValue: v.manager, VGArgs: v.vgArgs, LVArgs: v.lvArgs,
		Mode: v.mode, Flags: e.flagsText(ctx, req, r, v.flags), Owner: v.owner,
		Generation: v.generation, Previous: v.previous,
	}
}

// bearable keeps the answer to a wish for the global lock in SH within what every command goes on after,
// without the lock: with any other the older commands cannot even list VGs (spec lvmlockd 2.7.2, trap 53).
// Who adopts or repairs is new enough to hear more.
func bearable(r lvmwire.Result, options lvmwire.Flags) lvmwire.Result {
	if options&(lvmwire.Adopt|lvmwire.AdoptOnly|lvmwire.Repair) != 0 {
		return r
	}
	switch r {
	case lvmwire.OK, lvmwire.Already, lvmwire.NoLockspace, lvmwire.Starting, lvmwire.VGKilled, lvmwire.LockIO,
		lvmwire.Again:
		return r
	case lvmwire.Canceled, lvmwire.Stale, lvmwire.NoSupport, lvmwire.BadRequest:
		return lvmwire.NoLockspace
	default:
		return lvmwire.LockIO
	}
}

// flagsText is result_flags (spec 2.5.12).
func (e *Engine) flagsText(
	ctx context.Context, req lvmwire.Request, r lvmwire.Result, f lvmwire.Flags,
) string {
	var b strings.Builder
	if r == lvmwire.NoLockspace {
		e.missing(ctx, req, &b)
	}
	e.mu.Lock()
	if e.global.removed {
		f |= lvmwire.WarnGLRemoved
	}
	e.mu.Unlock()
	for _, n := range []struct {
		flag lvmwire.Flags
		name string
	}{
		{lvmwire.DupGL, "DUP_GL_LS,"},
		{lvmwire.WarnGLRemoved, "WARN_GL_REMOVED,"},
		{lvmwire.SHExists, "SH_EXISTS,"},
		{lvmwire.HostsUnknown, "HOSTS_UNKNOWN,"},
	} {
		if f&n.flag != 0 {
			b.WriteString(n.name)
		}
	}
	return b.String()
}

// missing says what is not there. A command that may go on without the global lock does so only if it hears
// NO_GL_LS.
func (e *Engine) missing(ctx context.Context, req lvmwire.Request, b *strings.Builder) {
	e.mu.Lock()
	none, typ := len(e.spaces) == 0, e.global.typ
	known := !perVG(typ) || e.spaces[e.global.space] != nil
	e.mu.Unlock()
	if none {
		b.WriteString("NO_LOCKSPACES,")
	}
	switch {
	case typ == lvmwire.NoType && len(e.whoRuns(ctx)) == 0:
		b.WriteString("NO_GL_LS,NO_LM")
	case typ == lvmwire.NoType:
		b.WriteString("NO_GL_LS")
	case !known || req.Op == lvmwire.OpLock && req.Kind == lvmwire.GL:
		b.WriteString("NO_GL_LS,")
	}
}

// clean makes a text that another host chose fit for a value in quotes.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, s)
}

// word makes a text fit for the dump, where values are separated by blanks; "." is nothing.
func word(s string) string {
	if s == "" {
		return "."
	}
	return strings.ReplaceAll(clean(s), " ", "_")
}
