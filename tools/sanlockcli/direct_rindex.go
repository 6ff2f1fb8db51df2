package sanlockcli

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
)

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
	at := d.indexDisk.offset
	if err := d.write(ctx, dev, at, ondisk.FormatIndex(g, d.indexSpace, at, 0), formatTimeout); err != nil {
		return err
	}
	lease := ondisk.FormatResource(g, d.indexSpace, leases.NameOf(ondisk.IndexLeaseName), 0)
	return d.write(ctx, dev, at+uint64(g.Align), lease, formatTimeout)
}

// index is a resource index in memory.
type index struct {
	dev    *device.File
	at     uint64
	header ondisk.IndexHeader
	sizes  ondisk.Geometry
	area   *device.Buffer
}

func (x *index) close() {
	x.area.Release()
	x.dev.Close()
}

func (x *index) entry(n uint32) ondisk.IndexEntry {
	e, err := ondisk.DecodeIndexEntry(x.area.Bytes()[x.sizes.EntryOffset(n):])
	if err != nil {
		panic(err) // header.Entries never says more than fit into the area
	}
	return e
}

// find returns the first entry that want accepts.
func (x *index) find(want func(e ondisk.IndexEntry) bool) (uint32, bool) {
	for n := range x.header.Entries() {
		if want(x.entry(n)) {
			return n, true
		}
	}
	return 0, false
}

// number returns which entry stands for a resource's offset. Stock does not test that there is one, and reads
// or writes beyond its buffer.
func (x *index) number(resource uint64) (uint32, error) {
	n, ok := x.sizes.EntryOf(x.at, resource)
	if !ok || n >= uint64(x.header.Entries()) || resource%uint64(x.sizes.Align) != 0 {
		return 0, &ondisk.FormatError{
			Record: "rindex entry", Field: "offset", Got: resource, Want: x.sizes.EntryResource(x.at, 0),
			Kind: leases.IndexOffset,
		}
	}
	return uint32(n), nil
}

func (d *direct) openIndex(ctx context.Context, o device.Options) (*index, error) {
	dev, err := device.Open(d.indexDisk.path, o)
	if err != nil {
		return nil, err
	}
	x, err := d.loadIndex(ctx, dev)
	if err != nil {
		dev.Close()
		return nil, err
	}
	return x, nil
}

func (d *direct) loadIndex(ctx context.Context, dev *device.File) (*index, error) {
	at := d.indexDisk.offset
	b, err := d.read(ctx, dev, at, ondisk.ProbeLength)
	if err != nil {
		return nil, err
	}
	h, err := ondisk.DecodeIndexHeader(b.Bytes())
	b.Release()
	if err == nil {
		err = h.Check(expect(d.indexSpace, h.Space), at)
	}
	if err == nil && !h.Geometry().Legal() {
		err = errInvalid
	}
	if err != nil {
		return nil, err
	}
	x := &index{dev: dev, at: at, header: h, sizes: h.Geometry()}
	x.area, err = d.read(ctx, dev, at, x.sizes.Align)
	return x, err
}

func (d *direct) lookup(ctx context.Context) int {
	name, off, err := d.find(ctx)
	code := d.done("lookup", err)
	if code == 0 {
		if name == "" {
			name = "-"
		}
		fmt.Fprintf(d.out, "name %s offset %d\n", name, off)
	}
	return code
}

// find looks an entry up by name, by offset or by both, or without either finds the first free one.
func (d *direct) find(ctx context.Context) (name string, off uint64, err error) {
	x, err := d.openIndex(ctx, device.Options{ReadOnly: true})
	if err != nil {
		return "", 0, err
	}
	defer x.close()
	if d.entryAt == 0 {
		n, ok := x.find(func(e ondisk.IndexEntry) bool {
			if d.entry.IsEmpty() {
				return e.IsFree()
			}
			return e.Name.Equal(d.entry)
		})
		if !ok {
			return "", 0, errNoEntry
		}
		return d.entry.String(), x.sizes.EntryResource(x.at, n), nil
	}
	n, err := x.number(d.entryAt)
	if err != nil {
		return "", 0, err
	}
	e := x.entry(n)
	if !d.entry.IsEmpty() && !e.Name.Equal(d.entry) {
		return "", 0, &ondisk.FormatError{
			Record: "rindex entry", Field: "name", GotName: e.Name.String(), WantName: d.entry.String(),
			Kind: leases.IndexDiffer,
		}
	}
	return e.Name.String(), d.entryAt, nil
}

// update sets the entry of an offset, or with -z frees it. It takes no lease: it is for repairs while nobody
// else uses the index.
func (d *direct) update(ctx context.Context) error {
	x, err := d.openIndex(ctx, device.Options{})
	if err != nil {
		return err
	}
	defer x.close()
	if d.entryAt == 0 || d.entry.IsEmpty() && !d.clear {
		return errInvalid
	}
	n, err := x.number(d.entryAt)
	if err != nil {
		return err
	}
	var e ondisk.IndexEntry
	if !d.clear {
		e = ondisk.IndexEntry{Offset: d.entryAt, Name: d.entry}
	}
	at := int(x.sizes.EntryOffset(n))
	e.Encode(x.area.Bytes()[at:])
	start := at - at%x.sizes.Sector
	return d.write(ctx, x.dev, x.at+uint64(start), x.area.Bytes()[start:start+x.sizes.Sector], d.oneIO())
}

// rebuild writes all entries anew from the resources that lie where the index can have some. Leases that do
// not verify, or are of another lockspace, are left out; stock lists everything with the right magic.
func (d *direct) rebuild(ctx context.Context) error {
	x, err := d.openIndex(ctx, device.Options{})
	if err != nil {
		return err
	}
	defer x.close()
	area := x.area.Bytes()
	clear(area[x.sizes.Sector:])
	for n := range x.header.Entries() {
		at := x.sizes.EntryResource(x.at, n)
		l, err := d.record(ctx, x.dev, at, x.sizes.Sector)
		if errors.Is(err, device.ErrShort) {
			break
		}
		if err != nil {
			return err
		}
		if l.CheckPaxos(x.header.Space, leases.Name{}, 0) == nil {
			e := ondisk.IndexEntry{Offset: at, Name: l.ResourceName}
			e.Encode(area[x.sizes.EntryOffset(n):])
		}
	}
	return d.write(ctx, x.dev, x.at, area, formatTimeout)
}
