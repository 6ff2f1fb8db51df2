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
type Lease struct {
	cfg    Config
	last   ondisk.Leader // what this process knows to be in the sector
	sure   bool          // the last write was answered: the sector must hold exactly last
	late   *device.Late  // a renewal read that has missed its deadline
	lateN  int           // its length
	used   uint64        // highest host id ever seen in use
	sparse int           // renewals since the whole area was read
}

// New checks the configuration. leases.Invalid: io_timeout is not 1 to 255 seconds, or the name does not fit.
func New(cfg Config) (*Lease, error) {
	l := &Lease{cfg: cfg}
	switch {
	case cfg.Times.IO < 1 || cfg.Times.IO > timeouts.MaxIO:
		return nil, l.fail("join", leases.Invalid,
			fmt.Errorf("io_timeout %d: the disk has room for 1 to %d seconds", cfg.Times.IO, timeouts.MaxIO))
	case !leases.Fits(cfg.HostName):
		return nil, l.fail("join", leases.Invalid,
			fmt.Errorf("host name %q: must have 1 to 47 bytes, or a rejoin would be taken for another host", cfg.HostName))
	case cfg.Host < 1 || uint64(cfg.Host) > cfg.Geometry.MaxHosts():
		return nil, l.fail("join", leases.BadHostID,
			fmt.Errorf("host id %d: this lockspace has room for 1 to %d", cfg.Host, cfg.Geometry.MaxHosts()))
	}
	return l, nil
}

// Claim is a host id that was acquired.
type Claim struct {
	Owner  leases.Owner
	At     monotime.Instant // before the claim was written: the lease counts from here
	Waited timeouts.Set     // of the record that was found, by which the waits were measured
}

// Acquire takes the host id (spec ondisk 3.2). It takes 2 io_timeouts for a free id or one that this host held
// under the same name, and first 8 io_timeouts and the fire time for one of another name that then turns out
// to be silent. leases.HostIDBusy: somebody lives there. leases.Aborted: ctx ended during a wait.
func (l *Lease) Acquire(ctx context.Context) (Claim, error) {
	if err := l.cfg.Device.Settle(ctx, l.at(), l.cfg.Geometry.Sector); err != nil {
		return Claim{}, l.fault("join", err)
	}
	found, err := l.readOwn(ctx)
	if err != nil {
		return Claim{}, err
	}
	theirs := timeouts.Of(uint32(found.IOTimeout), l.cfg.Times.IO, l.cfg.Times.Fire)
	if found.Timestamp != 0 && !found.ResourceName.Equal(leases.NameOf(l.cfg.HostName)) {
		if found, err = l.outwait(ctx, found, theirs); err != nil {
			return Claim{}, err
		}
	}
	at := l.cfg.Clock.Now()
	mine := found
	mine.Timestamp = stamp(at)
	mine.IOTimeout = uint16(l.cfg.Times.IO)
	mine.OwnerID, mine.OwnerGeneration = uint64(l.cfg.Host), found.OwnerGeneration+1
	mine.ResourceName = leases.NameOf(l.cfg.HostName)
	if err := l.put(ctx, l.cfg.Times.OneIO(), &mine, nil); err != nil {
		return Claim{}, l.fault("join", err)
	}
	// Both io_timeouts count: a rival that read the same record waits by it, one with our timeout by ours.
	if err := sleep(ctx, max(theirs.ShortDelay(), l.cfg.Times.ShortDelay())); err != nil {
		return Claim{}, l.fail("join", leases.Aborted, err)
	}
	now, err := l.readOwn(ctx)
	if err != nil {
		return Claim{}, err
	}
	if now != mine {
		return Claim{}, l.fail("join", leases.HostIDBusy, fmt.Errorf(
			"%q took host id %d at the same time; give each host an id of its own", now.ResourceName, l.cfg.Host))
	}
	l.last, l.sure, l.used = mine, true, uint64(l.cfg.Host)
	l.sparse = sparseReads // the first renewal reads everything
	owner := leases.Owner{Host: l.cfg.Host, Generation: leases.Generation(mine.OwnerGeneration)}
	return Claim{Owner: owner, At: at, Waited: theirs}, nil
}

// outwait waits until the other name in our sector must have been reset by its watchdog, and looks whether it
// has moved meanwhile.
func (l *Lease) outwait(ctx context.Context, found ondisk.Leader, theirs timeouts.Set) (ondisk.Leader, error) {
	if err := sleep(ctx, theirs.HostDead()); err != nil {
		return found, l.fail("join", leases.Aborted, err)
	}
	now, err := l.readOwn(ctx)
	if err != nil {
		return found, err
	}
	if now != found && now.Timestamp != 0 {
		return found, l.fail("join", leases.HostIDBusy, fmt.Errorf(
			"host id %d is in use by %q, which renews it; give each host an id of its own", l.cfg.Host, now.ResourceName))
	}
	return now, nil
}

// Release frees the host id: one write, no read, and only if the last renewal is known to have succeeded.
// Otherwise the sector is left to time out, and Release returns nil as well.
func (l *Lease) Release(ctx context.Context) error {
	if !l.sure {
		return nil
	}
	l.sure = false
	free := l.last
	free.Timestamp = 0
	if err := l.put(ctx, l.cfg.Times.OneIO(), &free, nil); err != nil {
		return l.fault("leave", err)
	}
	l.last = free
	return nil
}

// at is the byte offset of our sector.
func (l *Lease) at() int64 { return l.cfg.Offset + l.cfg.Geometry.DeltaOffset(uint64(l.cfg.Host)) }

func (l *Lease) readOwn(ctx context.Context) (ondisk.Leader, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Times.OneIO())
	defer cancel()
	b, err := l.cfg.Device.Read(ctx, l.at(), l.cfg.Geometry.Sector)
	if err != nil {
		return ondisk.Leader{}, l.fault("join", err)
	}
	defer b.Release()
	leader, err := ondisk.DecodeLeader(b.Bytes())
	if err == nil {
		err = leader.CheckDelta(l.cfg.Space)
	}
	if err == nil {
		err = checkKnown(&leader, l.cfg.AllowUnknownFlags)
	}
	if err != nil {
		return leader, l.fault("join", err)
	}
	return leader, nil
}

// put writes the record and a bitmap (nil: zeros) into our sector.
func (l *Lease) put(ctx context.Context, limit time.Duration, leader *ondisk.Leader, bitmap func([]byte)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b := device.NewBuffer(l.cfg.Geometry.Sector)
	leader.Encode(b.Bytes())
	if bitmap != nil {
		bitmap(b.Bytes())
	}
	return l.cfg.Device.Write(ctx, l.at(), b)
}

// stamp is the timestamp of an instant: never 0, which would mean free (spec ondisk 2.8).
func stamp(at monotime.Instant) uint64 { return max(1, uint64(at.Seconds())) }

// checkKnown refuses records of a newer sanlock: they may be leases that never time out.
func checkKnown(l *ondisk.Leader, allow bool) error {
	if allow || l.UnknownFlags() == 0 && l.Version&0xffff <= ondisk.DeltaVersion&0xffff {
		return nil
	}
	return &ondisk.FormatError{
		Record: "delta leader", Field: "flags or version (a newer sanlock made this lockspace)",
		Got: uint64(l.Flags)<<32 | uint64(l.Version), Want: ondisk.DeltaVersion, Kind: leases.Corrupt,
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
	case errors.As(err, &op) && op.Timeout():
		return leases.Timeout
	}
	return leases.IO
}
