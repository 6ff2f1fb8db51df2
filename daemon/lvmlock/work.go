package lvmlock

import (
	"context"
	"strings"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

const (
	// probeTime is how long a lock manager may take to say whether it runs.
	probeTime = 5 * time.Second
	// initClaim keeps two VGs from being made at once: only one may get the global lock. No VG can have this
	// name.
	initClaim = " init_vg"
)

// beside runs f for a client, but to its end even if the client goes away: half a lease area helps nobody.
func (e *Engine) beside(ctx context.Context, f func(ctx context.Context) verdict) verdict {
	done := make(chan verdict, 1)
	if !e.spawn(func() { done <- f(e.ctx) }) {
		return verdict{result: lvmwire.Canceled}
	}
	select {
	case v := <-done:
		return v
	case <-ctx.Done():
		return verdict{result: lvmwire.Canceled}
	}
}

// whoRuns returns the types of the lock managers that can be used now.
func (e *Engine) whoRuns(ctx context.Context) []lvmwire.LockType {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var found []lvmwire.LockType
	for _, m := range e.cfg.Managers {
		if e.cfg.Test && m.Type() != e.globalType() {
			continue
		}
		if err := m.Running(ctx); err == nil {
			found = append(found, m.Type())
		}
	}
	return found
}

// runningLM answers the type of the lock manager that runs (spec lvmlockd 2.7.1).
func (e *Engine) runningLM(ctx context.Context, req lvmwire.Request) verdict {
	found := e.whoRuns(ctx)
	e.forgetPreset()
	switch len(found) {
	case 0:
		return verdict{typ: req.Type, result: lvmwire.NoLock}
	case 1:
		return verdict{typ: req.Type, result: lvmwire.Result(found[0])}
	}
	return verdict{typ: req.Type, result: lvmwire.Full}
}

// forgetPreset does what lvmlockd --test does: without lockspaces even the type from its command line is
// forgotten.
func (e *Engine) forgetPreset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cfg.Test && len(e.spaces) == 0 {
		e.global.preset = false
		e.global.typ = lvmwire.NoType
	}
}

// initVG makes a VG's locks (spec 4.4).
func (e *Engine) initVG(ctx context.Context, req lvmwire.Request) verdict {
	v := verdict{typ: req.Type, vgArgs: req.VGArgs}
	m := e.manager(req.Type)
	switch {
	case e.unsupported(req.Type):
		v.result = lvmwire.NoSupport
		return v
	case m == nil && e.lookup(spaceName(req.VGName)) != nil:
		v.result = lvmwire.Exists
		return v
	case m == nil, req.VGName == "":
		v.result = lvmwire.BadRequest
		return v
	}
	e.selectGlobal(req.Type)
	release, err := e.claim(ctx, initClaim)
	if err != nil {
		v.result = lvmwire.Canceled
		return v
	}
	got := e.beside(ctx, func(ctx context.Context) verdict {
		defer release()
		return e.format(ctx, m, req)
	})
	if got.vgArgs == "" {
		got.vgArgs = req.VGArgs
	}
	return got
}

// format has the lock manager make a VG's locks, with the global lock in the first.
func (e *Engine) format(ctx context.Context, m LockManager, req lvmwire.Request) verdict {
	if e.lookup(spaceName(req.VGName)) != nil || e.clash(req.VGName, req.Type) != "" {
		return verdict{result: lvmwire.Exists}
	}
	f, ok := m.(VGFormatter)
	if !ok {
		return verdict{}
	}
	vg := VG{Name: req.VGName, UUID: req.VGUUID, Args: req.VGArgs, HostID: e.cfg.HostID}
	o := InitOptions{Global: e.wantsGlobal(req), SetArgs: req.SetArgs, AlignMB: req.AlignMB}
	args, err := f.InitVG(ctx, vg, o)
	if err != nil {
		e.log.Error().Err(err).Str("vg", vg.Name).Msg("cannot make the VG's locks")
		r := ResultOf(err)
		return verdict{result: r, manager: r}
	}
	e.log.Info().Str("vg", vg.Name).Bool("global", o.Global).Str("args", args).Msg("made the VG's locks")
	if o.Global {
		e.mu.Lock()
		e.global.space = spaceName(vg.Name)
		e.mu.Unlock()
	}
	return verdict{vgArgs: args}
}

// wantsGlobal says whether a new VG gets the global lock: the first one does (spec 3.8.2).
func (e *Engine) wantsGlobal(req lvmwire.Request) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !perVG(req.Type):
		return false
	case req.Options&lvmwire.Enable != 0:
		return true
	case req.Options&lvmwire.Disable != 0:
		return false
	}
	return perVG(e.global.typ) && e.global.space == "" && len(e.spaces) == 0
}

