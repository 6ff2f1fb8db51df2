package sanlockd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/leases/timeouts"
)

var (
	errNoPath   = errors.New("no path is given")
	errSizesSet = errors.New("the size flags are not those of the record on disk")
)

// errSizeFlags is stock's answer to one size without the other, and to pairs that do not exist.
var errSizeFlags = &sanlockwire.Result{
	Number: resultFailed,
	Text:   "sector and area size: give neither, or 512/1M, 4096/1M, 4096/2M, 4096/4M, 4096/8M",
}

// openHidden opens a device for the commands that tell nobody why that went wrong.
func (s *Server) openHidden(name leases.Name, path string) (device.Device, error) {
	if path == "" {
		return nil, fail("open", name, leases.NoDevice, errNoPath)
	}
	dev, err := s.open(path)
	if err != nil {
		s.log.Error().Err(err).Msg("open")
		return nil, fail("open", name, openKind(err), err)
	}
	return dev, nil
}

// flagged returns the sizes that the flags of a request state, and whether they state any.
func flagged(flags uint32) (g ondisk.Geometry, stated bool, err error) {
	if flags&(sanlockwire.SectorMask|sanlockwire.AlignMask) == 0 {
		return g, false, nil
	}
	if g = partOf(flags); !g.Legal() {
		return g, true, errSizeFlags
	}
	return g, true, nil
}

// partOf returns the sizes that the flags of a request state, 0 for one that they do not.
func partOf(flags uint32) (g ondisk.Geometry) {
	switch {
	case flags&sanlockwire.Sector512 != 0:
		g.Sector = 512
	case flags&sanlockwire.Sector4K != 0:
		g.Sector = 4096
	}
	g.Align = ondisk.AlignOf(flags)
	return g
}

// sizeFlags replaces the size bits of flags by those of real sizes.
func sizeFlags(flags uint32, g ondisk.Geometry) uint32 {
	flags &^= sanlockwire.SectorMask | sanlockwire.AlignMask
	if g.Sector == 4096 {
		flags |= sanlockwire.Sector4K
	} else {
		flags |= sanlockwire.Sector512
	}
	return flags | ondisk.AlignFlag(g.Align)
}

func (s *Server) doAlign(c *client, r request) {
	var d sanlockwire.Disk
	err := d.Decode(r.body)
	var result int32
	if err == nil {
		var dev device.Device
		if dev, err = s.openHidden(leases.Name{}, d.Path); err == nil {
			result = int32(defaultGeometry(dev).Align)
			dev.Close()
		}
	}
	if err != nil {
		result = resultOf(err)
	}
	s.debugCmd(r.Cmd, "cmd_align %d,%d done %d", c.slot, c.fd, result)
	s.reply(c, r.Header, result, 0, nil)
}

