package rindex

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// Config says which index, and where.
type Config struct {
	Device device.Device
	Offset uint64       // bytes, of the header
	Space  leases.Name  // the lockspace that the header must name; an empty name matches an empty one only
	Times  timeouts.Set // each transfer but those of whole areas gets OneIO
}

// Index is an index whose header was read and found good. It is not safe for concurrent use.
type Index struct {
	cfg    Config
	header ondisk.IndexHeader
	sizes  ondisk.Geometry

	member *Member // nil while it is not locked
	lock   *hold   // of the index's own lease
	taken  []*hold // of resources whose place is being written
	dirty  []span  // written to, without an answer that it was done
}

// span is a range of bytes on the device.
type span struct{ off, n int64 }

// maxOffset bounds what is computed with; no device is nearly as large.
const maxOffset = 1 << 62

// Format writes an empty index, and behind it the lease that guards it. maxResources 0 means 4096; it is cut
// to what the sizes have room for. Kind Invalid: the sizes are no legal pair; NoSpace: the device ends
// before.
func Format(ctx context.Context, cfg Config, g ondisk.Geometry, maxResources uint32) error {
	fail := func(k leases.Kind, err error) error {
		return &leases.Error{Op: "format the resource index of", Space: cfg.Space.String(), Kind: k, Err: err}
	}
	if !g.Legal() || cfg.Offset > maxOffset {
		return fail(leases.Invalid, fmt.Errorf("sector size %d with areas of %d bytes at %d cannot be",
			g.Sector, g.Align, cfg.Offset))
	}
	x := &Index{cfg: cfg, sizes: g}
	area := ondisk.FormatIndex(g, cfg.Space, cfg.Offset, maxResources)
	if err := x.write(ctx, cfg.Offset, area); err != nil {
		return fail(kindOf(err), err)
	}
	lease := ondisk.FormatResource(g, cfg.Space, leases.NameOf(ondisk.IndexLeaseName), 0)
	if err := x.write(ctx, x.leaseAt(), lease); err != nil {
		return fail(kindOf(err), err)
	}
	return nil
}

// Open reads and checks the header: IndexMagic, IndexVersion, IndexSpace, IndexOffset, and Invalid for sizes
// that cannot be.
func Open(ctx context.Context, cfg Config) (*Index, error) {
	x := &Index{cfg: cfg}
	b, err := x.read(ctx, cfg.Offset, ondisk.ProbeLength)
	if err != nil {
		return nil, x.failed("open", err)
	}
	defer b.Release()
	x.header, err = ondisk.DecodeIndexHeader(b.Bytes())
	if err == nil {
		err = x.header.Check(exactly(cfg.Space, x.header.Space), cfg.Offset)
	}
	if err != nil {
		return nil, x.failed("open", err)
	}
	x.sizes = x.header.Geometry()
	if !x.sizes.Legal() {
		return nil, x.fail("open", leases.Invalid, fmt.Errorf(
			"its header states sectors of %d bytes and areas of %d, which cannot be", x.sizes.Sector, x.sizes.Align))
	}
	return x, nil
}

// exactly makes a check strict that takes an empty name for any: an empty name then matches an empty one
// only.
func exactly(want, got leases.Name) leases.Name {
	if want.IsEmpty() && !got.IsEmpty() {
		want[0] = ^got[0] | 1
	}
	return want
}

// Geometry returns the sizes that the header states.
func (x *Index) Geometry() ondisk.Geometry { return x.sizes }

// leaseAt is the byte offset of the index's own lease.
func (x *Index) leaseAt() uint64 { return x.cfg.Offset + uint64(x.sizes.Align) }

// entries is the index area as it was read.
type entries struct {
	*device.Buffer
	x *Index
}

// load reads the index area. The caller releases it.
func (x *Index) load(ctx context.Context) (entries, error) {
	b, err := x.read(ctx, x.cfg.Offset, x.sizes.Align)
	return entries{b, x}, err
}

func (e entries) at(n uint32) ondisk.IndexEntry {
	entry, err := ondisk.DecodeIndexEntry(e.Bytes()[e.x.sizes.EntryOffset(n):])
	if err != nil {
		panic(err) // IndexHeader.Entries never says more than fit into the area
	}
	return entry
}

// find returns the first entry that want accepts.
func (e entries) find(want func(entry ondisk.IndexEntry) bool) (uint32, bool) {
	for n := range e.x.header.Entries() {
		if want(e.at(n)) {
			return n, true
		}
	}
	return 0, false
}

// named accepts the entries of a name that is not empty.
func named(name leases.Name) func(ondisk.IndexEntry) bool {
	return func(e ondisk.IndexEntry) bool { return !name.IsEmpty() && e.Name.Equal(name) }
}

// number returns which entry stands for a resource's offset. Stock does not test that there is one, and reads
// or writes beyond its buffer.
func (x *Index) number(offset uint64) (uint32, error) {
	n, ok := x.sizes.EntryOf(x.cfg.Offset, offset)
	if !ok || n >= uint64(x.header.Entries()) || offset%uint64(x.sizes.Align) != 0 {
		return 0, &ondisk.FormatError{
			Record: "rindex entry", Field: "offset", Got: offset, Want: x.sizes.EntryResource(x.cfg.Offset, 0),
			Kind: leases.IndexOffset,
		}
	}
	return uint32(n), nil
}

