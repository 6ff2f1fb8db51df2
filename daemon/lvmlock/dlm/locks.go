package dlm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// record is a lock that the kernel has for us. Its fields belong to whoever has the turn, users to the lockspace.
type record struct {
	name    string
	kind    lvmwire.Kind
	turn    chan struct{}
	id      uint32 // the kernel's number of the lock, 0: none yet
	mode    mode
	version uint32 // of the value block, as last read or written
	users   int
}

// hasValue says whether a value block belongs to the lock.
func (r *record) hasValue() bool { return r.kind == lvmwire.GL || r.kind == lvmwire.VG }

// take waits until no other command on the record is under way; those that were given up may be.
func (r *record) take(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("an earlier command on it has not ended: %w", ctx.Err())
	}
}

// enter finds or makes the record of a resource and takes it, for a command on it.
func (s *Lockspace) enter(ctx context.Context, r lvmlock.Resource) (*record, error) {
	if r.Name == "" || len(r.Name) > nameMax {
		return nil, fmt.Errorf("name %q has %d bytes, want 1 to %d", r.Name, len(r.Name), nameMax)
	}
	s.mu.Lock()
	if s.wire == nil || s.leaving {
		s.mu.Unlock()
		return nil, errNotJoined
	}
	have := s.records[r.Name]
	if have == nil {
		have = &record{name: r.Name, kind: r.Kind, turn: make(chan struct{}, 1)}
		s.records[r.Name] = have
	}
	have.users++
	s.mu.Unlock()
	if err := have.take(ctx); err != nil {
		s.forget(have)
		return nil, err
	}
	s.mu.Lock()
	left := s.wire == nil || s.leaving
	s.mu.Unlock()
	if left {
		s.exit(have)
		return nil, errNotJoined
	}
	return have, nil
}

// exit ends a command on a record.
func (s *Lockspace) exit(r *record) {
	<-r.turn
	s.forget(r)
}

// forget ends the use of a record, which goes if the kernel has no such lock.
func (s *Lockspace) forget(r *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.users--
	if r.users == 0 && r.id == 0 {
		delete(s.records, r.name)
	}
}

// during runs do while no other command on the resource is under way. If the caller gives up, undo comes after do.
func (s *Lockspace) during(ctx context.Context, op string, res lvmlock.Resource,
	do func(*record) (lvmlock.Value, error), undo func(*record) error,
) (lvmlock.Value, error) {
	r, err := s.enter(ctx, res)
	if err != nil {
		return lvmlock.Value{}, explain(op, s.name, res, err)
	}
	v, err := finish(ctx, task[lvmlock.Value]{
		do: func() (lvmlock.Value, error) { return do(r) },
		undo: func(lvmlock.Value) {
			err := undo(r)
			s.manager.log.Info().Err(err).Str("lockspace", s.name).Str("resource", r.name).Str("op", op).
				Msg("dlm: undid what was granted too late")
		},
		last: func() { s.exit(r) },
	})
	return v, explain(op, s.name, res, err)
}

// explain turns what went wrong into what a client is told.
func explain(op, space string, r lvmlock.Resource, err error) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*lvmlock.Error](err); ok {
		return known
	}
	result := lvmwire.ManagerError
	switch {
	case errors.Is(err, errHeld):
		result = lvmwire.Again
	case errors.Is(err, errValue):
		result = lvmwire.BadRequest
	case errors.Is(err, errNoOrphan):
		result = lvmwire.AdoptNone
	case errors.Is(err, errOtherMode):
		result = lvmwire.AdoptRetry
	case errors.Is(err, errNotHeld):
		result = lvmwire.NotFound
	}
	return fault(op, fmt.Sprintf("%s in lockspace %s", r.Name, space), result, err)
}

// What a lock command may end with, besides errors of the kernel.
var (
	errHeld      = errors.New("another host holds it in a mode that does not go with this")
	errValue     = errors.New("its value block is of a later version of LVM")
	errNoOrphan  = errors.New("this host's earlier life did not hold it")
	errOtherMode = errors.New("this host's earlier life held it in another mode")
	errNotHeld   = errors.New("this host does not hold it")
)

