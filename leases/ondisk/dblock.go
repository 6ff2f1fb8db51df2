package ondisk

import (
	"encoding/binary"

	"github.com/tenurelock/tenure/leases"
)

// Sizes and flags of a host block.
const (
	DBlockSize    = 56
	ModeBlockAt   = 128 // byte offset in the host block
	ModeBlockSize = 16
	HostBlockSize = ModeBlockAt + ModeBlockSize

	DBlockReleased  = 0x1
	ModeBlockShared = 0x1
)

// DBlock is what a host says in a ballot: the first 56 bytes of its host block (spec ondisk 2.5).
//
//	 0  8  mbal    ballot number begun          32  8  inp3   chosen: now() of that host, seconds
//	 8  8  bal     ballot of the chosen value   40  8  lver   instance being decided
//	16  8  inp     chosen: host id, 0 = none    48  4  checksum of bytes 0 to 47
//	24  8  inp2    chosen: generation           52  4  flags, not covered by the checksum
type DBlock struct {
	MBal, Bal       uint64
	Inp, Inp2, Inp3 uint64
	LVer            uint64
	Checksum, Flags uint32
}

// ModeBlock is how a host holds the lease shared: 16 bytes at offset 128 of the host block (spec ondisk 2.6).
//
//	128  4  flags: SHARED 0x1      132  4  undefined      136  8  generation of the holder
//
// It has no checksum. The undefined bytes are not kept: we write zeros.
type ModeBlock struct {
	Flags      uint32
	Generation uint64
}

// HostBlock is one host's sector in a resource area.
type HostBlock struct {
	DBlock
	Mode ModeBlock
}

// DecodeHostBlock reads dblock and mode block. It fails only if fewer than HostBlockSize bytes are given.
func DecodeHostBlock(sector []byte) (HostBlock, error) {
	if len(sector) < HostBlockSize {
		return HostBlock{}, short("host block", len(sector), HostBlockSize)
	}
	le := binary.LittleEndian
	return HostBlock{
		DBlock: DBlock{
			MBal: le.Uint64(sector[0:]), Bal: le.Uint64(sector[8:]),
			Inp: le.Uint64(sector[16:]), Inp2: le.Uint64(sector[24:]), Inp3: le.Uint64(sector[32:]),
			LVer: le.Uint64(sector[40:]), Checksum: le.Uint32(sector[48:]), Flags: le.Uint32(sector[52:]),
		},
		Mode: ModeBlock{Flags: le.Uint32(sector[128:]), Generation: le.Uint64(sector[136:])},
	}, nil
}

// EncodeRaw writes dblock and mode block with the checksum that is stored in b, and zeros in the undefined
// bytes between them and up to the end of sector.
func (b *HostBlock) EncodeRaw(sector []byte) {
	clear(sector)
	le := binary.LittleEndian
	b.putSummed(sector)
	le.PutUint32(sector[48:], b.Checksum)
	le.PutUint32(sector[52:], b.Flags)
	le.PutUint32(sector[128:], b.Mode.Flags)
	le.PutUint64(sector[136:], b.Mode.Generation)
}

// Encode stores the right checksum in b and writes it as EncodeRaw does.
func (b *HostBlock) Encode(sector []byte) {
	b.Checksum = b.Sum()
	b.EncodeRaw(sector)
}

// Sum computes what the dblock's checksum must be.
func (b *HostBlock) Sum() uint32 {
	var p [48]byte
	b.putSummed(p[:])
	return Checksum(p[:])
}

// Shared reports whether the mode block's SHARED flag is set.
func (b *HostBlock) Shared() bool { return b.Mode.Flags&ModeBlockShared != 0 }

// Released reports whether the dblock's RELEASED flag is set.
func (b *HostBlock) Released() bool { return b.Flags&DBlockReleased != 0 }

// Check tests the dblock's checksum. A block that was never used has all of checksum, mbal, bal, inp and
// lver zero and is good.
func (b *HostBlock) Check() error {
	if b.Checksum == 0 && b.MBal == 0 && b.Bal == 0 && b.Inp == 0 && b.LVer == 0 {
		return nil
	}
	if sum := b.Sum(); b.Checksum != sum {
		return wrong("dblock", "checksum", leases.BlockChecksum, b.Checksum, sum)
	}
	return nil
}

func (b *HostBlock) putSummed(p []byte) {
	le := binary.LittleEndian
	le.PutUint64(p[0:], b.MBal)
	le.PutUint64(p[8:], b.Bal)
	le.PutUint64(p[16:], b.Inp)
	le.PutUint64(p[24:], b.Inp2)
	le.PutUint64(p[32:], b.Inp3)
	le.PutUint64(p[40:], b.LVer)
}

// HostBlockUnused reports whether a host block sector says nothing at all: the bytes of dblock and mode block
// that are defined are zero. Most sectors of most leases are, and this is cheaper than decoding them.
func HostBlockUnused(sector []byte) bool {
	return len(sector) >= HostBlockSize && *(*[DBlockSize]byte)(sector) == [DBlockSize]byte{} &&
		*(*[ModeBlockSize]byte)(sector[ModeBlockAt:]) == [ModeBlockSize]byte{}
}
