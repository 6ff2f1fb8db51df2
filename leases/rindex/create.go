package rindex

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// contention are the kinds of error with which a place is somebody's: another one is looked for.
var contention = []leases.Kind{
	leases.Held, leases.OwnerSilent, leases.LostRace, leases.CommittedOther, leases.SharedHeld, leases.Busy,
	leases.Exists, leases.Again, leases.BadChecksum, leases.BadVersion, leases.BadSectorSize, leases.WrongSpace,
	leases.BadNumHosts, leases.Corrupt, leases.BlockChecksum, leases.OrphanExists,
}

var errSameName = errors.New("the index has an entry of that name")

// Create writes a new lease to the first free place and enters it into the index, in this order: after a
// crash in between the place is free. numHosts 0 means as many as fit. It returns the resource's byte offset.
// Places without an entry where somebody holds a lease, or where that cannot be told, are left alone. The
// index must be locked.
//
// Kind Exists: there is an entry of that name; NotFound: no entry is free; NoSpace: the device ends before.
func (x *Index) Create(ctx context.Context, name leases.Name, numHosts uint64) (uint64, error) {
	if err := x.locked(); err != nil {
		return 0, err
	}
	all, err := x.load(ctx)
	if err != nil {
		return 0, x.failed("create a resource in", err)
	}
	defer all.Release()
	if _, ok := all.find(named(name)); ok {
		return 0, x.fail("create a resource in", leases.Exists, errSameName)
	}
	var skipped error
	for n := range x.header.Entries() {
		was := all.at(n)
		if !was.IsFree() {
			continue
		}
		h, err := x.seize(ctx, x.place(n))
		if slices.Contains(contention, kindOf(err)) {
			skipped = err
			continue
		}
		if err == nil {
			err = x.fill(ctx, n, h, was, name, numHosts)
		}
		if err != nil {
			return 0, x.failed("create a resource in", err)
		}
		return x.place(n), nil
	}
	if skipped != nil {
		return 0, x.fail("create a resource in", leases.NotFound,
			fmt.Errorf("%w; one without an entry is in use: %w", errNoRoom, skipped))
	}
	return 0, x.fail("create a resource in", leases.NotFound, errNoRoom)
}

// fill writes resource and entry.
func (x *Index) fill(
	ctx context.Context, n uint32, h *hold, was ondisk.IndexEntry, name leases.Name, numHosts uint64,
) error {
	area := ondisk.FormatResource(x.sizes, x.header.Space, name, numHosts)
	if err := x.write(ctx, x.place(n), area); err != nil {
		return err
	}
	h.overwritten()
	return x.put(ctx, n, was, ondisk.IndexEntry{Offset: x.place(n), Name: name})
}

// Delete frees the entry of a name and then clears its resource, in this order: after a crash in between the
// place is free. The lease is acquired before, so that it is nobody's: the errors are those of an acquire
// that does not wait. A lease of another lockspace is left where it is. The index must be locked.
//
// Kind NotFound: there is no entry of that name.
func (x *Index) Delete(ctx context.Context, name leases.Name) error {
	if err := x.locked(); err != nil {
		return err
	}
	all, err := x.load(ctx)
	if err != nil {
		return x.failed("delete a resource of", err)
	}
	defer all.Release()
	n, ok := all.find(named(name))
	if !ok {
		return x.fail("delete a resource of", leases.NotFound, errNoEntry)
	}
	h, err := x.seize(ctx, x.place(n))
	foreign := h == nil && kindOf(err) == leases.WrongSpace
	if err == nil || foreign {
		err = x.put(ctx, n, all.at(n), ondisk.IndexEntry{})
	}
	if err == nil && !foreign {
		now := uint64(x.member.Clock.Now().Seconds())
		area := ondisk.ClearResource(x.sizes, x.header.Space, name, 0, now)
		if err = x.write(ctx, x.place(n), area); err == nil {
			h.overwritten()
		}
	}
	if err != nil {
		return x.failed("delete a resource of", err)
	}
	return nil
}