func kernelMode(m lvmwire.Mode) (mode, error) {
	switch m {
	case lvmwire.SH:
		return modePR, nil
	case lvmwire.EX:
		return modeEX, nil
	default:
		return modeNL, fault("lock", fmt.Sprintf("in mode %d", m), lvmwire.BadRequest, nil)
	}
}

// Lock takes a lock. The cluster is waited for if it changes just now; other holders are not. An adopted lock has no
// value, and is kept even if nobody waits for it any more: an LV may be in use under it.
func (s *Lockspace) Lock(ctx context.Context, res lvmlock.Resource, m lvmwire.Mode, o lvmlock.LockOptions,
) (lvmlock.Value, error) {
	to, err := kernelMode(m)
	if err != nil {
		return lvmlock.Value{}, err
	}
	adopted := false
	return s.during(ctx, "lock", res, func(r *record) (lvmlock.Value, error) {
		if o.Adopt || o.AdoptOnly {
			err := s.adopt(r, to)
			adopted = err == nil
			if adopted || o.AdoptOnly || !errors.Is(err, errNoOrphan) {
				return lvmlock.Value{}, err
			}
		}
		return s.acquire(r, to)
	}, func(r *record) error {
		if adopted {
			return nil
		}
		return s.convert(r, modeNL, nil)
	})
}

// acquire makes the lock in mode NL if there is none yet, and converts it.
func (s *Lockspace) acquire(r *record, to mode) (lvmlock.Value, error) {
	if r.mode != modeNL && r.hasValue() {
		// It could not be undone when nobody waited for it any more. The value block is read on the way up only.
		if err := s.convert(r, modeNL, nil); err != nil {
			return lvmlock.Value{}, err
		}
	}
	if r.id == 0 {
		flags := flagExpedite
		if r.hasValue() {
			flags |= flagValue
		}
		end, err := s.ask(command{Verb: verbLock, Mode: modeNL, Flags: flags, Name: r.name}, granted)
		if err != nil {
			return lvmlock.Value{}, err
		}
		r.id = end.Lock
	}
	end, err := s.up(r, to)
	if err != nil || !r.hasValue() {
		return lvmlock.Value{}, err
	}
	v, err := decodeValue(end)
	if err != nil {
		return lvmlock.Value{}, errors.Join(fmt.Errorf("%w: %w", errValue, err), s.convert(r, modeNL, nil))
	}
	r.version = v.Version
	return v, nil
}

// up converts to a mode that may stand in the way of others, or be refused.
func (s *Lockspace) up(r *record, to mode) (result, error) {
	c := command{Verb: verbLock, Mode: to, Flags: flagConvert | flagNoQueue | flagPersistent, Lock: r.id}
	if r.hasValue() {
		c.Flags |= flagValue
	}
	end, err := s.ask(c, granted)
	if err == nil {
		r.mode = to
	}
	return end, err
}

// adopt takes over the orphan that this host's earlier life left. The kernel answers at once.
func (s *Lockspace) adopt(r *record, m mode) error {
	w, err := s.open()
	if err != nil {
		return err
	}
	switch {
	case r.id == 0:
	case r.mode == m:
		return nil
	case r.mode == modeNL:
		return errNoOrphan
	default:
		return errOtherMode
	}
	id, err := w.tell(command{Verb: verbLock, Mode: m, Flags: flagPersistent | flagOrphan, Name: r.name})
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return errOtherMode
	case errors.Is(err, fs.ErrNotExist):
		return errNoOrphan
	case err != nil:
		return err
	case id <= 0:
		return fmt.Errorf("the kernel gave the orphan the number %d", id)
	}
	r.id, r.mode = uint32(id), m
	return nil
}

