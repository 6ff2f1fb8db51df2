package resource

import (
	"context"

	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/paxos"
)

// Memory is what is worth knowing when the same lease is taken again: its sizes, and how we left it. It may
// be given to another Lease for the same place (Config.Memory); the zero Memory knows nothing.
type Memory struct {
	geometry  ondisk.Geometry
	numHosts  uint64
	rest      rest
	steady    bool
	yielded   uint64
	contended bool
}

// rest is how we left the lease on one disk: the leader that we wrote last, and our own block. While both are
// still there nobody has had the lease since, so the first look of a claim need not read the blocks of all
// hosts: what others may have begun shows in the reads of the ballot, which are always made in full. It reads
// as far as our own block, because a ballot number of ours that we had forgotten would be used twice.
type rest struct {
	leader ondisk.Leader
	block  paxos.Block
	self   paxos.Proposal // host 0: nothing is known
}

// Memory returns what is to be remembered of a lease that is not held. It is empty while it is unsettled.
func (l *Lease) Memory() Memory {
	if l.loose != nil {
		return Memory{}
	}
	return Memory{geometry: l.geometry, numHosts: l.numHosts, rest: l.rest, steady: l.steady, yielded: l.yielded, contended: l.contended}
}

// recall takes over what was remembered.
func (l *Lease) recall(m Memory) {
	if m.numHosts == 0 {
		return
	}
	l.geometry, l.numHosts, l.rest, l.steady, l.sized = m.geometry, m.numHosts, m.rest, m.steady, true
	l.yielded, l.contended = m.yielded, m.contended
}

// restWith remembers that the leader is as we wrote it last, if that was to free it, and block our own.
func (l *Lease) restWith(self paxos.Proposal, block paxos.Block) {
	if len(l.cfg.Disks) == 1 && l.wrote.Magic != 0 && l.wrote.Timestamp == 0 {
		l.rest = rest{leader: l.wrote, block: block, self: self}
	}
}

// glance is the first look of a claim where the lease was left as rest says: it reads no further than our own
// block. It reports false if a full look is needed. It is tried only where the last full look would have
// allowed it, so that a lease that goes from host to host does not cost a read more each time.
func (v *drive) glance(ctx context.Context, m machine) bool {
	l := v.l
	left := l.rest
	l.rest = rest{}
	first := !v.glanced
	v.glanced = true
	if !first || left.self.Host == 0 || !left.self.SameOwner(v.self) {
		return false
	}
	if !l.steady {
		v.left = left.leader
		return false
	}
	view, err := l.view(ctx, 0, v.terms, v.self.Host)
	if err != nil || l.leaders[0] != left.leader || view.Blocks[v.self.Host-1] != left.block {
		l.steady = false
		return false
	}
	l.have[0] = true
	l.adopt(m, []error{nil})
	m.Saw(0, view, nil)
	return true
}

// compare notes after a full first look whether a glance would have done.
func (v *drive) compare() {
	if v.left.Magic != 0 {
		v.l.steady = v.l.have[0] && v.l.leaders[0] == v.left
		v.left = ondisk.Leader{}
	}
}
