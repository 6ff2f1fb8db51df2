package native

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// scanSlots is how many slots are read at once.
const scanSlots = 128

// maxStale is how many slots may turn out not to be free until all are looked at anew.
const maxStale = 8

// slotMap is which LV's lease was seen in each slot, from the first looked at as far as anybody looked. It is
// only a hint: other hosts take and free slots too, one at a time since each holds the VG lock.
type slotMap struct {
	lay   layout
	first int64    // offset
	names []string // "" is free
	// slow says that the device could not be read directly while these were looked at.
	slow bool
}

// forget begins a new map.
func (s *slotMap) forget() { s.names, s.slow = nil, false }

// end is the offset behind the slots that were looked at.
func (s *slotMap) end() int64 { return s.first + int64(len(s.names))*s.lay.align }

// free returns the first slot that was seen free and ends at limit at the latest.
func (s *slotMap) free(limit int64) (int64, bool) {
	for i, name := range s.names {
		offset := s.first + int64(i)*s.lay.align
		if offset+s.lay.align > limit {
			return 0, false
		}
		if name == "" {
			return offset, true
		}
	}
	return 0, false
}

// find returns the slot that an LV's lease was seen in.
func (s *slotMap) find(name string) (int64, bool) {
	for i, n := range s.names {
		if n == name {
			return s.first + int64(i)*s.lay.align, true
		}
	}
	return 0, false
}

// set notes whose lease is in a slot, if anybody looked there.
func (s *slotMap) set(offset int64, name string) {
	if i := (offset - s.first) / s.lay.align; i >= 0 && i < int64(len(s.names)) {
		s.names[i] = name
	}
}

// cut forgets the slots from an offset on.
func (s *slotMap) cut(offset int64) {
	if i := (offset - s.first) / s.lay.align; i >= 0 && i < int64(len(s.names)) {
		s.names = s.names[:i]
	}
}

// finder finds free slots of a lock LV.
type finder struct {
	m    *Manager
	path string
	*slotMap
}

var errFull = errors.New("every slot has the lease of an LV; extend the lock LV")

// pick returns the first free slot that ends at limit at the latest, of which the daemon has confirmed that
// it is free.
func (f finder) pick(ctx context.Context, limit int64) (int64, error) {
	fresh, stale := len(f.names) == 0, 0
	for {
		offset, ok := f.free(limit)
		if !ok {
			n, err := f.scan(ctx)
			if err != nil {
				return 0, err
			}
			if n == 0 && fresh {
				return 0, &lvmlock.Error{Op: "find a free slot of", What: f.path, Result: lvmwire.TooLong, Err: errFull}
			}
			if n == 0 {
				f.forget()
				fresh = true
			}
			continue
		}
		name, err := f.m.examine(ctx, f.path, offset)
		switch {
		case beyondEnd(err): // it was cut off
			f.cut(offset)
			limit = min(limit, offset)
			continue
		case err != nil:
			return 0, diskError("read a slot of", f.path, err)
		case name == "":
			return offset, nil
		}
		f.set(offset, name)
		if stale++; stale > maxStale && !fresh {
			f.forget()
			fresh = true
		}
	}
}

// scan looks at the next slots, and returns how many there were.
func (f finder) scan(ctx context.Context) (int, error) {
	if f.slow {
		return f.scanOne(ctx)
	}
	names, err := f.m.readNames(ctx, f.path, f.lay, f.end(), f.end()+scanSlots*f.lay.align)
	if err != nil {
		f.m.cfg.Log.Debug().Err(err).Msg("find a free slot by way of sanlock, which takes longer")
		f.slow = true
		return f.scanOne(ctx)
	}
	f.names = append(f.names, names...)
	return len(names), nil
}

// scanOne looks at the next slot by way of the daemon, where the device cannot be read directly.
func (f finder) scanOne(ctx context.Context) (int, error) {
	name, err := f.m.examine(ctx, f.path, f.end())
	if beyondEnd(err) {
		return 0, nil
	}
	if err != nil {
		return 0, diskError("read a slot of", f.path, err)
	}
	f.names = append(f.names, name)
	return 1, nil
}

// examine asks the daemon whose lease is in a slot, "" if it is free. A slot that was never written is free
// too.
func (m *Manager) examine(ctx context.Context, path string, offset int64) (string, error) {
	var name string
	err := m.ask(ctx, func(c *client.Conn) error {
		found, err := c.ReadResource(ctx, sanlockwire.Resource{Disks: disk(path, offset)})
		name = found.Name.String()
		return err
	})
	if kindOf(err) == leases.BadMagic || err == nil && name == freeName {
		return "", nil
	}
	return name, err
}

