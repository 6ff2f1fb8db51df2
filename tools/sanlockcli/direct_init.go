package sanlockcli

import (
	"context"

	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/resource"
)

// format writes a whole lockspace or resource area.
func (d *direct) format(ctx context.Context) error {
	switch {
	case d.spaceDisk.path == "" && d.resourceDisk.path == "":
		return errInvalid
	case d.halfSizes():
		return errHalfSizes
	case d.spaceDisk.path != "":
		return d.formatLockspace(ctx)
	}
	return d.formatResource(ctx)
}

func (d *direct) formatLockspace(ctx context.Context) error {
	dev, err := device.Open(d.spaceDisk.path, device.Options{})
	if err != nil {
		return errNoDevice
	}
	defer dev.Close()
	g, err := d.geometry(dev)
	if err != nil {
		return err
	}
	off, err := offset(d.spaceDisk)
	if err != nil {
		return err
	}
	return delta.Format(ctx, dev, off, g, d.space, uint16(d.seconds()))
}

func (d *direct) formatResource(ctx context.Context) error {
	dev, err := device.Open(d.resourceDisk.path, device.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	g, err := d.geometry(dev)
	if err != nil {
		return err
	}
	off, err := offset(d.resourceDisk)
	if err != nil {
		return err
	}
	disk := resource.Disk{Device: dev, Offset: off}
	if d.clear {
		now := uint64(d.clock.Now().Seconds())
		return resource.Clear(ctx, disk, g, d.resourceSpace, d.resource, d.numHosts, now)
	}
	return resource.Format(ctx, disk, g, d.resourceSpace, d.resource, d.numHosts)
}

func offset(p place) (int64, error) {
	if p.offset > 1<<62 {
		return 0, errInvalid
	}
	return int64(p.offset), nil
}
