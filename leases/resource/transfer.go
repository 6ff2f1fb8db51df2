package resource

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/paxos"
)

// each runs do for every disk, at once if there are several, so that one hanging disk costs one deadline.
func (l *Lease) each(do func(disk int) error) []error {
	errs := make([]error, len(l.cfg.Disks))
	if len(errs) == 1 {
		errs[0] = do(0)
		return errs
	}
	var all sync.WaitGroup
	for d := range errs {
		all.Go(func() { errs[d] = do(d) })
	}
	all.Wait()
	return errs
}

// deadline gives one transfer its time. A caller's cancellation does not cut a transfer short: it would be
// in flight all the same, and its outcome unknown.
func (l *Lease) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), l.cfg.Times.OneIO())
}

func (l *Lease) read(ctx context.Context, disk int, off int64, n int) (*device.Buffer, error) {
	ctx, cancel := l.deadline(ctx)
	defer cancel()
	d := l.cfg.Disks[disk]
	return d.Device.Read(ctx, d.Offset+off, n)
}

// write writes one sector, filled by fill.
func (l *Lease) write(ctx context.Context, disk int, off int64, fill func(sector []byte)) error {
	ctx, cancel := l.deadline(ctx)
	defer cancel()
	d := l.cfg.Disks[disk]
	b := device.NewBuffer(l.geometry.Sector)
	fill(b.Bytes())
	return d.Device.Write(ctx, d.Offset+off, b)
}

// look reads the leader and, if all, the host blocks of every disk, and reports them to the machine.
func (l *Lease) look(ctx context.Context, m machine, host uint64, all bool) {
	views, errs := l.gather(ctx, host, all)
	l.report(m, views, errs)
}

func (l *Lease) report(m machine, views []paxos.View, errs []error) {
	l.adopt(m, errs)
	for d, v := range views {
		m.Saw(d, v, errs[d])
	}
}

// gather reads what a look needs.
func (l *Lease) gather(ctx context.Context, host uint64, all bool) ([]paxos.View, []error) {
	began := time.Now()
	views := make([]paxos.View, len(l.cfg.Disks))
	once := func(d int) (err error) {
		views[d], err = l.view(ctx, d, host, all)
		return err
	}
	errs := l.each(once)
	if l.resize(errs) {
		errs = l.each(once)
	}
	l.pace = (3*l.pace + time.Since(began)) / 4
	return views, errs
}

// sizer is the part of a claim that must know the sizes before its first report.
type sizer interface {
	SetSizes(maxHosts, numHosts uint64)
}

func (l *Lease) adopt(m machine, errs []error) {
	claim, ok := m.(sizer)
	if !ok {
		return
	}
	for d, err := range errs {
		if err == nil {
			claim.SetSizes(l.leaders[d].MaxHosts, l.leaders[d].NumHosts)
			return
		}
	}
}

// resize adopts the sizes of a disk whose leader states others than were assumed, and reports whether it did.
func (l *Lease) resize(errs []error) bool {
	for d, err := range errs {
		if errors.Is(err, errSizesDiffer) {
			l.geometry, l.numHosts = l.leaders[d].Geometry(), l.leaders[d].NumHosts
			return true
		}
	}
	return false
}

// view reads one disk. Sizes that turn out other than assumed are adopted and the area is read again, which
// happens once in the life of a Lease (spec ondisk 4.3 step 2). Several disks are read at once, so there it
// is look that adopts.
func (l *Lease) view(ctx context.Context, disk int, host uint64, all bool) (paxos.View, error) {
	for range 2 {
		g, num := l.geometry, l.numHosts
		n := g.Sector
		if all {
			n = g.BallotLength(num)
		}
		b, err := l.read(ctx, disk, 0, n)
		if err != nil {
			return paxos.View{}, err
		}
		v, again, err := l.parse(disk, host, b.Bytes(), all)
		b.Release()
		if err != nil || !again {
			return v, err
		}
	}
	return paxos.View{}, errSizesChange
}

