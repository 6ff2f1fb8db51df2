package rindex

import (
	"bytes"
	"context"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// Rebuild makes the entries say what lies where the index can have resources: the leases of its lockspace
// that verify. Stock lists everything with the right magic. Sectors that say so already are not written, and
// none is before all places have been read, so that a fault loses nothing; one half-way through is repaired
// by the next rebuild.
func (x *Index) Rebuild(ctx context.Context) error {
	all, err := x.load(ctx)
	if err != nil {
		return x.failed("rebuild", err)
	}
	defer all.Release()
	area := bytes.Clone(all.Bytes())
	clear(area[x.sizes.Sector:])
	for n := range x.header.Entries() {
		b, err := x.read(ctx, x.place(n), x.sizes.Sector)
		if kindOf(err) == leases.ShortTransfer {
			break // the end of the device
		}
		if err != nil {
			return x.failed("rebuild", err)
		}
		l, err := ondisk.DecodeLeader(b.Bytes())
		b.Release()
		if err != nil || l.CheckPaxos(x.header.Space, leases.Name{}, 0) != nil {
			continue
		}
		e := ondisk.IndexEntry{Offset: x.place(n), Name: l.ResourceName}
		e.Encode(area[x.sizes.EntryOffset(n):])
	}
	for at := x.sizes.Sector; at < len(area); at += x.sizes.Sector {
		sector := area[at : at+x.sizes.Sector]
		if bytes.Equal(sector, all.Bytes()[at:at+x.sizes.Sector]) {
			continue
		}
		if err := x.write(ctx, x.cfg.Offset+uint64(at), sector); err != nil {
			return x.failed("rebuild", err)
		}
	}
	return nil
}
