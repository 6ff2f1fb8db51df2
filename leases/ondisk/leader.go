package ondisk

import (
	"encoding/binary"

	"github.com/tenurelock/tenure/leases"
)

// Magics and versions of the two kinds of leader record.
const (
	DeltaMagic   = 0x12212010
	PaxosMagic   = 0x06152010
	ClearedMagic = 0x11282016 // a paxos leader whose resource was deleted (spec ondisk 2.3.1)
	DeltaVersion = 0x00030004 // major<<16 | minor
	PaxosVersion = 0x00060004
	LeaderSize   = 256 // bytes: 200 in use, the rest reserved for growth and preserved

	checksummed = 168 // the checksum covers bytes 0 to 167

	FlagShortHold = 0x1  // the owner wants it shared and will free the leader at once
	flagAligns    = 0xf0 // the four align bits
)

// Leader is the first sector of a paxos lease, and the sector of a host id in a lockspace: who owns it,
// since when, in which version. It is comparable: two readings of a leader are the same when all bytes are.
//
//	offset size                               offset size
//	  0     4  magic                            56    48  space name
//	  4     4  version                         104    48  resource name; delta: the owner's host name
//	  8     4  flags                           152     8  timestamp, seconds of the owner's clock; 0 = free
//	 12     4  sector size                     160     8  unused
//	 16     8  num hosts                       168     4  checksum of bytes 0 to 167
//	 24     8  max hosts                       172     2  unused
//	 32     8  owner host id                   174     2  io_timeout of the owner, seconds (delta)
//	 40     8  owner generation                176     8  write id; delta: event generation
//	 48     8  lver, +1 per committed ballot   184     8  write generation; delta: event number
//	                                           192     8  write timestamp; delta: event data
//	                                           200    56  reserved
//
// Invariants: Timestamp 0 means that nobody holds it exclusively. LVer never goes back.
type Leader struct {
	Magic           uint32
	Version         uint32
	Flags           uint32
	SectorSize      uint32
	NumHosts        uint64
	MaxHosts        uint64
	OwnerID         uint64
	OwnerGeneration uint64
	LVer            uint64
	SpaceName       leases.Name
	ResourceName    leases.Name
	Timestamp       uint64
	Unused1         uint64
	Checksum        uint32
	Unused2         uint16
	IOTimeout       uint16 // not covered by the checksum, nor is anything that follows
	WriteID         uint64
	WriteGeneration uint64
	WriteTimestamp  uint64
	Reserved        [56]byte
}

// DecodeLeader reads a leader from the start of a sector. It fails only if fewer than LeaderSize bytes are
// given; ask CheckDelta or CheckPaxos whether the record may be believed.
func DecodeLeader(sector []byte) (Leader, error) {
	if len(sector) < LeaderSize {
		return Leader{}, short("leader", len(sector), LeaderSize)
	}
	le := binary.LittleEndian
	l := Leader{
		Magic: le.Uint32(sector[0:]), Version: le.Uint32(sector[4:]), Flags: le.Uint32(sector[8:]),
		SectorSize: le.Uint32(sector[12:]), NumHosts: le.Uint64(sector[16:]), MaxHosts: le.Uint64(sector[24:]),
		OwnerID: le.Uint64(sector[32:]), OwnerGeneration: le.Uint64(sector[40:]), LVer: le.Uint64(sector[48:]),
		SpaceName: leases.Name(sector[56:104]), ResourceName: leases.Name(sector[104:152]),
		Timestamp: le.Uint64(sector[152:]), Unused1: le.Uint64(sector[160:]), Checksum: le.Uint32(sector[168:]),
		Unused2: le.Uint16(sector[172:]), IOTimeout: le.Uint16(sector[174:]), WriteID: le.Uint64(sector[176:]),
		WriteGeneration: le.Uint64(sector[184:]), WriteTimestamp: le.Uint64(sector[192:]),
		Reserved: [56]byte(sector[200:256]),
	}
	return l, nil
}

// EncodeRaw writes all LeaderSize bytes as they are, the checksum included, and touches nothing behind them.
func (l *Leader) EncodeRaw(sector []byte) {
	le := binary.LittleEndian
	le.PutUint32(sector[0:], l.Magic)
	le.PutUint32(sector[4:], l.Version)
	le.PutUint32(sector[8:], l.Flags)
	le.PutUint32(sector[12:], l.SectorSize)
	le.PutUint64(sector[16:], l.NumHosts)
	le.PutUint64(sector[24:], l.MaxHosts)
	le.PutUint64(sector[32:], l.OwnerID)
	le.PutUint64(sector[40:], l.OwnerGeneration)
	le.PutUint64(sector[48:], l.LVer)
	copy(sector[56:104], l.SpaceName[:])
	copy(sector[104:152], l.ResourceName[:])
	le.PutUint64(sector[152:], l.Timestamp)
	le.PutUint64(sector[160:], l.Unused1)
	le.PutUint32(sector[168:], l.Checksum)
	le.PutUint16(sector[172:], l.Unused2)
	le.PutUint16(sector[174:], l.IOTimeout)
	le.PutUint64(sector[176:], l.WriteID)
	le.PutUint64(sector[184:], l.WriteGeneration)
	le.PutUint64(sector[192:], l.WriteTimestamp)
	copy(sector[200:256], l.Reserved[:])
}

