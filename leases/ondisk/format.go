package ondisk

import "github.com/tenurelock/tenure/leases"

// The Format functions return whole areas, Geometry.Align bytes, equal to what stock's init leaves behind
// (spec ondisk 6.8, 2.13). They panic on a pair of sizes that is not legal: callers ask Geometry.Legal first.

// NewDelta returns the record of a host id that nobody has had yet. ioTimeout is in seconds.
func NewDelta(g Geometry, space leases.Name, ioTimeout uint16) Leader {
	return Leader{
		Magic: DeltaMagic, Version: DeltaVersion, Flags: AlignFlag(g.Align), SectorSize: uint32(g.Sector),
		MaxHosts: 1, SpaceName: space, IOTimeout: ioTimeout,
	}
}

// NewPaxos returns the leader of a resource that nobody has had yet. numHosts 0, or more than the sizes have
// room for, means as many as there is room for.
func NewPaxos(g Geometry, space, resource leases.Name, numHosts uint64) Leader {
	limit := g.MaxHosts()
	if numHosts == 0 || numHosts > limit {
		numHosts = limit
	}
	return Leader{
		Magic: PaxosMagic, Version: PaxosVersion, Flags: AlignFlag(g.Align), SectorSize: uint32(g.Sector),
		NumHosts: numHosts, MaxHosts: limit, SpaceName: space, ResourceName: resource,
	}
}

// FormatLockspace returns a lockspace area: a free delta lease in the sector of each host id, zeros behind.
// ioTimeout is in seconds. On disk the area goes in two writes, so that no host joins too early: first
// after HideLockspace, then sector 0 as it was here.
func FormatLockspace(g Geometry, space leases.Name, ioTimeout uint16) []byte {
	area := newArea(g)
	l := NewDelta(g, space, ioTimeout)
	for host := uint64(1); host <= g.MaxHosts(); host++ {
		l.Encode(area[g.DeltaOffset(host):])
	}
	return area
}

// HideLockspace takes the magic from the first sector of a formatted lockspace, checksum included, so that
// no host can join while the rest of the area is being written. It returns that sector's right content.
func HideLockspace(g Geometry, area []byte) (first []byte) {
	first = append(first, area[:g.Sector]...)
	l, err := DecodeLeader(area)
	if err != nil {
		panic(err)
	}
	l.Magic = 0
	l.Encode(area)
	return first
}

// FormatResource returns a resource area: a free leader, an empty request, no host blocks. numHosts as in
// NewPaxos.
func FormatResource(g Geometry, space, resource leases.Name, numHosts uint64) []byte {
	return resourceArea(g, NewPaxos(g, space, resource, numHosts))
}

// ClearResource returns the area of a resource that is no more: FormatResource's with the cleared magic.
// now is the writer's monotonic clock in seconds (spec ondisk 2.3.1).
func ClearResource(g Geometry, space, resource leases.Name, numHosts, now uint64) []byte {
	l := NewPaxos(g, space, resource, numHosts)
	l.Magic, l.WriteTimestamp = ClearedMagic, now
	return resourceArea(g, l)
}

// FormatIndex returns the first of a resource index's two areas: header and free entries. The second, right
// behind it, is FormatResource of the name IndexLeaseName. offset is the index's byte offset on the device;
// maxResources 0 means 4096, and is cut to what the area has room for.
func FormatIndex(g Geometry, space leases.Name, offset uint64, maxResources uint32) []byte {
	area := newArea(g)
	h := NewIndexHeader(g, space, offset, maxResources)
	h.Encode(area[:g.Sector])
	return area
}

func resourceArea(g Geometry, l Leader) []byte {
	area := newArea(g)
	l.Encode(area)
	r := Request{Magic: RequestMagic, Version: RequestVersion}
	r.Encode(area[g.Sector : 2*g.Sector])
	return area
}

func newArea(g Geometry) []byte {
	if !g.Legal() {
		panic("ondisk: format with an illegal pair of sizes")
	}
	return make([]byte, g.Align)
}