// choose lets one call at a time look for slots.
func (s *space) choose(ctx context.Context, f func(finder) error) error {
	select {
	case s.choosing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.choosing }()
	s.slots.first = s.lay.at(firstLVSlot)
	return f(finder{s.m, s.path, &s.slots})
}

// FindFree says whether one more LV lock fits.
func (s *space) FindFree(ctx context.Context, size int64) error {
	if size <= 0 {
		size = math.MaxInt64
	}
	return s.choose(ctx, func(f finder) error {
		_, err := f.pick(ctx, size)
		return err
	})
}

// FreeLV makes the slot of an LV a free one. A slot that has another LV's lease by now is left alone.
func (s *space) FreeLV(ctx context.Context, r lvmlock.Resource) error {
	offset, err := s.lay.offsetOf(r.Args)
	if err != nil {
		return &lvmlock.Error{Op: "free", What: s.what(r), Result: lvmwire.Perm, Err: err}
	}
	return s.choose(ctx, func(f finder) error {
		name, err := s.m.examine(ctx, s.path, offset)
		if err == nil && name != "" && name != r.Name {
			err := fmt.Errorf("its slot at %d is that of %s", offset, name)
			return &lvmlock.Error{Op: "free", What: s.what(r), Result: lvmwire.BadArgs, Err: err}
		}
		err = s.m.ask(ctx, func(c *client.Conn) error {
			return c.WriteResource(ctx, s.resource(freeName, offset), 0, 0, 0)
		})
		if err != nil {
			return diskError("free", s.what(r), err)
		}
		f.set(offset, "")
		return nil
	})
}

// InitLV takes the first free slot for an LV, or if the VG is not started, the first behind that of the LV
// before. The VG lock, or that nobody uses the VG, keeps others from taking the same one.
func (m *Manager) InitLV(
	ctx context.Context, vg lvmlock.VG, joined lvmlock.Lockspace, uuid, previousArgs string,
) (string, error) {
	what := spacePrefix + vg.Name + "/" + uuid
	var args string
	var err error
	if s, ok := joined.(*space); ok && s != nil {
		err = s.choose(ctx, func(f finder) error {
			args, err = f.allocate(ctx, s.name, uuid)
			return err
		})
		return args, named(err, what)
	}
	lv, err := parseArgs(vg.Args, maxGroupMajor)
	if err != nil {
		return "", &lvmlock.Error{Op: "init", What: what, Result: lvmwire.BadArgs, Err: err}
	}
	path := m.device(vg.Name, lv)
	name := spaceName(vg.Name)
	lay, err := m.readLayout(ctx, name, path)
	if err != nil {
		return "", diskError("init", what, err)
	}
	first := lay.at(firstLVSlot)
	if previousArgs != "" {
		before, err := lay.offsetOf(previousArgs)
		if err != nil {
			return "", &lvmlock.Error{Op: "init", What: what, Result: lvmwire.BadArgs, Err: err}
		}
		first = before + lay.align
	}
	args, err = finder{m, path, &slotMap{lay: lay, first: first}}.allocate(ctx, name, uuid)
	return args, named(err, what)
}

// named says what a slot was looked for.
func named(err error, what string) error {
	if e, ok := errors.AsType[*lvmlock.Error](err); ok {
		e.What = what + " on " + e.What
	}
	return err
}

// allocate writes an LV's lease into the first free slot.
func (f finder) allocate(ctx context.Context, space leases.Name, uuid string) (string, error) {
	offset, err := f.pick(ctx, math.MaxInt64)
	if err != nil {
		return "", err
	}
	if err := f.unique(ctx, uuid); err != nil {
		return "", err
	}
	lease := formatter{m: f.m, name: space, path: f.path, lay: f.lay}
	err = f.m.ask(ctx, func(c *client.Conn) error { return lease.lease(ctx, c, uuid, offset) })
	if err != nil {
		return "", diskError("init a slot of", f.path, err)
	}
	f.set(offset, uuid)
	return lvArgs(offset), nil
}

// unique refuses an LV that has a lease already, as far as anybody looked.
func (f finder) unique(ctx context.Context, uuid string) error {
	offset, ok := f.find(uuid)
	if !ok {
		return nil
	}
	name, err := f.m.examine(ctx, f.path, offset)
	if err == nil && name != uuid {
		f.set(offset, name)
		return nil
	}
	if err != nil {
		return diskError("read a slot of", f.path, err)
	}
	err = fmt.Errorf("the LV has a lease already, at %d", offset)
	return &lvmlock.Error{Op: "init a slot of", What: f.path, Result: lvmwire.Exists, Err: err}
}