var (
	errNoEntry = errors.New("the index has no such entry")
	errNoRoom  = errors.New("no entry of the index is free")
	errNoPlace = errors.New("an offset must be given, and a name to add")
)

// Lookup returns the entry of a name, or of an offset, or of an offset if it has that name; with neither the
// first free offset. Kind NotFound: there is none; IndexOffset: no entry can stand for the offset;
// IndexDiffer, together with the entry: it has another name.
func (x *Index) Lookup(ctx context.Context, name leases.Name, offset uint64) (ondisk.IndexEntry, error) {
	fail := func(err error) (ondisk.IndexEntry, error) { return ondisk.IndexEntry{}, x.failed("look into", err) }
	all, err := x.load(ctx)
	if err != nil {
		return fail(err)
	}
	defer all.Release()
	if offset == 0 {
		want := named(name)
		if name.IsEmpty() {
			want = func(e ondisk.IndexEntry) bool { return e.IsFree() }
		}
		n, ok := all.find(want)
		if !ok {
			return ondisk.IndexEntry{}, x.fail("look into", leases.NotFound, errNoEntry)
		}
		return ondisk.IndexEntry{Offset: x.place(n), Name: name}, nil
	}
	n, err := x.number(offset)
	if err != nil {
		return fail(err)
	}
	e := ondisk.IndexEntry{Offset: offset, Name: all.at(n).Name}
	if !name.IsEmpty() && !e.Name.Equal(name) {
		return e, x.failed("look into", &ondisk.FormatError{
			Record: "rindex entry", Field: "name", GotName: e.Name.String(), WantName: name.String(),
			Kind: leases.IndexDiffer,
		})
	}
	return e, nil
}

// place is the byte offset of the resource that entry n stands for.
func (x *Index) place(n uint32) uint64 { return x.sizes.EntryResource(x.cfg.Offset, n) }

// CheckUpdate returns the errors of Update that need no look at the entries.
func (x *Index) CheckUpdate(e ondisk.IndexEntry, free bool) error {
	if e.Offset == 0 || e.Name.IsEmpty() && !free {
		return x.fail("update", leases.Invalid, errNoPlace)
	}
	if _, err := x.number(e.Offset); err != nil {
		return x.failed("update", err)
	}
	return nil
}

// Update makes the entry of e.Offset say e.Name, or frees it. It looks at no resource: it is for repairs.
// Kind Invalid: no offset, or no name to add; IndexOffset: no entry can stand for the offset.
func (x *Index) Update(ctx context.Context, e ondisk.IndexEntry, free bool) (ondisk.IndexEntry, error) {
	fail := func(err error) (ondisk.IndexEntry, error) { return ondisk.IndexEntry{}, x.failed("update", err) }
	if err := x.CheckUpdate(e, free); err != nil {
		return ondisk.IndexEntry{}, err
	}
	n, err := x.number(e.Offset)
	if err != nil {
		return fail(err)
	}
	all, err := x.load(ctx)
	if err != nil {
		return fail(err)
	}
	defer all.Release()
	set := ondisk.IndexEntry{}
	if !free {
		set = ondisk.IndexEntry{Offset: e.Offset, Name: e.Name}
	}
	if err := x.put(ctx, n, all.at(n), set); err != nil {
		return fail(err)
	}
	return set, nil
}

var errChanged = errors.New("somebody changed the index without holding its lease, try again")

// put replaces an entry, and nothing else of its sector, which is read anew: stock updates entries without
// holding the lease.
func (x *Index) put(ctx context.Context, n uint32, was, set ondisk.IndexEntry) error {
	at := x.sizes.EntryOffset(n)
	start := at - at%int64(x.sizes.Sector)
	b, err := x.read(ctx, x.cfg.Offset+uint64(start), x.sizes.Sector)
	if err != nil {
		return err
	}
	defer b.Release()
	now, err := ondisk.DecodeIndexEntry(b.Bytes()[at-start:])
	if err != nil {
		return err
	}
	if now != was {
		return &leases.Error{Op: "write", Space: x.cfg.Space.String(), Kind: leases.Again, Err: errChanged}
	}
	set.Encode(b.Bytes()[at-start:])
	return x.write(ctx, x.cfg.Offset+uint64(start), b.Bytes())
}

// read returns n bytes, to be released by the caller.
func (x *Index) read(ctx context.Context, off uint64, n int) (*device.Buffer, error) {
	if off > maxOffset {
		return nil, x.fail("read", leases.Invalid, fmt.Errorf("offset %d is beyond any device", off))
	}
	ctx, cancel := context.WithTimeout(ctx, x.cfg.Times.OneIO())
	defer cancel()
	return x.cfg.Device.Read(ctx, int64(off), n)
}

// write writes a copy of p. Until it is known to have ended the range counts as dirty.
func (x *Index) write(ctx context.Context, off uint64, p []byte) error {
	limit := x.cfg.Times.OneIO()
	if len(p) == x.sizes.Align {
		limit = max(limit, resource.FormatTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b := device.NewBuffer(len(p))
	copy(b.Bytes(), p)
	s := span{int64(off), int64(len(p))}
	err := x.cfg.Device.Write(ctx, s.off, b)
	if err != nil && !slices.Contains(x.dirty, s) {
		x.dirty = append(x.dirty, s)
	}
	return err
}
