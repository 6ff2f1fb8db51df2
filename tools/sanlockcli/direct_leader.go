package sanlockcli

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
)

func (d *direct) readLeader(ctx context.Context) int {
	l, err := d.leader(ctx)
	code := d.done("read_leader", err)
	d.printLeader(&l)
	return code
}

// leader reads and checks the record that -s or -r names. A record that does not verify is returned with the
// error; where nothing was read it is zero.
func (d *direct) leader(ctx context.Context) (ondisk.Leader, error) {
	switch {
	case d.spaceDisk.path != "":
		return d.deltaLeader(ctx)
	case d.resourceDisk.path != "":
		return d.paxosLeader(ctx)
	}
	return ondisk.Leader{}, errNoPlace
}

func (d *direct) deltaLeader(ctx context.Context) (ondisk.Leader, error) {
	dev, g, err := d.openSpace(ctx, device.Options{ReadOnly: true})
	if err != nil {
		return ondisk.Leader{}, err
	}
	defer dev.Close()
	at, err := d.deltaAt(g.Sector)
	if err != nil {
		return ondisk.Leader{}, err
	}
	l, err := d.record(ctx, dev, at, g.Sector)
	if err != nil {
		return l, err
	}
	return l, l.CheckDelta(expect(d.space, l.SpaceName))
}

func (d *direct) paxosLeader(ctx context.Context) (ondisk.Leader, error) {
	dev, err := device.Open(d.resourceDisk.path, device.Options{ReadOnly: true})
	if err != nil {
		return ondisk.Leader{}, err
	}
	defer dev.Close()
	if d.sector != 0 && !possibleSector(d.sector) {
		return ondisk.Leader{}, errInvalid
	}
	l, err := d.record(ctx, dev, d.resourceDisk.offset, ondisk.ProbeLength)
	if err != nil {
		return l, err
	}
	return l, l.CheckPaxos(expect(d.resourceSpace, l.SpaceName), expect(d.resource, l.ResourceName), 0)
}

func (d *direct) record(ctx context.Context, dev device.Device, off uint64, n int) (ondisk.Leader, error) {
	b, err := d.read(ctx, dev, off, n)
	if err != nil {
		return ondisk.Leader{}, err
	}
	defer b.Release()
	return ondisk.DecodeLeader(b.Bytes())
}

// expect makes a check strict that takes an empty name for any: an empty name then matches an empty one only.
func expect(want, got leases.Name) leases.Name {
	if want.IsEmpty() && !got.IsEmpty() {
		want[0] = ^got[0] | 1
	}
	return want
}

// openSpace opens the lockspace's device and learns the sizes from what lies at its offset.
func (d *direct) openSpace(ctx context.Context, o device.Options) (*device.File, ondisk.Geometry, error) {
	if d.host == 0 {
		return nil, ondisk.Geometry{}, errInvalid
	}
	dev, err := device.Open(d.spaceDisk.path, o)
	if err != nil {
		return nil, ondisk.Geometry{}, errNoDevice
	}
	g, err := d.probe(ctx, dev, d.spaceDisk.offset)
	if err == nil && !possibleSector(g.Sector) {
		err = errInvalid
	}
	if err != nil {
		dev.Close()
		return nil, g, err
	}
	return dev, g, nil
}

// deltaAt is the byte offset of the host id's sector on the device. Host ids that the area has no room for
// have one too, as in stock: it is for looking at what lies there.
func (d *direct) deltaAt(sector int) (uint64, error) {
	if d.host > math.MaxInt32 {
		return 0, errInvalid
	}
	return d.spaceDisk.offset + (d.host-1)*uint64(sector), nil
}

func (d *direct) printLeader(l *ondisk.Leader) {
	fmt.Fprintf(d.out, "magic 0x%x\nversion 0x%x\nflags 0x%x\nsector_size %d\n",
		l.Magic, l.Version, l.Flags, l.SectorSize)
	fmt.Fprintf(d.out, "num_hosts %d\nmax_hosts %d\nowner_id %d\nowner_generation %d\nlver %d\n",
		l.NumHosts, l.MaxHosts, l.OwnerID, l.OwnerGeneration, l.LVer)
	fmt.Fprintf(d.out, "space_name %s\nresource_name %s\ntimestamp %d\nchecksum 0x%x\nio_timeout %d\n",
		l.SpaceName, l.ResourceName, l.Timestamp, l.Checksum, l.IOTimeout)
	names := [3]string{"extra1", "extra2", "extra3"}
	if d.paxosFields() {
		names = [3]string{"write_id", "write_generation", "write_timestamp"}
	}
	fmt.Fprintf(d.out, "%s %d\n%s %d\n%s %d\n",
		names[0], l.WriteID, names[1], l.WriteGeneration, names[2], l.WriteTimestamp)
}

// paxosFields reports whether the last three fields have the names that they have in a resource. As in stock
// it is -r that decides, even where -s says which record is meant.
func (d *direct) paxosFields() bool { return d.resourceDisk.path != "" }

// writeLeader changes fields of a record as a file says and writes it back, whatever it was before.
func (d *direct) writeLeader(ctx context.Context) int {
	file, err := readOverrides(d.file)
	if err != nil {
		fmt.Fprintln(d.out, err)
		return 1
	}
	l, err := d.leader(ctx)
	var bad *ondisk.FormatError
	if err != nil && !errors.As(err, &bad) {
		l = ondisk.Leader{}
	}
	given := d.override(&l, file)
	l.Checksum = l.Sum()
	if d.force != 0 {
		fmt.Fprintf(d.out, "warning: using specified checksum %x (generated is %x)\n", given, l.Checksum)
	} else {
		fmt.Fprintf(d.out, "use new generated checksum %x\n", l.Checksum)
	}
	code := d.done("write_leader", d.putLeader(ctx, &l))
	if code == 0 {
		d.printLeader(&l)
	}
	return code
}

// putLeader writes the record's whole sector, of the size and in the place that the record itself states,
// with the right checksum. So does stock, also where it says that it uses another; but with -s it writes a
// checksum that is neither.
func (d *direct) putLeader(ctx context.Context, l *ondisk.Leader) error {
	p, space := d.resourceDisk, d.spaceDisk.path != ""
	if space {
		p = d.spaceDisk
	}
	switch {
	case p.path == "":
		return errNoPlace
	case space && d.host == 0:
		return errInvalid
	}
	dev, err := device.Open(p.path, device.Options{})
	if err != nil && space {
		return errNoDevice
	}
	if err != nil {
		return err
	}
	defer dev.Close()
	if !possibleSector(int(l.SectorSize)) {
		return errInvalid
	}
	at := p.offset
	if space {
		if at, err = d.deltaAt(int(l.SectorSize)); err != nil {
			return err
		}
	}
	sector := make([]byte, l.SectorSize)
	l.Reserved = [56]byte{}
	l.Encode(sector)
	return d.write(ctx, dev, at, sector)
}
