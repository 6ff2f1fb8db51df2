package delta

import (
	"context"
	"errors"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
)

// A renewal reads the sectors of the host ids that are known to be in use, and a few more. Every few
// renewals all sectors are looked at, so that a new host id is found before long. Stock reads the whole area
// each time (io-cost 4.6). Pieces are small, because a host may have hundreds of lockspaces.
const (
	sweepEvery = 3         // renewals between two looks at the whole area
	margin     = 8         // sectors beyond the highest used one that are read along
	piece      = 256 << 10 // bytes of the largest read
)

// extent is a range of bytes within the area.
type extent struct {
	off int64
	n   int
}

// head is the length of the sectors that every renewal looks at.
func (l *Lease) head() int64 {
	return int64(l.cfg.Geometry.Sector) * int64(min(l.used+margin, l.cfg.Geometry.MaxHosts()))
}

// around returns the piece of the head that holds our own sector.
func (l *Lease) around() extent {
	off := l.cfg.Geometry.DeltaOffset(uint64(l.cfg.Host)) / piece * piece
	return extent{off, int(min(piece, l.head()-off))}
}

// readAround reads the piece with our own sector. The answer to a read that missed its deadline is waited for
// a little in the next renewal and used then; if it does not come it is left behind.
func (l *Lease) readAround(ctx context.Context) (*device.Buffer, extent, error) {
	if late := l.late; late != nil {
		l.late = nil
		wait, cancel := context.WithTimeout(ctx, l.cfg.ReadExtend)
		b, err := late.Wait(wait)
		cancel()
		if err == nil {
			return b, l.lateAt, nil
		}
		if ctx.Err() != nil {
			return nil, extent{}, ctx.Err()
		}
	}
	at := l.around()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Times.OneIO())
	defer cancel()
	b, err := l.cfg.Device.Read(ctx, l.cfg.Offset+at.off, at.n)
	if op, ok := errors.AsType[*device.OpError](err); ok && op.Timeout() {
		l.late, l.lateAt = op.Late, at
	}
	return b, at, err
}

// Watch shows observe the sectors that the renewal before it did not read: the rest of the host ids in use
// and, every few renewals, of all; then it returns true: nobody has any other host id. It takes at most one
// io_timeout. An error only means that less was seen.
func (l *Lease) Watch(ctx context.Context, observe Observer) (all bool, err error) {
	end, sweep := l.head(), l.swept+1 >= sweepEvery
	if sweep {
		end = int64(l.cfg.Geometry.Sector) * int64(l.cfg.Geometry.MaxHosts())
	}
	l.swept++
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Times.OneIO())
	defer cancel()
	for off := int64(0); off < end; off += piece {
		at := extent{off, int(min(piece, end-off))}
		if at.off == l.read.off {
			at.off, at.n = at.off+int64(l.read.n), at.n-l.read.n
		}
		if at.n <= 0 {
			continue
		}
		b, err := l.cfg.Device.Read(ctx, l.cfg.Offset+at.off, at.n)
		if err != nil {
			return false, l.fault("watch the hosts of", err)
		}
		l.show(b.Bytes(), at, observe)
		b.Release()
	}
	if sweep {
		l.swept = 0
	}
	return sweep, nil
}

// Look shows observe the sectors of all host ids that were ever in use, as they are now. It may be called at any
// time, beside a renewal too. It ends with ctx; an error only means that less was seen.
func (l *Lease) Look(ctx context.Context, observe Observer) error {
	end := int64(l.cfg.Geometry.Sector) * int64(l.cfg.Geometry.MaxHosts())
	for off := int64(0); off < end; off += piece {
		at := extent{off, int(min(piece, end-off))}
		b, err := l.cfg.Device.Read(ctx, l.cfg.Offset+at.off, at.n)
		if err != nil {
			return l.fault("look at the hosts of", err)
		}
		l.each(b.Bytes(), at, func(id leases.HostID, sector []byte) {
			if inUse(sector) {
				observe(id, sector)
			}
		})
		b.Release()
	}
	return nil
}

// show hands out the sectors of the host ids that were ever in use and remembers the highest.
func (l *Lease) show(p []byte, at extent, observe Observer) {
	l.each(p, at, func(id leases.HostID, sector []byte) {
		if uint64(id) > l.used && !inUse(sector) {
			return
		}
		l.used = max(l.used, uint64(id))
		observe(id, sector)
	})
}

// each calls f with the sectors of an extent that belong to host ids.
func (l *Lease) each(p []byte, at extent, f Observer) {
	size := l.cfg.Geometry.Sector
	first := uint64(at.off)/uint64(size) + 1
	for i := range at.n / size {
		if id := first + uint64(i); id <= l.cfg.Geometry.MaxHosts() {
			f(leases.HostID(id), p[i*size:(i+1)*size])
		}
	}
}

// inUse reports whether a sector has ever had an owner: owner id or timestamp is set, whatever else it holds.
func inUse(sector []byte) bool {
	return [8]byte(sector[32:40]) != [8]byte{} || [8]byte(sector[152:160]) != [8]byte{}
}
