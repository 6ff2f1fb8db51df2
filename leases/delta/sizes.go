package delta

import (
	"context"
	"errors"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// ReadSizes learns the sizes of the lockspace at off from the record of host id 1 (spec ondisk 3.1), or, if
// that one does not verify, from another record that does: stock lets nobody join then (9.15). What stock
// takes from a damaged record of host id 1 is taken here only if there is no other. An empty space name
// matches any. limit bounds each read. The errors are BadMagic, BadVersion, BadSectorSize, BadSizes, and
// those of the device.
func ReadSizes(
	ctx context.Context, dev device.Device, off int64, space leases.Name, limit time.Duration,
) (ondisk.Geometry, error) {
	first, err := readFirst(ctx, dev, off, limit)
	// A record with a right checksum is not damaged, whatever else it is: that of an area which is just
	// being formatted lacks only the magic, and nobody may join there (spec ondisk 6.8).
	if err == nil && first.Checksum != first.Sum() {
		for _, try := range ondisk.Geometries() {
			if searchSizes(ctx, dev, off, space, limit, try) {
				return try, nil
			}
		}
	}
	if err == nil {
		err = checkSizes(&first)
	}
	if err != nil {
		err = &leases.Error{Op: "read the sizes of", Space: space.String(), Kind: FaultKind(err), Err: err}
	}
	return first.Geometry(), err
}

func readFirst(
	ctx context.Context, dev device.Device, off int64, limit time.Duration,
) (ondisk.Leader, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := dev.Read(ctx, off, ondisk.ProbeLength)
	if err != nil {
		return ondisk.Leader{}, err
	}
	defer b.Release()
	return ondisk.DecodeLeader(b.Bytes())
}

// checkSizes is what stock asks of the record of host id 1: neither name nor checksum.
func checkSizes(l *ondisk.Leader) error {
	var format *ondisk.FormatError
	err := l.CheckDelta(leases.Name{})
	if errors.As(err, &format) && format.Kind != leases.BadChecksum {
		return err
	}
	g := l.Geometry()
	switch {
	case g.Sector != 512 && g.Sector != 4096:
		return &ondisk.FormatError{
			Record: "delta leader", Field: "sector_size", Got: uint64(g.Sector), Want: 512,
			Kind: leases.BadSectorSize,
		}
	case !g.Legal():
		return &ondisk.FormatError{
			Record: "delta leader", Field: "align size", Got: uint64(g.Align), Want: ondisk.MiB,
			Kind: leases.BadSizes,
		}
	}
	return nil
}

// searchSizes reports whether the area, taken for one of the sizes in try, holds a record of the lockspace
// that verifies and states these sizes.
func searchSizes(
	ctx context.Context, dev device.Device, off int64, space leases.Name, limit time.Duration,
	try ondisk.Geometry,
) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	end := try.DeltaOffset(try.MaxHosts()) + int64(try.Sector)
	for at := int64(0); at < end; at += piece {
		b, err := dev.Read(ctx, off+at, int(min(piece, end-at)))
		if err != nil {
			return false
		}
		found := holdsRecord(b.Bytes(), space, try)
		b.Release()
		if found {
			return true
		}
	}
	return false
}

func holdsRecord(p []byte, space leases.Name, try ondisk.Geometry) bool {
	for ; len(p) >= try.Sector; p = p[try.Sector:] {
		l, err := ondisk.DecodeLeader(p)
		if err == nil && l.CheckDelta(space) == nil && l.Geometry() == try {
			return true
		}
	}
	return false
}
