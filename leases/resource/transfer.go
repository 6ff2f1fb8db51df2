package resource

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tenurelock/tenure/leases"
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

// write writes one sector, filled by fill. It writes nothing where the last look has found something else than
// this lease: a wrong path among several must not cost another lease its votes, or a host its host id.
func (l *Lease) write(ctx context.Context, disk int, off int64, fill func(sector []byte)) error {
	if err := l.foreign[disk]; err != nil {
		return err
	}
	ctx, cancel := l.deadline(ctx)
	defer cancel()
	d := l.cfg.Disks[disk]
	b := device.NewBuffer(l.geometry.Sector)
	fill(b.Bytes())
	return d.Device.Write(ctx, d.Offset+off, b)
}

// look reads the leader and, if all, the host blocks of every disk, and reports them to the machine.
func (l *Lease) look(ctx context.Context, m machine, t terms, all bool) {
	views, errs := l.gather(ctx, t, all)
	l.report(m, views, errs)
}

func (l *Lease) report(m machine, views []paxos.View, errs []error) {
	l.adopt(m, errs)
	for d, v := range views {
		m.Saw(d, v, errs[d])
	}
}

// gather reads what a look needs.
func (l *Lease) gather(ctx context.Context, t terms, all bool) ([]paxos.View, []error) {
	began := time.Now()
	views := make([]paxos.View, len(l.cfg.Disks))
	once := func(d int) (err error) {
		blocks := uint64(0)
		if all {
			blocks = everyBlock
		}
		views[d], err = l.view(ctx, d, t, blocks)
		return err
	}
	errs := l.each(once)
	if l.resize(errs) {
		errs = l.each(once)
	}
	most := uint64(0)
	for d, err := range errs {
		l.have[d], l.foreign[d] = err == nil, nil
		switch causeKind(err) {
		case leases.BadMagic, leases.WrongResource, leases.WrongSpace:
			l.foreign[d] = err
		default:
		}
		if err == nil {
			most = max(most, cover(&l.leaders[d]))
		}
	}
	if most != 0 && l.sized {
		l.numHosts = most
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

// resize adopts the sizes that most disks state, and among as many those of the first, where they are not what
// was assumed; it reports whether disks must be read again. The disks that state others do not count.
func (l *Lease) resize(errs []error) bool {
	stated := func(d int) bool { return errs[d] == nil || errors.Is(errs[d], errSizesDiffer) }
	best, most := ondisk.Geometry{}, 0
	for d := range errs {
		n := 0
		for o := range errs {
			if stated(d) && stated(o) && l.leaders[o].Geometry() == l.leaders[d].Geometry() {
				n++
			}
		}
		if n > most {
			best, most = l.leaders[d].Geometry(), n
		}
	}
	again := false
	for d, err := range errs {
		leader := &l.leaders[d]
		if !errors.Is(err, errSizesDiffer) || leader.Geometry() != best {
			continue
		}
		if best != l.geometry {
			l.geometry, l.numHosts = best, 0
		}
		l.numHosts = max(l.numHosts, cover(leader))
		again, l.sized = true, true
	}
	return again
}

// everyBlock asks view for the blocks of all hosts that may take part.
const everyBlock = ^uint64(0)

// view reads one disk: the leader, and the host blocks 1 to blocks. Sizes that turn out other than assumed
// are adopted and the area is read again (spec ondisk 4.3 step 2). Several disks are read at once, so there
// it is gather that adopts.
func (l *Lease) view(ctx context.Context, disk int, t terms, blocks uint64) (paxos.View, error) {
	for range maxViews {
		n := l.geometry.Sector
		if blocks != 0 {
			n = l.geometry.BallotLength(min(blocks, l.numHosts))
		}
		b, err := l.read(ctx, disk, 0, n)
		if errors.Is(err, device.ErrShort) && !l.sized && l.numHosts != 0 {
			// The area is perhaps smaller than was guessed and the last on its device. Its head is there.
			l.numHosts = 0
			continue
		}
		if err != nil {
			return paxos.View{}, err
		}
		v, again, err := l.parse(disk, t, b.Bytes(), blocks)
		b.Release()
		if err != nil || !again {
			return v, err
		}
	}
	return paxos.View{}, errSizesChange
}

// maxViews is one read beyond the end, one that shows the sizes, and one that fits.
const maxViews = 3

var errSizesChange = errors.New("the leader record states other sizes at every reading; " +
	"is the area being formatted?")

// parse checks the leader and decodes what was read; again means that more must be read first.
func (l *Lease) parse(disk int, t terms, p []byte, blocks uint64) (v paxos.View, again bool, err error) {
	leader, err := ondisk.DecodeLeader(p)
	if err == nil {
		err = l.check(&leader, t)
	}
	if err != nil {
		return v, false, err
	}
	l.leaders[disk] = leader
	alone := len(l.cfg.Disks) == 1
	switch g := leader.Geometry(); {
	case g == l.geometry && cover(&leader) <= l.numHosts:
	case alone:
		l.geometry, l.numHosts, l.sized = g, cover(&leader), true
		return v, true, nil
	default:
		return v, false, errSizesDiffer
	}
	if alone {
		l.numHosts, l.sized = cover(&leader), true
	}
	v.Record = record(&leader)
	if blocks != 0 {
		v.Blocks = l.decodeBlocks(disk, p, &leader, min(blocks, l.numHosts))
	}
	return v, false, nil
}

// cover returns how many host blocks must be read: those of the hosts that may take part, and that of the
// owner, which may have lowered num_hosts below itself, as stock lets it.
func cover(leader *ondisk.Leader) uint64 { return max(leader.NumHosts, leader.OwnerID) }

var errSizesDiffer = errors.New("the leader records of the disks state different sizes; " +
	"a lease on several disks must have the same sizes everywhere")

// terms is what a leader must allow for what is to be done. The zero terms ask for nothing.
type terms struct {
	host     uint64 // our host id, which must be among num_hosts
	numHosts uint64 // to be written, 0 for none
	lvb      bool   // a value block is wanted
}

// check tests the leader in stock's order, then what a good checksum does not promise, then the terms.
func (l *Lease) check(leader *ondisk.Leader, t terms) error {
	if err := leader.CheckNamed(l.cfg.Space, l.cfg.Name, t.host); err != nil {
		return err
	}
	known := *leader
	if l.cfg.AllowUnknownFlags {
		known.Flags &^= known.UnknownFlags()
	}
	if err := known.CheckSane(); err != nil {
		return err
	}
	switch n := t.numHosts; {
	case leader.OwnerID > leader.MaxHosts:
		return &ondisk.FormatError{
			Record: "paxos leader", Field: "owner_id of a free lease",
			Got: leader.OwnerID, Want: leader.MaxHosts, Kind: leases.Corrupt,
		}
	case n != 0 && (n > leader.MaxHosts || n < t.host):
		// Stock stores any number, and then reads into the next area (spec ondisk 4.12).
		return l.fail("acquire", leases.Invalid, fmt.Errorf(
			"num_hosts %d: must be at least our host id %d and at most %d", n, t.host, leader.MaxHosts))
	case t.lvb && !leader.Geometry().HasLVB():
		return l.fail("acquire", leases.Invalid, errNoValueBlock)
	}
	return nil
}

// decodeBlocks translates the host blocks of 1..num. The result is valid until the next look at this disk.
// Blocks of hosts that take no part are left out, but for the owner's; on one of several disks the leader may
// be older than a change of num_hosts, so there all count.
func (l *Lease) decodeBlocks(disk int, p []byte, leader *ondisk.Leader, num uint64) []paxos.Block {
	if uint64(cap(l.blocks[disk])) < num {
		l.blocks[disk] = make([]paxos.Block, num)
	}
	blocks := l.blocks[disk][:num]
	size := l.geometry.Sector
	for i := range blocks {
		host := uint64(i) + 1
		sector := p[(i+2)*size : (i+3)*size]
		outside := host > leader.NumHosts && host != leader.OwnerID && len(l.cfg.Disks) == 1
		if outside || ondisk.HostBlockUnused(sector) {
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

// writeLeader writes r into the leader of every disk, and reports. What r does not say stays as it was read
// from the disk that had the latest news.
func (l *Lease) writeLeader(ctx context.Context, m machine, r paxos.Record, change func(*ondisk.Leader)) {
	base := -1
	for d := range l.cfg.Disks {
		if l.have[d] && (base < 0 || l.leaders[d].LVer > l.leaders[base].LVer) {
			base = d
		}
	}
	if base < 0 {
		panic("resource: a leader is to be written that was not read")
	}
	leader := l.leaders[base]
	put(&leader, r)
	change(&leader)
	leader.Checksum = leader.Sum()
	errs := l.each(func(d int) error { return l.write(ctx, d, 0, leader.EncodeRaw) })
	l.wrote = leader
	for d, err := range errs {
		m.Wrote(d, err)
	}
}
