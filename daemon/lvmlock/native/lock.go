package native

import (
	"context"
	"fmt"
	"slices"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// ownerName is what the daemon shows as the holder of our leases.
const ownerName = "lvmlockd"

// what names a resource in errors: "lvm_vg/VGLK".
func (s *space) what(r lvmlock.Resource) string { return s.name.String() + "/" + r.Name }

// lease is a resource as requests name it, in the mode that is wanted. Every lease is persistent: when this
// process dies, the LVs that it guards stay active, and the daemon keeps the leases as orphans until somebody
// adopts them.
func (s *space) lease(r lvmlock.Resource, m lvmwire.Mode) (sanlockwire.Resource, error) {
	offset, err := s.lay.offset(r)
	if err != nil {
		return sanlockwire.Resource{}, &lvmlock.Error{
			Op: "lock", What: s.what(r), Result: lvmwire.BadArgs, Err: err,
		}
	}
	l := s.resource(r.Name, offset)
	l.Flags |= sanlockwire.ResPersistent
	if m == lvmwire.SH {
		l.Flags |= sanlockwire.ResShared
	}
	return l, nil
}

// valued reports whether a resource has a value block. No command depends on it, and 2.03.40 does without.
func (s *space) valued(r lvmlock.Resource) bool { return r.Kind != lvmwire.LV && s.lay.hasValues() }

// Lock acquires a lease. While another host has it, or may have it, that is refused at once.
func (s *space) Lock(
	ctx context.Context, r lvmlock.Resource, m lvmwire.Mode, o lvmlock.LockOptions,
) (lvmlock.Value, error) {
	l, err := s.lease(r, m)
	if err != nil {
		return lvmlock.Value{}, err
	}
	if err := s.enter(ctx); err != nil {
		return lvmlock.Value{}, err
	}
	err = s.acquire(l, r, o)
	if err != nil && o.Repair && s.repair(ctx, l, r, err) {
		err = s.acquire(l, r, o)
	}
	var v lvmlock.Value
	if err == nil {
		v, err = s.acquired(l, r, m)
		s.exit()
		return v, err
	}
	s.exit() // others need not wait until it is known who stands in the way
	return lvmlock.Value{}, s.refused(ctx, "lock", l, r, m, o, err)
}

// acquire asks the daemon for a lease. The caller has turn.
func (s *space) acquire(l sanlockwire.Resource, r lvmlock.Resource, o lvmlock.LockOptions) error {
	flags := uint32(sanlockwire.AcquireOwnerNoWait)
	if s.valued(r) {
		flags |= sanlockwire.AcquireLVB
	}
	if o.Adopt {
		flags |= sanlockwire.AcquireOrphan
	}
	if o.AdoptOnly {
		flags |= sanlockwire.AcquireOrphanOnly
		// Stock takes a new lease if it is asked for orphans only without a value block.
		if s.lay.hasValues() {
			flags |= sanlockwire.AcquireLVB
		} else if err := s.wantOrphan(r); err != nil {
			return err
		}
	}
	return s.hold.Acquire(context.Background(), client.Self, flags, ownerName, l)
}

// wantOrphan returns what the daemon says of a lease of which there is no orphan, unless there is one. Orphans do not
// come while we are there, and go only by our hand.
func (s *space) wantOrphan(r lvmlock.Resource) error {
	names, err := s.orphans(context.Background())
	if err == nil && !slices.Contains(names, r.Name) {
		err = sanlockwire.ErrorOf(noOrphan)
	}
	return err
}

// acquired notes a new lease and reads its value block. One that we do not understand cannot be kept up to
// date, so the lease is given back. The caller has turn.
func (s *space) acquired(l sanlockwire.Resource, r lvmlock.Resource, m lvmwire.Mode) (lvmlock.Value, error) {
	var v lvmlock.Value
	if s.valued(r) {
		block, err := s.hold.GetLVB(context.Background(), l)
		if err != nil {
			// An orphan of a daemon that does not use value blocks has none.
			s.m.cfg.Log.Warn().Err(err).Str("lease", s.what(r)).Msg("read the value block")
		}
		if v, err = parseValue(block); err != nil {
			if _, err := s.hold.Release(context.Background(), client.Self, 0, l); err != nil {
				s.m.cfg.Log.Warn().Err(err).Str("lease", s.what(r)).Msg("release")
			}
			return lvmlock.Value{}, &lvmlock.Error{
				Op: "lock", What: s.what(r), Result: lvmwire.BadRequest, Err: err,
			}
		}
	}
	s.note(r, m)
	return v, nil
}

// note remembers how a resource is held.
func (s *space) note(r lvmlock.Resource, m lvmwire.Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m == lvmwire.UN {
		delete(s.held, r.Name)
		return
	}
	s.held[r.Name] = m
}

// Convert changes the mode of a held lease.
func (s *space) Convert(
	ctx context.Context, r lvmlock.Resource, from, to lvmwire.Mode, value *lvmlock.Value,
) error {
	l, err := s.lease(r, to)
	if err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	if from == lvmwire.EX {
		s.put(l, r, value)
	}
	err = s.hold.Convert(context.Background(), client.Self, sanlockwire.ConvertOwnerNoWait, l)
	if err == nil {
		s.note(r, to)
	}
	s.exit()
	if err == nil {
		return nil
	}
	return s.refused(ctx, "convert", l, r, to, lvmlock.LockOptions{}, err)
}

// Unlock releases a lease. Once it was asked to, the daemon goes on until it has done so: what the disk says
// to that is not the client's concern, so it is only noted.
func (s *space) Unlock(
	ctx context.Context, r lvmlock.Resource, from lvmwire.Mode, value *lvmlock.Value,
) error {
	l, err := s.lease(r, from)
	if err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.exit()
	if from == lvmwire.EX {
		s.put(l, r, value)
	}
	if _, err := s.hold.Release(context.Background(), client.Self, 0, l); err != nil {
		s.m.cfg.Log.Warn().Err(err).Str("lease", s.what(r)).Msg("release")
	}
	s.note(r, lvmwire.UN)
	return nil
}

// put hands over the value block that is to be written when EX is given up. The caller has turn.
func (s *space) put(l sanlockwire.Resource, r lvmlock.Resource, value *lvmlock.Value) {
	if value == nil || !s.valued(r) {
		return
	}
	if err := s.hold.SetLVB(context.Background(), l, appendValue(nil, *value)); err != nil {
		s.m.cfg.Log.Warn().Err(err).Str("lease", s.what(r)).Msg("set the value block")
	}
}

// refused is the error of a lock or convert that ended with err, with what else is to be known about it.
func (s *space) refused(
	ctx context.Context, op string, l sanlockwire.Resource, r lvmlock.Resource, m lvmwire.Mode,
	o lvmlock.LockOptions, err error,
) error {
	e := lockError(op, s.what(r), r, m, o, err)
	answer, ok := said(err)
	switch {
	case !ok:
		return e
	case answer.Kind == leases.WrongResource && r.Kind == lvmwire.GL:
		if name, err := s.slotName(ctx, globalSlot); err == nil && name != globalName {
			e.Result, e.Retry = lvmwire.Unattached, false
		}
	case answer.Kind == leases.NoSpace, answer.Kind == leases.Busy:
		s.check(ctx)
	case e.Result == lvmwire.Again:
		e.Owner, e.Wait = s.owner(ctx, l)
	}
	return e
}

// repair writes a lease anew that is not what it should be, as the user asked for, and reports whether that
// was done. A slot that another LV's lease is in is left alone: that LV may be in use. The caller has turn.
func (s *space) repair(ctx context.Context, l sanlockwire.Resource, r lvmlock.Resource, why error) bool {
	answer, ok := said(why)
	if !ok || !corrupt(answer) {
		return false
	}
	bare := sanlockwire.Resource{Disks: l.Disks}
	err := s.m.ask(ctx, func(c *client.Conn) error {
		found, err := c.ReadResource(ctx, bare)
		if name := found.Name.String(); err == nil && !replaceable(name, r) {
			return fmt.Errorf("its slot is that of %s", name)
		}
		l.Flags = s.lay.flags()
		return c.WriteResource(ctx, l, 0, 0, 0)
	})
	if err != nil {
		s.m.cfg.Log.Warn().Err(err).Str("lease", s.what(r)).Msg("repair")
		return false
	}
	s.m.cfg.Log.Warn().AnErr("was", why).Str("lease", s.what(r)).Msg("repaired")
	return true
}

// replaceable reports whether a lease of this name may be overwritten by that of r.
func replaceable(name string, r lvmlock.Resource) bool {
	switch name {
	case r.Name, freeName, removedName:
		return true
	case disabledName:
		return false
	}
	return r.Kind != lvmwire.LV
}
