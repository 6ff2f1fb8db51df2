package lvmlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// Adopt takes over what an earlier daemon left in the lock managers, as its adopt file tells (spec lvmlockd
// 3.10). It may run while requests are served: the VGs that it takes over are starting until it is done with
// them, all others are unaffected. An error means that some LV is active here without a lock that we know of:
// the host should be reset. What could be adopted is. ctx bounds the search; what was found is then taken
// over unless the Engine is closed.
func (e *Engine) Adopt(ctx context.Context, file []byte) error {
	e.mu.Lock()
	again := !e.adopting && e.cfg.Adopt
	e.mu.Unlock()
	if again {
		return errors.New("lvmlock: adopt: it was done before")
	}
	todo, err := e.discover(ctx, file)
	e.mu.Lock()
	if e.adopting {
		e.adopting = false
		close(e.discovered)
		e.announce()
	}
	e.mu.Unlock()
	if len(todo) == 0 {
		return e.adoptEnds(err)
	}
	errs := make([]error, len(todo)+1)
	errs[len(todo)] = err
	room := make(chan struct{}, maxAdoptions)
	var all sync.WaitGroup
	for i, a := range todo {
		room <- struct{}{}
		all.Go(func() {
			errs[i] = a.run()
			<-room
		})
	}
	all.Wait()
	return e.adoptEnds(errors.Join(errs...))
}

// adoptEnds logs how it went, in words that monitors of stock know.
func (e *Engine) adoptEnds(err error) error {
	if err != nil {
		e.log.Error().Err(err).Msg("adopt_locks failed, reset host")
		return fmt.Errorf("lvmlock: adopt: %w", err)
	}
	return nil
}

// adoption takes one lockspace over.
type adoption struct {
	engine *Engine
	space  *space
	vg     *adoptVG
}

// miss keeps LVs that could not be adopted in the adopt file.
func (e *Engine) miss(vg *adoptVG, lvs []adoptLV) {
	if len(lvs) == 0 {
		return
	}
	kept := *vg
	kept.lvs = lvs
	e.mu.Lock()
	defer e.mu.Unlock()
	e.missed = append(e.missed, &kept)
}

// discover finds out which lockspaces to take over and puts them into the table, not joined yet.
func (e *Engine) discover(ctx context.Context, file []byte) ([]*adoption, error) {
	found, err := e.joinedSpaces(ctx)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	todo := e.adoptGlobals(ctx, found)
	vgs, err := parseAdopt(file)
	if err != nil {
		return todo, err
	}
	if err := e.dropInactive(ctx, vgs); err != nil {
		return todo, err
	}
	var errs []error
	for _, vg := range vgs {
		i := slices.IndexFunc(found, func(f foundSpace) bool {
			return f.name == cutName(spaceName(vg.name), vg.typ) && f.typ == vg.typ && !f.known
		})
		switch {
		case i >= 0:
			found[i].known = true
			if a := e.adopt(ctx, vg); a != nil {
				todo = append(todo, a)
			}
		case len(vg.lvs) > 0:
			e.miss(vg, vg.lvs)
			errs = append(errs, fmt.Errorf("VG %s has %d active LVs but no lockspace", vg.name, len(vg.lvs)))
		}
	}
	for _, f := range found {
		if !f.known {
			e.log.Error().Str("space", f.name).Msg("adopt: not in the adopt file, and left alone")
		}
	}
	return todo, errors.Join(errs...)
}

// adoptGlobals takes over the lockspaces of the global lock, whatever the file says: nobody else could leave
// them.
func (e *Engine) adoptGlobals(ctx context.Context, found []foundSpace) []*adoption {
	var todo []*adoption
	for i, f := range found {
		if f.name != globalSpace || perVG(f.typ) {
			continue
		}
		found[i].known = true
		if a := e.adopt(ctx, &adoptVG{name: globalSpace, typ: f.typ}); a != nil {
			todo = append(todo, a)
		}
	}
	return todo
}

// foundSpace is a lockspace that a lock manager has joined.
type foundSpace struct {
	name  string
	typ   lvmwire.LockType
	known bool // the adopt file has it
}

