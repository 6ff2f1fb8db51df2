package resource

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenurelock/tenure/leases"
)

// valueBlock is the lease's value as this host knows it: one sector (spec ondisk 2.7).
type valueBlock struct {
	data  []byte
	dirty bool
}

var errNoValueBlock = errors.New("areas of this size have no value block: its place would lie in another " +
	"resource (512-byte sectors with 1 MiB, or 4096 with 8 MiB, have one)")

// readValue reads the value block into the grant. Only where it lies inside the area (spec ondisk 9.1).
func (l *Lease) readValue(ctx context.Context, g *Grant) error {
	if !g.Geometry.HasLVB() {
		return &leases.Error{
			Op: "read the value block of", Space: l.cfg.Space.String(), Resource: l.cfg.Name.String(),
			Kind: leases.Invalid, Err: errNoValueBlock,
		}
	}
	b, err := l.read(ctx, 0, g.Geometry.LVBOffset(), g.Geometry.Sector)
	if err != nil {
		return err
	}
	g.lvb = &valueBlock{data: append([]byte(nil), b.Bytes()...)}
	b.Release()
	return nil
}

// flushValue writes a changed value block of an exclusive hold.
func (l *Lease) flushValue(ctx context.Context, g *Grant) error {
	if g.lvb == nil || !g.lvb.dirty {
		return nil
	}
	err := l.write(ctx, 0, g.Geometry.LVBOffset(), func(sector []byte) { copy(sector, g.lvb.data) })
	if err != nil {
		return l.fail("write the value block of", causeKind(err), fmt.Errorf("its new value is lost: %w", err))
	}
	g.lvb.dirty = false
	return nil
}

// LVB returns a copy of the value block, or nil if the lease was acquired without it.
func (g *Grant) LVB() []byte {
	if g.lvb == nil {
		return nil
	}
	return append([]byte(nil), g.lvb.data...)
}

// SetLVB replaces the first len(p) bytes of the value block, in memory; it is written when an exclusive hold
// ends. leases.Invalid: acquired without it. leases.TooBig: p is longer than a sector.
func (g *Grant) SetLVB(p []byte) error {
	if g.lvb == nil {
		return &leases.Error{
			Op: "set the value block", Kind: leases.Invalid, Err: errors.New("the lease was acquired without it"),
		}
	}
	if len(p) > len(g.lvb.data) {
		return &leases.Error{
			Op: "set the value block", Kind: leases.TooBig,
			Err: fmt.Errorf("%d bytes do not fit into a sector of %d", len(p), len(g.lvb.data)),
		}
	}
	copy(g.lvb.data, p)
	g.lvb.dirty = true
	return nil
}
