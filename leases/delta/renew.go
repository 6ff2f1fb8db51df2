package delta

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// A renewal reads the sectors of the host ids that are known to be in use, and every few times the whole
// area, so that a new host id is found soon. Stock reads the whole area each time (io-cost 4.6).
const (
	sparseReads  = 2 // renewals between two that read everything
	sparseMargin = 8 // sectors beyond the highest used one that are read along
)

// Extra is what a renewal carries for other hosts (spec ondisk 3.6).
type Extra struct {
	Event  [3]uint64       // generation, event, data
	Bitmap []leases.HostID // whose bits are set
}

// Renewal is what a renewal that succeeded came to.
type Renewal struct {
	At        monotime.Instant // before the write: expiry must never be counted from later
	ReadTook  time.Duration
	WriteTook time.Duration
}

// Renew reads, makes sure that the sector is still ours, and writes a new timestamp (spec ondisk 3.3). What was
// read is shown to observe, one sector of a host id in use at a time, even when the write then fails.
//
// leases.RenewOwner, RenewDiffer, BadMagic, BadVersion, BadChecksum, WrongSpace: the sector is not ours any
// more, and nothing was written; there is no way back. Anything else may be tried again.
func (l *Lease) Renew(ctx context.Context, extra Extra, observe func(leases.HostID, []byte)) (Renewal, error) {
	var r Renewal
	sure := l.sure
	l.sure = false // until this renewal has succeeded
	began := time.Now()
	b, n, err := l.readArea(ctx)
	r.ReadTook = time.Since(began)
	if err != nil {
		return r, l.fault("renew", err)
	}
	err = l.checkOwn(b.Bytes(), sure)
	if err == nil {
		l.show(b.Bytes(), n, observe)
	}
	b.Release()
	if err != nil {
		return r, err
	}
	r.At = l.cfg.Clock.Now()
	mine := l.last
	mine.Timestamp = stamp(r.At)
	mine.IOTimeout = uint16(l.cfg.Times.IO)
	mine.WriteID, mine.WriteGeneration, mine.WriteTimestamp = extra.Event[0], extra.Event[1], extra.Event[2]
	l.last = mine
	began = time.Now()
	err = l.put(ctx, l.cfg.Times.RenewalWrite(), &l.last, func(sector []byte) {
		for _, h := range extra.Bitmap {
			ondisk.BitmapSet(sector, uint64(h))
		}
	})
	r.WriteTook = time.Since(began)
	if err != nil {
		return r, l.fault("renew", err)
	}
	l.sure = true
	return r, nil
}

// readArea reads as many sectors as are wanted now. The answer to a read that missed its deadline is waited
// for a little in the next renewal and used then; if it does not come it is left behind.
func (l *Lease) readArea(ctx context.Context) (*device.Buffer, int, error) {
	if late := l.late; late != nil {
		l.late = nil
		wait, cancel := context.WithTimeout(ctx, l.cfg.ReadExtend)
		b, err := late.Wait(wait)
		cancel()
		if err == nil {
			return b, l.lateN, nil
		}
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
	}
	n := l.cfg.Geometry.Align
	if l.sparse < sparseReads {
		l.sparse++
		n = min(n, l.cfg.Geometry.Sector*int(l.used+sparseMargin))
	} else {
		l.sparse = 0
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Times.OneIO())
	defer cancel()
	b, err := l.cfg.Device.Read(ctx, l.cfg.Offset, n)
	if err != nil {
		l.sparse = sparseReads
		var op *device.OpError
		if errors.As(err, &op) && op.Timeout() {
			l.late, l.lateN = op.Late, n
		}
		return nil, 0, err
	}
	return b, n, nil
}

// checkOwn compares our sector with what we wrote. After a write whose end was not seen only the owner can
// be compared: the sector may hold the record before or after it.
func (l *Lease) checkOwn(area []byte, sure bool) error {
	leader, err := ondisk.DecodeLeader(area[l.cfg.Geometry.DeltaOffset(uint64(l.cfg.Host)):])
	if err == nil {
		err = leader.CheckDelta(l.cfg.Space)
	}
	if err != nil {
		return l.fault("renew", err)
	}
	if leader.OwnerID != l.last.OwnerID || leader.OwnerGeneration != l.last.OwnerGeneration ||
		leader.ResourceName != l.last.ResourceName {
		return l.fail("renew", leases.RenewOwner, fmt.Errorf(
			"our sector now belongs to %q, host %d generation %d; does another host use host id %d?",
			leader.ResourceName, leader.OwnerID, leader.OwnerGeneration, l.cfg.Host))
	}
	if sure && leader != l.last {
		return l.fail("renew", leases.RenewDiffer,
			errors.New("our sector is not what we wrote; something else writes to this device"))
	}
	return nil
}

// show hands out the sectors of the host ids in use and remembers the highest.
func (l *Lease) show(area []byte, n int, observe func(leases.HostID, []byte)) {
	size := l.cfg.Geometry.Sector
	last := min(uint64(n/size), l.cfg.Geometry.MaxHosts())
	for id := uint64(1); id <= last; id++ {
		sector := area[int(id-1)*size : int(id)*size]
		if !inUse(sector) && id > l.used {
			continue
		}
		l.used = max(l.used, id)
		observe(leases.HostID(id), sector)
	}
}

// inUse reports whether a sector has ever had an owner: owner id or timestamp is set, whatever else it holds.
func inUse(sector []byte) bool {
	return [8]byte(sector[32:40]) != [8]byte{} || [8]byte(sector[152:160]) != [8]byte{}
}
