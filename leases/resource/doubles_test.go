package resource

import (
	"context"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
)

// The hosts and disks of the tests that are not what they seem.

// oracle answers Probe from a table; a host that is not in it is alive.
type oracle map[leases.Owner]leases.Verdict

func (o oracle) Probe(_ context.Context, w leases.Owner) (leases.Verdict, error) {
	if v, ok := o[w]; ok {
		return v, nil
	}
	return leases.Alive, nil
}

// twoFaced knows what a cache would say and what a read of the disk says.
type twoFaced struct {
	cached, fresh map[leases.Owner]leases.Verdict
	err           error
	asked         []leases.Owner
}

func (f *twoFaced) Probe(_ context.Context, o leases.Owner) (leases.Verdict, error) {
	f.asked = append(f.asked, o)
	return f.fresh[o], f.err
}

// slow answers as a host does whose owner is silent for a time and then dead.
type slow struct {
	dead   time.Time
	probes int
}

func (s *slow) Probe(context.Context, leases.Owner) (leases.Verdict, error) {
	s.probes++
	if time.Now().Before(s.dead) {
		return leases.Failing, nil
	}
	return leases.Dead, nil
}

// silent is an owner of which nothing is known.
type silent struct{}

func (silent) Probe(context.Context, leases.Owner) (leases.Verdict, error) {
	return leases.Unknown, nil
}

type unable struct{ kind leases.Kind }

func (u unable) Probe(context.Context, leases.Owner) (leases.Verdict, error) {
	return leases.Alive, &leases.Error{Op: "probe", Kind: u.kind, Err: errBroken}
}

// hooked calls before for each transfer.
type hooked struct {
	device.Device
	before func(op string, off int64, n int)
}

func (h hooked) Read(ctx context.Context, off int64, n int) (*device.Buffer, error) {
	h.before("read", off, n)
	return h.Device.Read(ctx, off, n)
}

func (h hooked) Write(ctx context.Context, off int64, b *device.Buffer) error {
	h.before("write", off, len(b.Bytes()))
	return h.Device.Write(ctx, off, b)
}

// afterWrites calls back after each write that succeeded, in the writer's goroutine.
type afterWrites struct {
	device.Device
	do func(off int64)
}

func (d afterWrites) Write(ctx context.Context, off int64, b *device.Buffer) error {
	err := d.Device.Write(ctx, off, b)
	if err == nil {
		d.do(off)
	}
	return err
}
