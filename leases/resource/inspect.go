package resource

import (
	"context"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// FormatTimeout bounds each write of a formatting (spec ondisk 6.4).
const FormatTimeout = 60 * time.Second

// Holder is an owner as read from the disk.
type Holder struct {
	leases.Owner
	Mode      leases.Mode
	Timestamp uint64 // seconds of the owner's clock, exclusive only
}

// Inspect reads the leader at a place without being told what to expect: names that are empty match any.
// times bounds the transfer (OneIO). The errors are those of the checks: BadMagic, WrongSpace, ….
func Inspect(
	ctx context.Context, d Disk, space, name leases.Name, times timeouts.Set,
) (ondisk.Leader, error) {
	fail := func(err error) (ondisk.Leader, error) {
		return ondisk.Leader{}, &leases.Error{
			Op: "read", Space: space.String(), Resource: name.String(), Kind: causeKind(err), Err: err,
		}
	}
	ctx, cancel := context.WithTimeout(ctx, times.OneIO())
	defer cancel()
	b, err := d.Device.Read(ctx, d.Offset, ondisk.ProbeLength)
	if err != nil {
		return fail(err)
	}
	defer b.Release()
	leader, err := ondisk.DecodeLeader(b.Bytes())
	if err == nil {
		err = leader.CheckPaxos(space, name, 0)
	}
	if err != nil {
		return fail(err)
	}
	return leader, nil
}

// Owners tells who holds the lease: the exclusive owner, then the shared holders by host id. An owner whose
// leader another host wrote, and who has marked its block released, holds nothing (spec ondisk 9.8); stock
// lists it all the same.
func (l *Lease) Owners(ctx context.Context) (ondisk.Leader, []Holder, error) {
	if !l.sized && len(l.cfg.Disks) > 1 {
		if _, err := l.ReadLeader(ctx); err != nil {
			return ondisk.Leader{}, nil, err
		}
	}
	v, err := l.view(ctx, 0, terms{}, everyBlock)
	if err != nil {
		return ondisk.Leader{}, nil, l.fail("read the owners of", causeKind(err), err)
	}
	var all []Holder
	if r := v.Record; !r.Free() {
		// CheckSane has seen that the owner has a block, and cover that it was read.
		b := v.Blocks[r.Owner.Host-1]
		returned := b.Round > r.Round || b.Released && (b.Round == r.Round || b.Round == 0)
		if r.Writer == r.Owner.Host || !returned {
			all = append(all, Holder{Owner: owner(r.Owner), Mode: leases.Exclusive, Timestamp: r.Owner.Timestamp})
		}
	}
	for i, b := range v.Blocks {
		if b.Shared {
			o := leases.Owner{Host: leases.HostID(i + 1), Generation: leases.Generation(b.SharedGeneration)}
			all = append(all, Holder{Owner: o, Mode: leases.Shared})
		}
	}
	return l.leaders[0], all, nil
}

// Format writes a new, free resource area in one write of the area's size.
func Format(
	ctx context.Context, d Disk, g ondisk.Geometry, space, name leases.Name, numHosts uint64,
) error {
	return putArea(ctx, d, "format", space, name, ondisk.FormatResource(g, space, name, numHosts))
}

// Clear writes an area that says that the resource is no more. now is our clock in seconds.
func Clear(
	ctx context.Context, d Disk, g ondisk.Geometry, space, name leases.Name, numHosts, now uint64,
) error {
	return putArea(ctx, d, "clear", space, name, ondisk.ClearResource(g, space, name, numHosts, now))
}

func putArea(ctx context.Context, d Disk, op string, space, name leases.Name, area []byte) error {
	ctx, cancel := context.WithTimeout(ctx, FormatTimeout)
	defer cancel()
	b := device.NewBuffer(len(area))
	copy(b.Bytes(), area)
	if err := d.Device.Write(ctx, d.Offset, b); err != nil {
		return &leases.Error{
			Op: op, Space: space.String(), Resource: name.String(), Kind: causeKind(err), Err: err,
		}
	}
	return nil
}
