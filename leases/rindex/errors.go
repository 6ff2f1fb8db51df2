package rindex

import (
	"context"
	"errors"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
)

func (x *Index) fail(op string, kind leases.Kind, err error) error {
	return &leases.Error{Op: op + " the resource index of", Space: x.cfg.Space.String(), Kind: kind, Err: err}
}

// failed wraps err with the kind of its cause.
func (x *Index) failed(op string, err error) error { return x.fail(op, kindOf(err), err) }

func kindOf(err error) leases.Kind {
	var format *ondisk.FormatError
	var lease *leases.Error
	var transfer *device.OpError
	switch {
	case err == nil:
		return leases.Other
	case errors.As(err, &lease):
		return lease.Kind
	case errors.As(err, &format):
		return format.Kind
	case errors.Is(err, device.ErrShort):
		return shortKind(err)
	case errors.Is(err, device.ErrStuck):
		return leases.Stuck
	case errors.As(err, &transfer) && transfer.Timeout():
		return leases.Timeout
	case errors.Is(err, context.Canceled):
		return leases.Aborted
	}
	return leases.IO
}

// shortKind: a read beyond the end is short, a write finds no space.
func shortKind(err error) leases.Kind {
	if op, ok := errors.AsType[*device.OpError](err); ok && op.Op == "write" {
		return leases.NoSpace
	}
	return leases.ShortTransfer
}
