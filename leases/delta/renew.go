package delta

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// Extra is what a renewal carries for other hosts (spec ondisk 3.6).
type Extra struct {
	Event  [3]uint64       // generation, event, data
	Bitmap []leases.HostID // whose bits are raised
}

// Renewal is what a renewal came to.
type Renewal struct {
	At        monotime.Instant // before the write: expiry must never be counted from later
	ReadTook  time.Duration
	WriteTook time.Duration
}

// Observer is shown the sector of a host id. It must not keep the bytes.
type Observer func(host leases.HostID, sector []byte)

// Renew reads our sector and those around it, makes sure that it is still ours, and writes a new timestamp
// (spec ondisk 3.3). What was read is shown to observe, even when the write then fails.
//
// leases.RenewOwner, RenewDiffer, BadMagic, BadVersion, BadChecksum, WrongSpace: the sector is not ours any
// more, and nothing was written; there is no way back. Anything else may be tried again.
func (l *Lease) Renew(ctx context.Context, extra Extra, observe Observer) (Renewal, error) {
	var r Renewal
	l.held = false // until this renewal has succeeded
	began := l.cfg.Clock.Now()
	b, at, err := l.readAround(ctx)
	r.ReadTook = l.cfg.Clock.Now().Sub(began)
	if err != nil {
		return r, l.fault("renew", err)
	}
	l.read = at
	err = l.checkOwn(b.Bytes()[l.cfg.Geometry.DeltaOffset(uint64(l.cfg.Host))-at.off:])
	if err == nil {
		l.show(b.Bytes(), at, observe)
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
	err = l.put(ctx, l.cfg.Times.RenewalWrite(), &mine, extra.Bitmap)
	r.WriteTook = l.cfg.Clock.Now().Sub(r.At)
	if err != nil {
		l.sure = l.sure && untouched(err)
		return r, l.fault("renew", err)
	}
	l.last, l.sure, l.held = mine, true, true
	return r, nil
}

// checkOwn compares our sector with what we wrote. After a write whose end was not seen only the owner can
// be compared: the sector may hold the record before or after it.
func (l *Lease) checkOwn(sector []byte) error {
	leader, err := ondisk.DecodeLeader(sector)
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
	if l.sure && leader != l.last {
		return l.fail("renew", leases.RenewDiffer,
			errors.New("our sector is not what we wrote; something else writes to this device"))
	}
	return nil
}