// Convert changes a held lock between SH and EX, without waiting for other holders. The way down is waited for even if
// ctx ends, since we must know what we hold.
func (s *Lockspace) Convert(ctx context.Context, res lvmlock.Resource, from, to lvmwire.Mode, v *lvmlock.Value) error {
	want, err := kernelMode(to)
	if err != nil {
		return err
	}
	if want == modePR {
		return s.lower(ctx, "convert", res, from, modePR, v)
	}
	_, err = s.during(ctx, "convert", res, func(r *record) (lvmlock.Value, error) {
		if r.mode == modeNL {
			return lvmlock.Value{}, errNotHeld
		}
		_, err := s.up(r, want)
		return lvmlock.Value{}, err
	}, func(r *record) error { return s.convert(r, modePR, nil) })
	return err
}

// Unlock gives a lock back, and waits until the kernel says that it is. An LV's lock is freed with it; those with a
// value block stay, in mode NL, and keep the block alive.
func (s *Lockspace) Unlock(ctx context.Context, res lvmlock.Resource, from lvmwire.Mode, v *lvmlock.Value) error {
	return s.lower(ctx, "unlock", res, from, modeNL, v)
}

func (s *Lockspace) lower(ctx context.Context, op string, res lvmlock.Resource, from lvmwire.Mode, to mode,
	v *lvmlock.Value,
) error {
	r, err := s.enter(ctx, res)
	if err != nil {
		return explain(op, s.name, res, err)
	}
	defer s.exit(r)
	if r.mode == modeNL && to == modeNL && s.parting(r.name) {
		return nil
	}
	switch have, err := kernelMode(from); {
	case err != nil:
		return err
	case r.mode == modeNL:
		return explain(op, s.name, res, errNotHeld)
	case r.mode != have:
		err := fmt.Errorf("it is held in %v, and not in %v", r.mode, have)
		return explain(op, s.name, res, err)
	}
	if err := s.convert(r, to, v); err != nil {
		return explain(op, s.name, res, err)
	}
	if to == modeNL && !r.hasValue() {
		if err := s.drop(r); err != nil {
			s.manager.log.Info().Err(err).Str("lockspace", s.name).Str("resource", r.name).
				Msg("dlm: a lock that was given back could not be freed")
		}
	}
	return nil
}

// convert changes the mode downwards, which no other host can refuse, and writes the value block when EX is given up.
func (s *Lockspace) convert(r *record, to mode, v *lvmlock.Value) error {
	if r.mode == to {
		return nil
	}
	c := command{Verb: verbLock, Mode: to, Flags: flagConvert, Lock: r.id}
	if to != modeNL {
		c.Flags |= flagNoQueue | flagPersistent
	}
	if v != nil && r.mode == modeEX && r.hasValue() {
		c.Flags |= flagValue
		c.Value = encodeValue(*v)
	}
	if _, err := s.ask(c, granted); err != nil {
		return err
	}
	r.mode = to
	if v != nil {
		r.version = v.Version
	}
	return nil
}

// drop frees the lock in the kernel, whatever its mode.
func (s *Lockspace) drop(r *record) error {
	if r.id == 0 {
		return nil
	}
	if _, err := s.ask(command{Verb: verbUnlock, Lock: r.id}, unlocked); err != nil {
		return err
	}
	r.id, r.mode = 0, modeNL
	return nil
}

// ask sends a command about a lock and wants it to end as said.
func (s *Lockspace) ask(c command, want status) (result, error) {
	w, err := s.open()
	if err != nil {
		return result{}, err
	}
	end, err := w.ask(c)
	if errors.Is(err, fs.ErrNotExist) {
		// The kernel knows the lock as long as it knows the lockspace.
		w.fail(fmt.Errorf("%w: %w", errLost, err))
	}
	switch {
	case err != nil:
		return result{}, err
	case end.Status == refused && want == granted:
		return result{}, errHeld
	case end.Status != want:
		return result{}, fmt.Errorf("the kernel ended the command with status %d", end.Status)
	case end.Lock == 0 || c.Lock != 0 && end.Lock != c.Lock:
		err := fmt.Errorf("%w: lock %d was asked for, the answer is for lock %d", errLost, c.Lock, end.Lock)
		w.fail(err)
		return result{}, err
	}
	return end, nil
}
