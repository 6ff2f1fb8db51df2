package resource

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/paxos"
)

// DefaultSharedRetries is how often a shared acquire starts over when others are only passing through.
const DefaultSharedRetries = 8

// Disk is one of the one to four places of a lease: an area of Geometry.Align bytes at Offset.
type Disk struct {
	Device device.Device
	Offset int64
}

// Config says which lease, where, and on whose behalf.
type Config struct {
	Space, Name leases.Name
	Disks       []Disk
	Geometry    ondisk.Geometry // first guess, the lockspace's; the leader record corrects it
	Times       timeouts.Set    // of the lockspace; each transfer gets OneIO
	Clock       monotime.Clock

	SharedRetries     int            // 0 means DefaultSharedRetries
	Jitter            func() float64 // uniform in [0,1), for back-off; nil means math/rand's
	Memory            Memory         // of an earlier Lease for the same place
	AllowUnknownFlags bool           // go on although the leader carries flags of a newer sanlock
}

// Lease is one resource lease as this host sees it. It remembers the sizes that the leader stated and what a
// failed operation left behind, not whether the lease is held: that is the Grant's. It is not safe for
// concurrent use: whoever keeps the table of resources lets one operation at a time work on a Lease.
type Lease struct {
	cfg      Config
	geometry ondisk.Geometry
	numHosts uint64 // how many host blocks a look reads
	sized    bool   // both were stated by a leader record, not guessed

	leaders [paxos.MaxDisks]ondisk.Leader // as last read from each disk ...
	have    [paxos.MaxDisks]bool          // ... in the last look
	foreign [paxos.MaxDisks]error         // why a disk is not of this lease, by the last look; nil if it is
	blocks  [paxos.MaxDisks][]paxos.Block // reused by every look

	pace      time.Duration // what a transfer took lately, for back-off
	rest      rest          // how the lease was left, until the next claim
	steady    bool          // the last first look found it as we had left it
	wrote     ondisk.Leader // the leader as last written
	yielded   uint64        // the highest ballot that was let go first ...
	contended bool          // ... since we had the lease last

	own   paxos.Block // our host block as the last claim left it
	loose *loose      // nil when nothing is left behind
}

// loose is what a failed operation left for others to find: our block and perhaps our leader record.
type loose struct {
	self  paxos.Proposal
	round uint64
	block paxos.Block
	retirement
}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Lease, error) {
	switch n := len(cfg.Disks); {
	case n < 1 || n > paxos.MaxDisks:
		return nil, &leases.Error{
			Op: "open", Space: cfg.Space.String(), Resource: cfg.Name.String(), Kind: leases.OutOfRange,
			Err: fmt.Errorf("a lease lies on 1 to %d disks, not %d", paxos.MaxDisks, n),
		}
	case !cfg.Geometry.Legal():
		return nil, &leases.Error{
			Op: "open", Space: cfg.Space.String(), Resource: cfg.Name.String(), Kind: leases.Invalid,
			Err: fmt.Errorf("sector size %d with areas of %d bytes is not a legal pair",
				cfg.Geometry.Sector, cfg.Geometry.Align),
		}
	}
	if cfg.SharedRetries == 0 {
		cfg.SharedRetries = DefaultSharedRetries
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	l := &Lease{cfg: cfg, geometry: cfg.Geometry}
	for _, d := range cfg.Disks {
		if size := d.Device.Geometry().SectorSize; size > l.geometry.Sector {
			// The lockspace lies on another kind of device: its sectors cannot be moved here.
			l.geometry = ondisk.DefaultGeometry(size)
		}
	}
	if len(cfg.Disks) == 1 {
		l.numHosts = l.geometry.MaxHosts()
	}
	l.recall(cfg.Memory)
	return l, nil
}

// Geometry returns the sizes that the leader stated when it was last read.
func (l *Lease) Geometry() ondisk.Geometry { return l.geometry }

// Grant is a lease held. It is owned by who acquired it and changed by Convert and Release.
type Grant struct {
	Version  uint64 // of the lease: grows with every acquisition, the fencing number
	Mode     leases.Mode
	Owner    leases.Owner
	Geometry ondisk.Geometry

	block paxos.Block // our block as last written
	lvb   *valueBlock // nil if acquired without
}

// now returns our clock in whole seconds, never 0: that would mean free.
func (l *Lease) now() uint64 { return max(1, uint64(l.cfg.Clock.Now().Seconds())) }

func proposal(o leases.Owner) paxos.Proposal {
	return paxos.Proposal{Host: uint64(o.Host), Generation: uint64(o.Generation)}
}

func owner(p paxos.Proposal) leases.Owner {
	return leases.Owner{Host: leases.HostID(p.Host), Generation: leases.Generation(p.Generation)}
}