// Encode stores the right checksum in l and writes it to the start of a sector.
func (l *Leader) Encode(sector []byte) {
	l.Checksum = l.Sum()
	l.EncodeRaw(sector)
}

// Sum computes what the checksum must be.
func (l *Leader) Sum() uint32 {
	var p [LeaderSize]byte
	l.EncodeRaw(p[:])
	return Checksum(p[:checksummed])
}

// Geometry returns the sizes that the record states; an old record without an align bit means 1 MiB with
// 512-byte sectors and 8 MiB with 4096. The result may be illegal: ask Legal.
func (l *Leader) Geometry() Geometry {
	align := AlignOf(l.Flags)
	if align == 0 {
		align = DefaultGeometry(int(l.SectorSize)).Align
	}
	return Geometry{Sector: int(l.SectorSize), Align: align}
}

// UnknownFlags returns the flag bits that sanlock 3.8 does not define: those of a newer sanlock, which may
// mean a lease that never times out or that is not decided by Disk Paxos (spec ondisk 8).
func (l *Leader) UnknownFlags() uint32 { return l.Flags &^ (FlagShortHold | flagAligns) }

// CheckDelta tests magic, major version, lockspace name and checksum, in that order. An empty space name
// matches any.
func (l *Leader) CheckDelta(space leases.Name) error {
	if err := l.checkHead("delta leader", DeltaMagic, DeltaVersion); err != nil {
		return err
	}
	if !space.IsEmpty() && !l.SpaceName.Equal(space) {
		return wrongName("delta leader", "space_name", leases.WrongSpace, l.SpaceName, space)
	}
	return l.checkSum("delta leader")
}

// CheckPaxos tests magic, major version, names, num_hosts against the reader's own host id (0 for reads on
// behalf of nobody) and checksum, in that order. An empty name matches any.
func (l *Leader) CheckPaxos(space, resource leases.Name, host uint64) error {
	return l.checkPaxos(space, resource, host, true)
}

// CheckNamed is CheckPaxos for whoever is about to use the lease: an empty name is a name like any other.
// Taken for any, it would let one host hold a lease twice, once without its name.
func (l *Leader) CheckNamed(space, resource leases.Name, host uint64) error {
	return l.checkPaxos(space, resource, host, false)
}

func (l *Leader) checkPaxos(space, resource leases.Name, host uint64, emptyIsAny bool) error {
	if err := l.checkHead("paxos leader", PaxosMagic, PaxosVersion); err != nil {
		return err
	}
	if (!emptyIsAny || !space.IsEmpty()) && !l.SpaceName.Equal(space) {
		return wrongName("paxos leader", "space_name", leases.WrongSpace, l.SpaceName, space)
	}
	if (!emptyIsAny || !resource.IsEmpty()) && !l.ResourceName.Equal(resource) {
		return wrongName("paxos leader", "resource_name", leases.WrongResource, l.ResourceName, resource)
	}
	if l.NumHosts < host {
		return wrong("paxos leader", "num_hosts", leases.BadNumHosts, l.NumHosts, host)
	}
	return l.checkSum("paxos leader")
}

// CheckSane tests what a good checksum does not promise (spec ondisk 9.19): legal sizes, num_hosts and
// max_hosts that the sizes allow, an owner that can exist. For paxos leaders that passed CheckPaxos.
func (l *Leader) CheckSane() error {
	g := l.Geometry()
	bad := func(field string, got, want uint64) error {
		return wrong("paxos leader", field, leases.Corrupt, got, want)
	}
	switch limit := g.MaxHosts(); {
	case limit == 0:
		return bad("sector_size and align", uint64(g.Sector), 512)
	case l.MaxHosts == 0 || l.MaxHosts > limit:
		return bad("max_hosts", l.MaxHosts, limit)
	case l.NumHosts == 0 || l.NumHosts > l.MaxHosts:
		return bad("num_hosts", l.NumHosts, l.MaxHosts)
	case l.Timestamp != 0 && (l.OwnerID == 0 || l.OwnerID > l.MaxHosts):
		return bad("owner_id", l.OwnerID, l.MaxHosts)
	case l.WriteID > l.MaxHosts:
		return bad("write_id", l.WriteID, l.MaxHosts)
	case l.UnknownFlags() != 0:
		return bad("flags", uint64(l.Flags), uint64(l.Flags&(FlagShortHold|flagAligns)))
	}
	return nil
}

func (l *Leader) checkHead(record string, magic, version uint32) error {
	if l.Magic != magic {
		return wrong(record, "magic", leases.BadMagic, l.Magic, magic)
	}
	if l.Version>>16 != version>>16 {
		return wrong(record, "version", leases.BadVersion, l.Version, version)
	}
	return nil
}

func (l *Leader) checkSum(record string) error {
	if sum := l.Sum(); l.Checksum != sum {
		return wrong(record, "checksum", leases.BadChecksum, l.Checksum, sum)
	}
	return nil
}