var errSizesChange = errors.New("the leader record states other sizes at every reading; is the area being formatted?")

// parse checks the leader and decodes what was read; again means that more must be read first.
func (l *Lease) parse(disk int, host uint64, p []byte, all bool) (v paxos.View, again bool, err error) {
	leader, err := ondisk.DecodeLeader(p)
	if err != nil {
		return v, false, err
	}
	if err := l.check(&leader, host); err != nil {
		return v, false, err
	}
	g := leader.Geometry()
	if len(l.cfg.Disks) == 1 && (g != l.geometry || leader.NumHosts > l.numHosts) {
		l.geometry, l.numHosts = g, leader.NumHosts
		return v, true, nil
	}
	l.leaders[disk] = leader
	if g != l.geometry || leader.NumHosts > l.numHosts {
		return v, false, errSizesDiffer
	}
	l.have[disk] = true
	v.Record = record(&leader)
	if all {
		if len(l.cfg.Disks) == 1 {
			l.numHosts = leader.NumHosts
		}
		v.Blocks = l.decodeBlocks(disk, p, leader.NumHosts)
	}
	return v, false, nil
}

var errSizesDiffer = errors.New("the leader records of the disks state different sizes; " +
	"a lease on several disks must have the same sizes everywhere")

// check tests the leader in stock's order, then what a good checksum does not promise.
func (l *Lease) check(leader *ondisk.Leader, host uint64) error {
	if err := leader.CheckPaxos(l.cfg.Space, l.cfg.Name, host); err != nil {
		return err
	}
	if l.cfg.AllowUnknownFlags {
		known := *leader
		known.Flags &^= known.UnknownFlags()
		return known.CheckSane()
	}
	return leader.CheckSane()
}

// decodeBlocks translates the host blocks of 1..num. The result is valid until the next look at this disk.
func (l *Lease) decodeBlocks(disk int, p []byte, num uint64) []paxos.Block {
	if uint64(cap(l.blocks[disk])) < num {
		l.blocks[disk] = make([]paxos.Block, num)
	}
	blocks := l.blocks[disk][:num]
	size := l.geometry.Sector
	for i := range blocks {
		sector := p[(i+2)*size : (i+3)*size]
		if ondisk.HostBlockUnused(sector) {
			blocks[i] = paxos.Block{}
			continue
		}
		hb, err := ondisk.DecodeHostBlock(sector)
		if err == nil {
			err = hb.Check()
		}
		blocks[i] = block(&hb, err != nil)
	}
	return blocks
}

// writeBlock writes b as our own block to every disk and reports to the machine.
func (l *Lease) writeBlock(ctx context.Context, m machine, host uint64, b paxos.Block) {
	errs := l.putBlock(ctx, host, b)
	for d, err := range errs {
		m.Wrote(d, err)
	}
}

func (l *Lease) putBlock(ctx context.Context, host uint64, b paxos.Block) []error {
	hb := hostBlock(b)
	return l.each(func(d int) error {
		mine := hb
		return l.write(ctx, d, l.geometry.BlockOffset(host), mine.Encode)
	})
}

// writeLeader writes r into every disk's leader, which otherwise stays as it was read, and reports.
func (l *Lease) writeLeader(ctx context.Context, m machine, r paxos.Record, change func(*ondisk.Leader)) {
	base := 0
	for d := range l.cfg.Disks {
		if l.have[d] {
			base = d
		}
	}
	var written [paxos.MaxDisks]ondisk.Leader
	errs := l.each(func(d int) error {
		leader := l.leaders[base]
		if l.have[d] {
			leader = l.leaders[d]
		}
		put(&leader, r)
		change(&leader)
		written[d] = leader
		return l.write(ctx, d, 0, func(sector []byte) { written[d].Encode(sector) })
	})
	l.wrote = written[0]
	for d, err := range errs {
		m.Wrote(d, err)
	}
}
