package lvmlock

import (
	"context"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// dispatch carries a request out (spec lvmlockd 3.3).
func (e *Engine) dispatch(ctx context.Context, c *Client, req lvmwire.Request) verdict {
	if req.Type == lvmwire.IDM && e.unsupported(req.Type) && req.Op > lvmwire.OpQuit {
		return verdict{typ: req.Type, result: lvmwire.NoSupport, vgArgs: req.VGArgs, mode: lvmwire.Invalid}
	}
	switch req.Op {
	case lvmwire.OpHello:
		return verdict{}
	case lvmwire.OpQuit:
		if !e.Quit() {
			return verdict{result: lvmwire.Busy}
		}
		return verdict{}
	case lvmwire.OpRunningLM:
		return e.runningLM(ctx, req)
	case lvmwire.OpInit:
		if req.Kind == lvmwire.LV {
			return e.initLV(ctx, req)
		}
		return e.initVG(ctx, req)
	case lvmwire.OpStart:
		return e.start(ctx, c, req)
	case lvmwire.OpStartWait:
		return e.startWait(ctx, c, req)
	case lvmwire.OpStopAll:
		return e.stopAll(ctx, req)
	case lvmwire.OpRenameFinal:
		return e.renameFinal(ctx, req)
	case lvmwire.OpRefreshLV:
		return e.refreshLV(ctx, req)
	case lvmwire.OpVGStatus:
		return e.vgStatus(ctx, req)
	case lvmwire.OpSetLockArgs, lvmwire.OpSetLockArgsFinal:
		return verdict{typ: req.Type, result: lvmwire.NoSupport}
	case lvmwire.OpStop, lvmwire.OpFree, lvmwire.OpBusy, lvmwire.OpRenameBefore, lvmwire.OpKillVG,
		lvmwire.OpDropVG, lvmwire.OpLock, lvmwire.OpUpdate, lvmwire.OpEnable, lvmwire.OpDisable, lvmwire.OpFindFreeLock,
		lvmwire.OpQueryLock, lvmwire.OpSetRemoteLVLock:
		return e.directed(ctx, c, req)
	default: // what no client sends, or only to the server
		return verdict{typ: req.Type, result: lvmwire.BadRequest}
	}
}

// directed hands a request to the lockspace that it is about.
func (e *Engine) directed(ctx context.Context, c *Client, req lvmwire.Request) verdict {
	e.selectGlobal(req.Type)
	p := newPending(c, req)
	s, r := e.find(ctx, p)
	if s == nil {
		if e.unsupported(req.Type) {
			r = lvmwire.NoSupport
		}
		return verdict{typ: req.Type, result: r, mode: lvmwire.Invalid}
	}
	if req.Type != lvmwire.NoType && req.Type != s.typ {
		g := s.now().generation
		return verdict{typ: req.Type, result: lvmwire.BadRequest, generation: g, mode: lvmwire.Invalid}
	}
	if req.Op == lvmwire.OpLock && req.Kind != lvmwire.LV && req.Mode != lvmwire.UN {
		e.judgeDuplicates(ctx, s)
	}
	if !s.post(func() { s.serve(p) }) {
		return verdict{typ: req.Type, result: lvmwire.NoLockspace, mode: lvmwire.Invalid}
	}
	return p.wait(ctx, s)
}

// find returns the lockspace that a request is about, or why there is none.
func (e *Engine) find(ctx context.Context, p *pending) (*space, lvmwire.Result) {
	if p.req.Kind == lvmwire.GL && p.req.Op == lvmwire.OpLock {
		return e.findGlobal(ctx, p)
	}
	if t := e.globalType(); p.req.Kind == lvmwire.GL && t != lvmwire.NoType && !perVG(t) {
		return e.lookup(globalKey), lvmwire.NoLockspace // which refuses: it is there for nothing else
	}
	if p.req.VGName == "" {
		return nil, lvmwire.NoLockspace
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.spaces[spaceName(p.req.VGName)]
	if s == nil && e.adopting {
		return nil, lvmwire.Starting
	}
	return s, lvmwire.NoLockspace
}

// serve takes a request in: it runs in the lockspace's goroutine.
func (s *space) serve(p *pending) {
	req := p.req
	switch {
	case p.client.ctx.Err() != nil:
		p.result(s, lvmwire.Canceled)
	case s.state == stopping && req.Op == lvmwire.OpStop:
		p.result(s, lvmwire.Stale)
	case s.state == stopping:
		p.result(s, lvmwire.NoLockspace)
	case s.state == starting && p.waitStarting:
		s.parked = append(s.parked, p)
	case s.state == starting || s.state == adopting && !p.internal:
		p.result(s, lvmwire.Starting)
	case s.killed && dies(req):
		p.result(s, lvmwire.VGKilled)
	default:
		s.handle(p)
	}
}

// dies says that a request is refused once the VG was killed (spec 3.4.8).
func dies(req lvmwire.Request) bool {
	switch req.Op {
	case lvmwire.OpLock:
		return req.Mode != lvmwire.UN
	case lvmwire.OpEnable, lvmwire.OpDisable, lvmwire.OpUpdate, lvmwire.OpRenameBefore, lvmwire.OpQueryLock,
		lvmwire.OpFindFreeLock:
		return true
	default:
		return false
	}
}

// handle does a request in a lockspace that runs.
func (s *space) handle(p *pending) {
	switch p.req.Op {
	case lvmwire.OpLock:
		if len(s.quiet) > 0 && p.req.Kind == lvmwire.LV && p.req.Mode != lvmwire.UN {
			p.result(s, lvmwire.NoLockspace) // about to stop
			return
		}
		s.ask(p)
	case lvmwire.OpUpdate:
		s.ask(p)
	case lvmwire.OpEnable, lvmwire.OpDisable:
		s.switchGlobal(p)
	case lvmwire.OpQueryLock:
		s.query(p)
	case lvmwire.OpFindFreeLock:
		s.findFree(p)
	case lvmwire.OpBusy:
		s.askHosts(p, func() { p.result(s, lvmwire.OK) })
	case lvmwire.OpFree:
		if p.req.Kind == lvmwire.LV {
			s.freeLV(p)
			return
		}
		s.freeVG(p)
	case lvmwire.OpRenameBefore:
		s.renameBefore(p)
	case lvmwire.OpStop:
		s.stop(p)
	case lvmwire.OpKillVG:
		s.kill(p)
	case lvmwire.OpDropVG:
		s.drop(p)
	case lvmwire.OpSetRemoteLVLock:
		s.setRemote(p)
	default:
		p.result(s, lvmwire.BadRequest)
	}
}

// setRemote has the lock manager of a test pretend that another host holds an LV.
func (s *space) setRemote(p *pending) {
	m, ok := s.manager.(interface {
		SetRemote(vg, uuid string, mode lvmwire.Mode)
	})
	if !ok || !s.engine.cfg.Test || p.req.LVUUID == "" {
		p.result(s, lvmwire.Perm)
		return
	}
	m.SetRemote(s.vg.Name, p.req.LVUUID, p.req.Mode)
	p.result(s, lvmwire.OK)
}

// query tells in which mode this host holds a resource.
func (s *space) query(p *pending) {
	mode := lvmwire.UN
	if l := s.lanes[keyOf(p.req)]; l != nil {
		mode = l.locks.Mode()
	}
	p.answer(verdict{typ: p.typ(s), mode: mode, generation: s.generation})
}