// initLV makes an LV's lock; the VG need not be started (spec 3.6.3).
func (e *Engine) initLV(ctx context.Context, req lvmwire.Request) verdict {
	v := verdict{typ: req.Type, vgArgs: req.VGArgs}
	if s := e.lookup(spaceName(req.VGName)); s != nil {
		p := newPending(nil, req)
		if req.Type != s.typ {
			v.result = lvmwire.BadRequest
			return v
		}
		if s.post(func() { s.initLV(p) }) {
			return p.wait(ctx, s)
		}
	}
	m := e.manager(req.Type)
	if m == nil || req.VGName == "" || req.LVUUID == "" {
		v.result = lvmwire.BadRequest
		return v
	}
	a, ok := m.(LVAllocator)
	if !ok {
		return v
	}
	release, err := e.claim(ctx, req.VGName)
	if err != nil {
		v.result = lvmwire.Canceled
		return v
	}
	return e.beside(ctx, func(ctx context.Context) verdict {
		defer release()
		vg := VG{Name: req.VGName, UUID: req.VGUUID, Args: req.VGArgs, HostID: e.cfg.HostID}
		v.lvArgs, err = a.InitLV(ctx, vg, nil, req.LVUUID, req.PrevLVArgs)
		v.result = ResultOf(err)
		v.manager = v.result
		return v
	})
}

// renameFinal makes the locks of a stopped VG those of its new name (spec 4.8).
func (e *Engine) renameFinal(ctx context.Context, req lvmwire.Request) verdict {
	v := verdict{typ: req.Type}
	m := e.manager(req.Type)
	switch {
	case e.unsupported(req.Type):
		v.result = lvmwire.NoSupport
		return v
	case m == nil, req.VGName == "":
		v.result = lvmwire.BadRequest
		return v
	case e.lookup(spaceName(req.VGName)) != nil:
		v.result = lvmwire.Busy
		return v
	}
	f, ok := m.(VGFormatter)
	if !ok {
		return v
	}
	release, err := e.claim(ctx, req.VGName)
	if err != nil {
		v.result = lvmwire.Canceled
		return v
	}
	return e.beside(ctx, func(ctx context.Context) verdict {
		defer release()
		err := f.RenameVG(ctx, VG{Name: req.VGName, UUID: req.VGUUID, Args: req.VGArgs, HostID: e.cfg.HostID})
		if err != nil {
			e.log.Error().Err(err).Str("vg", req.VGName).Msg("cannot rename the VG's locks")
		}
		v.result = ResultOf(err)
		v.manager = v.result
		return v
	})
}

// refreshLV makes other hosts look at an LV anew. The request names the LV only by a path, "/dev//vg/lv".
func (e *Engine) refreshLV(ctx context.Context, req lvmwire.Request) verdict {
	v := verdict{typ: req.Type}
	parts := strings.FieldsFunc(req.Path, func(r rune) bool { return r == '/' })
	if len(parts) != 3 {
		v.result = lvmwire.BadRequest
		return v
	}
	s := e.lookup(spaceName(parts[1]))
	if s == nil {
		v.result = lvmwire.Perm
		if e.cfg.Dialect == lvmwire.Dialect16 {
			v.result = lvmwire.OK
		}
		return v
	}
	r, ok := s.manager.(Refresher)
	if !ok {
		return v
	}
	return e.beside(ctx, func(ctx context.Context) verdict {
		err := r.Refresh(ctx, req.Path)
		if err != nil {
			e.log.Error().Err(err).Str("path", req.Path).Msg("the LV was not refreshed on all hosts")
		}
		v.result = ResultOf(err)
		v.manager = v.result
		return v
	})
}

// vgStatus tells what is known of this host in a lockspace; one that is not there is NotFound (spec 2.5.6).
func (e *Engine) vgStatus(ctx context.Context, req lvmwire.Request) verdict {
	v := verdict{typ: req.Type, result: lvmwire.NotFound}
	s := e.lookup(spaceName(req.VGName))
	if s == nil {
		return v
	}
	p := newPending(nil, req)
	ok := s.post(func() {
		m, knows := s.locks.(Member)
		if !knows || s.state == stopping {
			p.result(s, lvmwire.OK)
			return
		}
		s.call(func() func() {
			o, err := m.Status(s.engine.ctx)
			v := verdict{typ: p.typ(s), owner: o, manager: ResultOf(err), generation: s.generation}
			return func() { p.answer(v) }
		})
	})
	if !ok {
		return v
	}
	return p.wait(ctx, s)
}