func (s *Server) doWriteLockspace(c *client, r request) {
	l, err := spaceOf(r)
	if err == nil {
		err = s.writeLockspace(l, r.Data2)
	}
	s.logDone(r.Cmd, c, sanlockwire.FormatLockspace(l), err)
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

// logDone logs the end of a command on a device: as an error if it failed, for there is no other trace.
func (s *Server) logDone(cmd uint32, c *client, what string, err error) {
	t, _ := sanlockwire.CommandOf(cmd)
	if err != nil {
		s.log.Error().Msgf("cmd_%s %d,%d %s done %d%s", t.Name, c.slot, c.fd, what, resultOf(err), because(err))
		return
	}
	s.debugCmd(cmd, "cmd_%s %d,%d %s done 0", t.Name, c.slot, c.fd, what)
}

// writeLockspace formats a lockspace. Whether it is in use is not looked at, as in stock.
func (s *Server) writeLockspace(l sanlockwire.Lockspace, ioTimeout uint32) error {
	if ioTimeout == 0 {
		ioTimeout = uint32(s.cfg.IOTimeout)
	}
	if ioTimeout > timeouts.MaxIO {
		return fail("format", l.Name, leases.Invalid,
			fmt.Errorf("io_timeout %d: must be at most %d", ioTimeout, timeouts.MaxIO))
	}
	dev, err := s.openHidden(l.Name, l.Disk.Path)
	if err != nil {
		return err
	}
	defer dev.Close()
	g, stated, err := flagged(l.Flags)
	if err != nil {
		return err
	}
	if !stated {
		g = defaultGeometry(dev)
	}
	return formatted(l.Name, delta.Format(s.root, dev, int64(l.Disk.Offset), g, l.Name, uint16(ioTimeout)))
}

// formatted gives a formatting that ran into the end of a device the number that the kernel has for it.
func formatted(space leases.Name, err error) error {
	if errors.Is(err, device.ErrShort) {
		return fail("format", space, leases.NoSpace, err)
	}
	return err
}

// doReadLockspace answers with the record of a host id, or of host id 1 when none is named. The lockspace is
// sent on errors too.
func (s *Server) doReadLockspace(c *client, r request) {
	l, err := spaceOf(r)
	var io uint32
	if err == nil {
		io, err = s.readLockspace(&l)
	}
	s.logRead(r.Cmd, c, sanlockwire.FormatLockspace(l), err)
	s.reply(c, r.Header, resultOf(err), io, l.Append(nil))
}

// logRead logs the end of a command that only looks: an empty place is a good answer.
func (s *Server) logRead(cmd uint32, c *client, what string, err error) {
	t, _ := sanlockwire.CommandOf(cmd)
	s.debugCmd(cmd, "cmd_%s %d,%d %s done %d%s", t.Name, c.slot, c.fd, what, resultOf(err), because(err))
}

// readLockspace reads what the record on disk says, whatever sizes the request states, as long as the device
// can be read in such sectors.
func (s *Server) readLockspace(l *sanlockwire.Lockspace) (ioTimeout uint32, err error) {
	dev, err := s.openHidden(l.Name, l.Disk.Path)
	if err != nil {
		return 0, err
	}
	defer dev.Close()
	if err := s.tryRead(l.Flags, resource.Disk{Device: dev, Offset: int64(l.Disk.Offset)}); err != nil {
		return 0, err
	}
	limit := s.cfg.own().OneIO()
	g, err := delta.ReadSizes(s.root, dev, int64(l.Disk.Offset), l.Name, limit)
	if err != nil {
		return 0, err
	}
	host := max(l.HostID, 1)
	if host > g.MaxHosts() {
		return 0, fail("read", l.Name, leases.BadMagic,
			fmt.Errorf("host id %d: there is room for 1 to %d", host, g.MaxHosts()))
	}
	leader, err := delta.Read(s.root, dev, int64(l.Disk.Offset), g, l.Name, leases.HostID(host), limit)
	if err != nil {
		return 0, err
	}
	l.Name, l.HostID, l.Flags = leader.SpaceName, host, sizeFlags(l.Flags, g)
	return uint32(leader.IOTimeout), nil
}

// resourceOf decodes the resource, with its disks, that a body consists of.
func resourceOf(r request) (res sanlockwire.Resource, err error) {
	_, err = res.DecodeWithDisks(r.body)
	return res, err
}

// doWriteResource formats a lease. The number of hosts is in Data, though stock's library calls that
// max_hosts and sends num_hosts in Data2 (spec sanlock-daemon 1.7).
func (s *Server) doWriteResource(c *client, r request) {
	res, err := resourceOf(r)
	if err == nil {
		err = s.writeResource(res, uint64(r.Data), r.Flags&sanlockwire.WriteClear != 0)
	}
	s.logDone(r.Cmd, c, sanlockwire.FormatResource(res), err)
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

func (s *Server) writeResource(r sanlockwire.Resource, numHosts uint64, clear bool) error {
	disks, err := s.openDisks(r)
	if err != nil {
		return err
	}
	defer closeDisks(disks)
	g, stated, err := flagged(r.Flags)
	if err != nil {
		return err
	}
	for _, d := range disks {
		if !stated {
			g = defaultGeometry(d.Device)
		}
		if clear {
			now := uint64(s.cfg.Clock.Now().Seconds())
			err = resource.Clear(s.root, d, g, r.Space, r.Name, numHosts, now)
		} else {
			err = resource.Format(s.root, d, g, r.Space, r.Name, numHosts)
		}
		if err != nil {
			return formatted(r.Space, err)
		}
	}
	return nil
}

// doReadResource answers with what is known of a lease from its leader record. The resource is sent on
// errors too: stock's library always reads it.
func (s *Server) doReadResource(c *client, r request) {
	res, err := resourceOf(r)
	if err == nil {
		err = s.readResource(&res)
	}
	s.logRead(r.Cmd, c, sanlockwire.FormatResource(res), err)
	s.reply(c, r.Header, resultOf(err), 0, res.Append(nil))
}

func (s *Server) readResource(r *sanlockwire.Resource) error {
	disks, err := s.openDisks(*r)
	if err != nil {
		return err
	}
	defer closeDisks(disks)
	if err := s.tryRead(r.Flags, disks[0]); err != nil {
		return err
	}
	leader, err := resource.Inspect(s.root, disks[0], r.Space, r.Name, s.cfg.own())
	if err != nil {
		return err
	}
	r.Space, r.Name, r.LVer = leader.SpaceName, leader.ResourceName, leader.LVer
	r.Flags = sizeFlags(r.Flags, leader.Geometry())
	return nil
}

// tryRead reads one sector of the size that the flags state, if they do: whether a file can be read like that
// only its file system knows.
func (s *Server) tryRead(flags uint32, d resource.Disk) error {
	size := 0
	switch {
	case flags&sanlockwire.Sector512 != 0:
		size = 512
	case flags&sanlockwire.Sector4K != 0:
		size = 4096
	default:
		return nil
	}
	if d.Offset >= d.Device.Geometry().Size { // also when the device has larger sectors
		return fail("read", leases.Name{}, leases.ShortTransfer, device.ErrShort)
	}
	b, err := s.peek(s.root, leases.Name{}, d.Device, d.Offset, size)
	if err != nil {
		return err
	}
	b.Release()
	return nil
}

// doReadResourceOwners answers with the lease and who holds it.
func (s *Server) doReadResourceOwners(c *client, r request) {
	res, err := resourceOf(r)
	var holders []resource.Holder
	if err == nil {
		holders, err = s.readOwners(s.root, &res)
	}
	body := res.Append(nil)
	for _, h := range holders {
		body = sanlockwire.Host{
			HostID: uint64(h.Host), Generation: uint64(h.Generation), Timestamp: h.Timestamp,
		}.Append(body)
	}
	s.logRead(r.Cmd, c, sanlockwire.FormatResource(res), err)
	s.reply(c, r.Header, resultOf(err), uint32(len(holders)), body)
}

func (s *Server) readOwners(ctx context.Context, r *sanlockwire.Resource) ([]resource.Holder, error) {
	disks, err := s.openDisks(*r)
	if err != nil {
		return nil, err
	}
	defer closeDisks(disks)
	guess, stated := defaultGeometry(disks[0].Device), partOf(r.Flags)
	area := ondisk.MiB // that must end on the device: the smallest, if nothing is stated
	if stated != (ondisk.Geometry{}) {
		if guess = stated; guess.Sector == 0 {
			guess.Sector = defaultGeometry(disks[0].Device).Sector
		}
		if guess.Align == 0 {
			guess.Align = ondisk.DefaultGeometry(guess.Sector).Align
		}
		area = guess.Align
	}
	// As if it were read in one piece: where that begins is judged before where it ends.
	for _, part := range []int{0, area - ondisk.ProbeLength} {
		b, err := s.peek(ctx, r.Space, disks[0].Device, disks[0].Offset+int64(part), ondisk.ProbeLength)
		if err != nil {
			return nil, err
		}
		b.Release()
	}
	if err := s.tryRead(r.Flags, disks[0]); err != nil {
		return nil, err
	}
	if err := s.statesSizes(ctx, r.Space, disks[0], stated); err != nil {
		return nil, err
	}
	lease, err := s.look(r, disks, guess)
	if err != nil {
		return nil, err
	}
	leader, holders, err := lease.Owners(ctx)
	if err != nil {
		return nil, err
	}
	r.LVer = leader.LVer // the sizes are not told here, as in stock
	for _, h := range holders {
		if h.Mode == leases.Shared {
			r.Flags |= sanlockwire.ResShared
		}
	}
	// An owner that has its mark already, in the middle of a conversion, is told once.
	return slices.DeleteFunc(holders, func(h resource.Holder) bool {
		return h.Mode == leases.Shared && holders[0].Mode == leases.Exclusive && h.Host == holders[0].Host
	}), nil
}

// statesSizes looks at the sizes in a leader record before anything else of it, as stock does: they must be
// those that were stated, and where there is no record there are none.
func (s *Server) statesSizes(
	ctx context.Context, space leases.Name, d resource.Disk, stated ondisk.Geometry,
) error {
	b, err := s.peek(ctx, space, d.Device, d.Offset, ondisk.ProbeLength)
	if err != nil {
		return err
	}
	defer b.Release()
	leader, err := ondisk.DecodeLeader(b.Bytes())
	if err != nil {
		return err
	}
	g := leader.Geometry()
	if !g.Legal() || stated.Sector != 0 && stated.Sector != g.Sector || stated.Align != 0 && stated.Align != g.Align {
		return fail("read", space, leases.Invalid, errSizesSet)
	}
	return nil
}

// peek reads a few sectors of a place of which nothing is known yet.
func (s *Server) peek(
	ctx context.Context, space leases.Name, dev device.Device, off int64, n int,
) (*device.Buffer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.own().OneIO())
	defer cancel()
	b, err := dev.Read(ctx, off, n)
	var op *device.OpError
	switch {
	case errors.Is(err, device.ErrShort):
		err = fail("read", space, leases.ShortTransfer, err)
	case errors.As(err, &op) && op.Timeout():
		err = fail("read", space, leases.Timeout, err)
	}
	return b, err
}

// look prepares a lease that is only looked at, or asked for.
func (s *Server) look(
	r *sanlockwire.Resource, disks []resource.Disk, g ondisk.Geometry,
) (*resource.Lease, error) {
	return resource.New(resource.Config{
		Space: r.Space, Name: r.Name, Disks: disks, Geometry: g, Times: s.cfg.own(), Clock: *s.cfg.Clock,
		AllowUnknownFlags: s.cfg.AllowUnknownFlags,
	})
}
