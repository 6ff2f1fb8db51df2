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
	"github.com/tenurelock/tenure/leases/timeouts"
)

// Config says which sector, where, and who we are.
type Config struct {
	Device   device.Device
	Offset   int64 // of the lockspace area, bytes
	Geometry ondisk.Geometry
	Space    leases.Name
	Host     leases.HostID
	HostName string       // tells a restart of this host from another host with the same id
	Times    timeouts.Set // our own
	Clock    monotime.Clock

	ReadExtend        time.Duration // how much longer a renewal waits for the late read of the one before
	AllowUnknownFlags bool          // go on although the record carries flags of a newer sanlock
}

// Lease is a host's own sector. It is not safe for concurrent use.
//
// Invariants: last is the record that our last write is known to have left in the sector. sure means that no
// later write of ours may have changed it since. held means that the last renewal succeeded.
type Lease struct {
	cfg  Config
	last ondisk.Leader
	sure bool
	held bool

	late   *device.Late // a renewal's read that has missed its deadline
	lateAt extent       // what it reads
	read   extent       // what the last renewal read
	used   uint64       // highest host id ever seen in use
	swept  int          // looks at the hosts since one at all of them
}

// New checks the configuration. leases.Invalid: io_timeout is not 1 to 255 seconds, or a name does not fit,
// or the device's sectors are larger than the lockspace's. leases.BadHostID: there is no room for the host
// id.
func New(cfg Config) (*Lease, error) {
	l := &Lease{cfg: cfg, swept: sweepEvery}
	switch {
	case cfg.Times.IO < 1 || cfg.Times.IO > timeouts.MaxIO:
		return nil, l.fail("join", leases.Invalid,
			fmt.Errorf("io_timeout %d: the disk has room for 1 to %d seconds", cfg.Times.IO, timeouts.MaxIO))
	case !leases.Fits(cfg.HostName):
		return nil, l.fail("join", leases.Invalid,
			fmt.Errorf("host name %q: must have 1 to 47 bytes, or a rejoin would be taken for another host",
				cfg.HostName))
	case cfg.Space.IsEmpty():
		return nil, l.fail("join", leases.Invalid, errors.New("a lockspace needs a name"))
	case cfg.Host < 1 || uint64(cfg.Host) > cfg.Geometry.MaxHosts():
		return nil, l.fail("join", leases.BadHostID,
			fmt.Errorf("host id %d: this lockspace has room for 1 to %d", cfg.Host, cfg.Geometry.MaxHosts()))
	case cfg.Device.Geometry().SectorSize > cfg.Geometry.Sector:
		return nil, l.fail("join", leases.Invalid, fmt.Errorf(
			"sectors of %d bytes on a device that has %d; format the lockspace for this device",
			cfg.Geometry.Sector, cfg.Device.Geometry().SectorSize))
	}
	return l, nil
}

// Release frees the host id: one write, no read, and only if the last renewal is known to have succeeded.
// Otherwise the sector is left to time out, and Release returns nil as well. The caller must be sure that the
// lease has not expired: by then the sector may be another host's, and nothing is read here that would tell.
// After leases.Timeout the sector may still come to be freed.
func (l *Lease) Release(ctx context.Context) error {
	if !l.held {
		return nil
	}
	l.held, l.sure = false, false
	free := l.last
	free.Timestamp = 0
	if err := l.put(ctx, l.cfg.Times.OneIO(), &free, nil); err != nil {
		return l.fault("leave", err)
	}
	l.last, l.sure = free, true
	return nil
}

// at is the byte offset of our sector.
func (l *Lease) at() int64 { return l.cfg.Offset + l.cfg.Geometry.DeltaOffset(uint64(l.cfg.Host)) }

// put writes the record and the bits of some hosts into our sector.
func (l *Lease) put(ctx context.Context, limit time.Duration, r *ondisk.Leader, bits []leases.HostID) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b := device.NewBuffer(l.cfg.Geometry.Sector)
	r.Encode(b.Bytes())
	for _, h := range bits {
		ondisk.BitmapSet(b.Bytes(), uint64(h))
	}
	return l.cfg.Device.Write(ctx, l.at(), b)
}

// stamp is the timestamp of an instant: never 0, which would mean free (spec ondisk 2.8).
func stamp(at monotime.Instant) uint64 { return max(1, uint64(at.Seconds())) }

// checkKnown refuses records of a newer sanlock: they may be leases that never time out (spec ondisk 8).
func checkKnown(l *ondisk.Leader, allow bool) error {
	if allow || l.UnknownFlags() == 0 {
		return nil
	}
	return &ondisk.FormatError{
		Record: "delta leader",
		Field:  "flags (made by a newer sanlock, whose leases may never time out)",
		Got:    uint64(l.Flags), Want: uint64(l.Flags &^ l.UnknownFlags()),
		Kind: leases.Corrupt,
	}
}

// checkTimed refuses to judge by its silence a host whose record has a newer minor version than we know.
func checkTimed(l *ondisk.Leader, allow bool) error {
	if allow || l.Version&0xffff <= ondisk.DeltaVersion&0xffff {
		return nil
	}
	return &ondisk.FormatError{
		Record: "delta leader", Field: "version (held by a newer sanlock, whose leases may never time out)",
		Got: uint64(l.Version), Want: ondisk.DeltaVersion, Kind: leases.Corrupt,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Lease) fail(op string, kind leases.Kind, err error) error {
	return &leases.Error{Op: op, Space: l.cfg.Space.String(), Kind: kind, Err: err}
}

func (l *Lease) fault(op string, err error) error { return l.fail(op, FaultKind(err), err) }

// FaultKind is the kind of a transfer that failed, or of a record that does not verify.
func FaultKind(err error) leases.Kind {
	var format *ondisk.FormatError
	var op *device.OpError
	var lease *leases.Error
	switch {
	case errors.As(err, &lease):
		return lease.Kind
	case errors.As(err, &format):
		return format.Kind
	case errors.Is(err, context.Canceled):
		return leases.Aborted
	case errors.Is(err, device.ErrShort):
		return leases.ShortTransfer
	case errors.Is(err, device.ErrStuck):
		return leases.Stuck
	case errors.Is(err, device.ErrMisaligned):
		return leases.Invalid
	case errors.As(err, &op) && op.Timeout():
		return leases.Timeout
	}
	return leases.IO
}

// untouched reports whether a write that failed has certainly left the sector alone, for ever.
func untouched(err error) bool {
	op, ok := errors.AsType[*device.OpError](err)
	return ok && !op.Started
}
