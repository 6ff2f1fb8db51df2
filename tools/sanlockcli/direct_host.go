package sanlockcli

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// acquireID claims a host id, with all the waits of a join, and leaves it held when the program ends: it is
// for tests of other hosts, which see it fail and die.
func (d *direct) acquireID(ctx context.Context) error {
	if d.spaceDisk.path == "" {
		return errNoDevice
	}
	dev, g, err := d.openSpace(ctx, device.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	if d.host > g.MaxHosts() {
		// Stock takes the sector behind the last host id for one that is not formatted.
		return &ondisk.FormatError{
			Record: "delta leader", Field: "host_id", Got: d.host, Want: g.MaxHosts(), Kind: leases.BadMagic,
		}
	}
	off, err := offset(d.spaceDisk)
	if err != nil {
		return err
	}
	name := d.hostName
	if name == "" {
		name = newHostName()
	}
	lease, err := delta.New(delta.Config{
		Device: dev, Offset: off, Geometry: g, Space: d.space, Host: leases.HostID(d.host), HostName: name,
		Times: timeouts.Set{IO: d.seconds(), Fire: timeouts.DefaultFire}, Clock: d.clock,
	})
	if err != nil {
		return err
	}
	_, err = lease.Acquire(ctx)
	return err
}

// newHostName makes a name as the daemon does when it is given none: a random UUID and the node's name.
func newHostName() string {
	var u [16]byte
	rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	node, err := os.Hostname()
	if err != nil {
		node = "localhost"
	}
	name := fmt.Sprintf("%x-%x-%x-%x-%x.%s", u[:4], u[4:6], u[6:8], u[8:10], u[10:], node)
	return name[:min(len(name), leases.NameSize-1)]
}

// renewID writes a new timestamp into the sector of a host id that was claimed before.
func (d *direct) renewID(ctx context.Context) error {
	return d.changeOwn(ctx, func(l *ondisk.Leader) (bool, error) {
		switch l.OwnerID {
		case 0:
			return false, errInvalid
		case d.host:
		default:
			return false, &ondisk.FormatError{
				Record: "delta leader", Field: "owner_id", Got: l.OwnerID, Want: d.host, Kind: leases.RenewOwner,
			}
		}
		l.Timestamp = max(1, uint64(d.clock.Now().Seconds()))
		l.IOTimeout = uint16(d.seconds() & 0xff)
		return true, nil
	})
}

// releaseID frees the sector of a host id. If another host id is written there, nothing is done, and that is
// a success, as in stock.
func (d *direct) releaseID(ctx context.Context) error {
	return d.changeOwn(ctx, func(l *ondisk.Leader) (bool, error) {
		if l.OwnerID != d.host {
			return false, nil
		}
		l.Timestamp = 0
		return true, nil
	})
}

// changeOwn reads the host id's sector and writes it back, with an empty bitmap, if change says so.
func (d *direct) changeOwn(ctx context.Context, change func(l *ondisk.Leader) (bool, error)) error {
	if d.spaceDisk.path == "" {
		return errNoDevice
	}
	dev, g, err := d.openSpace(ctx, device.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	at, err := d.deltaAt(g.Sector)
	if err != nil {
		return err
	}
	l, err := d.record(ctx, dev, at, g.Sector)
	if err == nil {
		err = l.CheckDelta(expect(d.space, l.SpaceName))
	}
	if err != nil {
		return err
	}
	if write, err := change(&l); err != nil || !write {
		return err
	}
	sector := make([]byte, g.Sector)
	l.Encode(sector)
	return d.write(ctx, dev, at, sector)
}
