package delta

import (
	"context"
	"errors"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// FormatTimeout bounds each write of a formatting (spec ondisk 6.4).
const FormatTimeout = 60 * time.Second

// ReadSizes learns the sizes of the lockspace at off from the record of host id 1, of which only magic and
// major version are checked (spec ondisk 3.1), or, if that one is damaged, from another record that verifies:
// stock lets nobody join then (9.15). limit bounds each read. The errors are BadMagic, BadVersion,
// BadSectorSize, BadSizes.
func ReadSizes(
	ctx context.Context, dev device.Device, off int64, space leases.Name, limit time.Duration,
) (ondisk.Geometry, error) {
	g, err := readFirst(ctx, dev, off, limit)
	if err == nil {
		return g, nil
	}
	kind := FaultKind(err)
	if kind == leases.BadMagic || kind == leases.BadVersion {
		for _, try := range ondisk.Geometries() {
			if found, ok := searchSizes(ctx, dev, off, space, limit, try); ok {
				return found, nil
			}
		}
	}
	return g, &leases.Error{Op: "read the sizes of", Space: space.String(), Kind: kind, Err: err}
}

func readFirst(ctx context.Context, dev device.Device, off int64, limit time.Duration) (ondisk.Geometry, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := dev.Read(ctx, off, ondisk.ProbeLength)
	if err != nil {
		return ondisk.Geometry{}, err
	}
	defer b.Release()
	l, err := ondisk.DecodeLeader(b.Bytes())
	if err != nil {
		return ondisk.Geometry{}, err
	}
	if err := l.CheckDelta(leases.Name{}); err != nil && FaultKind(err) != leases.BadChecksum {
		return ondisk.Geometry{}, err
	}
	g := l.Geometry()
	switch {
	case g.Sector != 512 && g.Sector != 4096:
		return g, &ondisk.FormatError{
			Record: "delta leader", Field: "sector_size", Got: uint64(g.Sector), Want: 512, Kind: leases.BadSectorSize,
		}
	case !g.Legal():
		return g, &ondisk.FormatError{
			Record: "delta leader", Field: "align size", Got: uint64(g.Align), Want: ondisk.MiB, Kind: leases.BadSizes,
		}
	}
	return g, nil
}

// searchSizes looks for a record of the lockspace that verifies and states the sizes it was searched with.
func searchSizes(
	ctx context.Context, dev device.Device, off int64, space leases.Name, limit time.Duration, try ondisk.Geometry,
) (ondisk.Geometry, bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := dev.Read(ctx, off, try.Align)
	if err != nil {
		return try, false
	}
	defer b.Release()
	for id := uint64(2); id <= try.MaxHosts(); id++ {
		l, err := ondisk.DecodeLeader(b.Bytes()[try.DeltaOffset(id):])
		if err == nil && !space.IsEmpty() && l.CheckDelta(space) == nil && l.Geometry() == try {
			return try, true
		}
	}
	return try, false
}

// Read reads and checks the record of a host id; an empty space name matches any.
func Read(
	ctx context.Context, dev device.Device, off int64, g ondisk.Geometry, space leases.Name,
	host leases.HostID, limit time.Duration,
) (ondisk.Leader, error) {
	fail := func(err error) (ondisk.Leader, error) {
		return ondisk.Leader{}, &leases.Error{Op: "read", Space: space.String(), Kind: FaultKind(err), Err: err}
	}
	if host < 1 || uint64(host) > g.MaxHosts() {
		return fail(&leases.Error{Op: "read", Kind: leases.BadHostID, Err: errors.New("no such host id in this lockspace")})
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := dev.Read(ctx, off+g.DeltaOffset(uint64(host)), g.Sector)
	if err != nil {
		return fail(err)
	}
	defer b.Release()
	l, err := ondisk.DecodeLeader(b.Bytes())
	if err == nil {
		err = l.CheckDelta(space)
	}
	if err != nil {
		return fail(err)
	}
	return l, nil
}

// Format writes a new lockspace area: first all of it with the first sector's magic missing, so that nobody
// joins half of it, then that sector (spec ondisk 6.8). ioTimeout is in seconds.
func Format(
	ctx context.Context, dev device.Device, off int64, g ondisk.Geometry, space leases.Name, ioTimeout uint16,
) error {
	area := ondisk.FormatLockspace(g, space, ioTimeout)
	first := ondisk.HideLockspace(g, area)
	for _, p := range [][]byte{area, first} {
		b := device.NewBuffer(len(p))
		copy(b.Bytes(), p)
		if err := write(ctx, dev, off, b); err != nil {
			return &leases.Error{Op: "format", Space: space.String(), Kind: FaultKind(err), Err: err}
		}
	}
	return nil
}

func write(ctx context.Context, dev device.Device, off int64, b *device.Buffer) error {
	ctx, cancel := context.WithTimeout(ctx, FormatTimeout)
	defer cancel()
	return dev.Write(ctx, off, b)
}
