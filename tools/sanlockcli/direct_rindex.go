package sanlockcli

import (
	"context"
	"fmt"

	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/rindex"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// The verbs on a resource index take no lease: they are for repairs while nobody else uses the index.

func (d *direct) indexConfig(dev device.Device) rindex.Config {
	return rindex.Config{
		Device: dev, Offset: d.indexDisk.offset, Space: d.indexSpace,
		Times: timeouts.Set{IO: d.seconds(), Fire: timeouts.DefaultFire},
	}
}

// formatIndex writes an empty index and the resource behind it that is the index's own lease.
func (d *direct) formatIndex(ctx context.Context) error {
	if d.halfSizes() {
		return errHalfSizes
	}
	dev, err := device.Open(d.indexDisk.path, device.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	g, err := d.geometry(dev)
	if err != nil {
		return err
	}
	return rindex.Format(ctx, d.indexConfig(dev), g, 0)
}

// onIndex opens the index for do.
func (d *direct) onIndex(ctx context.Context, o device.Options, do func(x *rindex.Index) error) error {
	dev, err := device.Open(d.indexDisk.path, o)
	if err != nil {
		return err
	}
	defer dev.Close()
	x, err := rindex.Open(ctx, d.indexConfig(dev))
	if err != nil {
		return err
	}
	return do(x)
}

// lookup looks an entry up by name, by offset or by both, or without either finds the first free one.
func (d *direct) lookup(ctx context.Context) int {
	var e ondisk.IndexEntry
	code := d.done("lookup", d.onIndex(ctx, device.Options{ReadOnly: true}, func(x *rindex.Index) (err error) {
		e, err = x.Lookup(ctx, d.entry, d.entryAt)
		return err
	}))
	if code == 0 {
		name := e.Name.String()
		if name == "" {
			name = "-"
		}
		fmt.Fprintf(d.out, "name %s offset %d\n", name, e.Offset)
	}
	return code
}

// update sets the entry of an offset, or with -z frees it.
func (d *direct) update(ctx context.Context) error {
	return d.onIndex(ctx, device.Options{}, func(x *rindex.Index) error {
		_, err := x.Update(ctx, ondisk.IndexEntry{Offset: d.entryAt, Name: d.entry}, d.clear)
		return err
	})
}

// rebuild writes all entries anew from the resources that lie where the index can have some.
func (d *direct) rebuild(ctx context.Context) error {
	return d.onIndex(ctx, device.Options{}, func(x *rindex.Index) error { return x.Rebuild(ctx) })
}
