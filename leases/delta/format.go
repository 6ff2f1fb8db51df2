package delta

import (
	"context"
	"fmt"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// FormatTimeout bounds each write of a formatting (spec ondisk 6.4).
const FormatTimeout = 60 * time.Second

// Format writes a new lockspace area: first all of it with the first sector's magic missing, so that nobody
// joins half of it, then that sector (spec ondisk 6.8). ioTimeout is in seconds. The generations of the host
// ids start anew, so the resources must be formatted as well (9.20). leases.Invalid: the sizes are not legal.
func Format(
	ctx context.Context, dev device.Device, off int64, g ondisk.Geometry, space leases.Name, ioTimeout uint16,
) error {
	if !g.Legal() {
		return &leases.Error{
			Op: "format", Space: space.String(), Kind: leases.Invalid,
			Err: fmt.Errorf("no lockspace has areas of %d bytes with sectors of %d", g.Align, g.Sector),
		}
	}
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