// joinedSpaces asks the lock managers, and chooses the type of the global lock by what they have.
func (e *Engine) joinedSpaces(ctx context.Context) ([]foundSpace, error) {
	var found []foundSpace
	var errs []error
	for _, m := range e.cfg.Managers {
		a, ok := m.(Adopter)
		if !ok || m.Running(ctx) != nil {
			continue
		}
		names, err := a.Lockspaces(ctx)
		if err != nil {
			errs = append(errs, err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, "lvm_") {
				found = append(found, foundSpace{name: name, typ: m.Type()})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b foundSpace) int { return bit(perVG(a.typ)) - bit(perVG(b.typ)) })
	return found, errors.Join(errs...)
}

// dropInactive takes out the LVs that are not active: their locks are not needed.
func (e *Engine) dropInactive(ctx context.Context, vgs []*adoptVG) error {
	if e.cfg.Active == nil {
		return nil
	}
	active, err := e.cfg.Active(ctx)
	if err != nil {
		return fmt.Errorf("find the active LVs: %w", err)
	}
	for _, vg := range vgs {
		vg.lvs = slices.DeleteFunc(vg.lvs, func(lv adoptLV) bool {
			want := "LVM-" + strings.ReplaceAll(vg.uuid+lv.uuid, "-", "")
			return !slices.ContainsFunc(active, func(u string) bool {
				return u == want || strings.HasPrefix(u, want+"-")
			})
		})
	}
	return nil
}

// adopt puts a VG into the table; nil if somebody started it already.
func (e *Engine) adopt(ctx context.Context, vg *adoptVG) *adoption {
	m := e.manager(vg.typ)
	e.selectGlobal(vg.typ)
	id := vg.hostID
	if known, ok := m.(Identifier); ok && vg.name != globalSpace {
		told, err := known.HostID(ctx, spaceName(vg.name))
		if err != nil {
			e.log.Warn().Err(err).Str("vg", vg.name).Msg("adopt: our host id is not known")
		} else if told != 0 {
			id = told
		}
	}
	if id == 0 {
		id = e.cfg.HostID
	}
	s, fresh := e.admit(VG{Name: vg.name, UUID: vg.uuid, Args: noneIsEmpty(vg.args), HostID: id}, m)
	if !fresh {
		e.log.Error().Str("vg", vg.name).Msg("adopt: it was started before, or there is no room")
		return nil
	}
	return &adoption{engine: e, space: s, vg: vg}
}

func noneIsEmpty(s string) string {
	if s == "." || s == "none" {
		return ""
	}
	return s
}

// run joins the lockspace as it is, and takes over the locks: those of LVs to keep, the others to end them.
func (a *adoption) run() error {
	ctx := a.engine.ctx
	c := a.engine.Connect(0, -1)
	defer c.Close()
	s := a.space
	p := newPending(c, lvmwire.Request{
		Name: "adopt", Op: lvmwire.OpStart, Kind: lvmwire.VG,
		Options: lvmwire.Adopt | lvmwire.Wait | lvmwire.NoClient,
	})
	p.internal = true
	s.open(p, JoinOptions{Adopt: true})
	if v := p.wait(ctx, s); v.result != lvmwire.OK {
		a.engine.miss(a.vg, a.vg.lvs)
		return fmt.Errorf("join %s: result %d", s.name, v.result)
	}
	var errs []error
	for _, lv := range a.vg.lvs {
		err := a.lock(ctx, c, lvmwire.Request{
			Kind: lvmwire.LV, LVUUID: lv.uuid, LVArgs: noneIsEmpty(lv.args), Mode: lv.mode,
			Options: lvmwire.AdoptOnly | lvmwire.Persistent,
		})
		if err != nil {
			a.engine.miss(a.vg, []adoptLV{lv})
			errs = append(errs, err)
		}
	}
	if !s.global {
		errs = append(errs, a.passing(ctx, c, lvmwire.VG))
	}
	if s.global || s.now().enabled {
		errs = append(errs, a.passing(ctx, c, lvmwire.GL))
	}
	if purger, ok := s.locksOf().(Purger); ok {
		errs = append(errs, purger.Purge(ctx))
	}
	err := errors.Join(errs...)
	s.post(func() {
		if s.state == adopting {
			s.state = running
			s.log.Info().Int("lvs", len(a.vg.lvs)).Err(err).Msg("lockspace: adopted")
		}
	})
	return err
}

// locksOf returns the lock manager's side.
func (s *space) locksOf() Lockspace { return s.now().locks }

// passing takes over the lock of a command that ended with the earlier daemon, and gives it back.
func (a *adoption) passing(ctx context.Context, c *Client, kind lvmwire.Kind) error {
	req := lvmwire.Request{Kind: kind, Mode: lvmwire.SH, Options: lvmwire.AdoptOnly}
	if err := a.lock(ctx, c, req); err != nil {
		return err
	}
	req.Mode, req.Options = lvmwire.UN, 0
	r := a.ask(ctx, c, req)
	if r != lvmwire.OK && r != lvmwire.NotFound {
		return fmt.Errorf("%s: give the %s lock back: result %d", a.space.name, kind, r)
	}
	return nil
}

// lock takes a lock over in the mode that it has, whatever the file says. That there is none is fine but for
// an LV.
func (a *adoption) lock(ctx context.Context, c *Client, req lvmwire.Request) error {
	r := a.ask(ctx, c, req)
	if r == lvmwire.AdoptRetry || r == lvmwire.OtherMode16 {
		req.Mode = lvmwire.SH + lvmwire.EX - req.Mode
		r = a.ask(ctx, c, req)
	}
	switch {
	case r == lvmwire.OK || r == lvmwire.Already:
		return nil
	case r == lvmwire.AdoptNone && req.Kind != lvmwire.LV:
		return nil
	}
	return fmt.Errorf("%s: adopt the %s lock %s: result %d", a.space.name, req.Kind, req.LVUUID, r)
}

// ask does a request in the lockspace although it is closed to clients.
func (a *adoption) ask(ctx context.Context, c *Client, req lvmwire.Request) lvmwire.Result {
	req.Name, req.Op = "adopt", lvmwire.OpLock
	c.mu.Lock()
	c.locked = true
	c.mu.Unlock()
	p := newPending(c, req)
	p.internal = true
	if !a.space.post(func() { a.space.serve(p) }) {
		return lvmwire.NoLockspace
	}
	return p.wait(ctx, a.space).result
}
