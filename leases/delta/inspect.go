package delta

import (
	"context"
	"errors"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// Read reads and checks the record of a host id, for nobody in particular; an empty space name matches any.
// leases.BadHostID: the lockspace has no such host id.
func Read(
	ctx context.Context, dev device.Device, off int64, g ondisk.Geometry, space leases.Name,
	host leases.HostID, limit time.Duration,
) (ondisk.Leader, error) {
	fail := func(kind leases.Kind, err error) (ondisk.Leader, error) {
		return ondisk.Leader{}, &leases.Error{Op: "read", Space: space.String(), Kind: kind, Err: err}
	}
	if host < 1 || uint64(host) > g.MaxHosts() {
		return fail(leases.BadHostID, errors.New("no such host id in this lockspace"))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := dev.Read(ctx, off+g.DeltaOffset(uint64(host)), g.Sector)
	if err != nil {
		return fail(FaultKind(err), err)
	}
	defer b.Release()
	l, err := ondisk.DecodeLeader(b.Bytes())
	if err == nil {
		err = l.CheckDelta(space)
	}
	if err != nil {
		return fail(FaultKind(err), err)
	}
	return l, nil
}
