package sanlockcli

import (
	"context"
	"errors"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// nobody is the liveness of a process that has joined no lockspace: it can judge no owner.
type nobody struct{}

func (nobody) Probe(context.Context, leases.Owner) (leases.Verdict, error) {
	return leases.Unknown, &leases.Error{
		Op: "probe", Kind: leases.NotMember,
		Err: errors.New("a direct command has joined no lockspace and cannot tell whether the owner is alive"),
	}
}

// acquire takes a free lease for the host id and generation given, and leaves it held.
func (d *direct) acquire(ctx context.Context) error {
	if d.resourceDisk.path == "" {
		return errInvalid // stock crashes
	}
	dev, err := device.Open(d.resourceDisk.path, device.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	g, err := d.probe(ctx, dev, d.resourceDisk.offset)
	if err == nil && !g.Legal() {
		err = errInvalid
	}
	if err != nil {
		return err
	}
	lease, err := resource.New(resource.Config{
		Space: d.resourceSpace, Name: d.resource, Geometry: g, Clock: d.clock,
		Disks: []resource.Disk{{Device: dev, Offset: int64(d.resourceDisk.offset)}},
		Times: timeouts.Set{IO: d.seconds(), Fire: timeouts.DefaultFire},
	})
	if err != nil {
		return err
	}
	self := leases.Owner{Host: leases.HostID(d.self), Generation: leases.Generation(d.generation)}
	_, err = lease.Acquire(ctx, self, resource.Request{Mode: leases.Exclusive}, nobody{})
	return err
}

// release does what stock's does: it never gives anything back, since it does not know its host id when it
// compares it with the writer's, but says 0 where a lease was ever acquired (spec ondisk 9.18). To free a
// lease whose holder may still believe in it would make two owners of the next acquire.
func (d *direct) release(ctx context.Context) error {
	if d.resourceDisk.path == "" {
		return errInvalid // stock crashes
	}
	l, err := d.paxosLeader(ctx)
	switch {
	case err != nil:
		return err
	case l.WriteID != 0:
		return nil
	case l.LVer != 0:
		return &leases.Error{Op: "release", Kind: leases.ReleaseVersion}
	}
	return &leases.Error{Op: "release", Kind: leases.ReleaseOwner}
}
