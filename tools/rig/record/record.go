// Package record is what holders of a lease write to a shared area of a disk, and how anyone sees there that a
// write was lost or that somebody wrote who might not.
//
// The area is a ring of Slots sectors. A record carries the version of its writer's lease, which grows with
// each owner, and a sequence number that goes on from owner to owner; the number names the slot. A writer reads
// the whole ring before each record: what it finds must be what it found when it got the lease, and its own.
package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Slots is the number of records in the ring.
const Slots = 32

// magic is how a sector with a record starts.
const magic = "rigrec01"

// nameMax bounds a writer's name in bytes.
const nameMax = 32

// Record is one sector: magic 0, version 8, sequence 16, name 24 (zero padded), CRC-32 of all that 56.
type Record struct {
	Version  uint64 // of the writer's lease
	Sequence uint64
	Name     string // the writer
}

// size is what a record takes of its sector, in bytes.
const size = 24 + nameMax + 4

// Encode writes the record to the start of a sector.
func (r Record) Encode(sector []byte) {
	copy(sector, magic)
	binary.LittleEndian.PutUint64(sector[8:], r.Version)
	binary.LittleEndian.PutUint64(sector[16:], r.Sequence)
	name := sector[24 : 24+nameMax]
	clear(name)
	copy(name, r.Name)
	binary.LittleEndian.PutUint32(sector[24+nameMax:], crc32.ChecksumIEEE(sector[:24+nameMax]))
}

// Decode reads a record; false means that the sector has none that is whole.
func Decode(sector []byte) (Record, bool) {
	if len(sector) < size || string(sector[:8]) != magic ||
		binary.LittleEndian.Uint32(sector[24+nameMax:]) != crc32.ChecksumIEEE(sector[:24+nameMax]) {
		return Record{}, false
	}
	return Record{
		Version:  binary.LittleEndian.Uint64(sector[8:]),
		Sequence: binary.LittleEndian.Uint64(sector[16:]),
		Name:     string(bytes.TrimRight(sector[24:24+nameMax], "\x00")),
	}, true
}

// String is the record as logs show it.
func (r Record) String() string {
	if r == (Record{}) {
		return "nothing"
	}
	return fmt.Sprintf("lver %d record %d of %s", r.Version, r.Sequence, r.Name)
}

// Journal knows what the ring must hold while one writer has the lease.
type Journal struct {
	name    string
	version uint64
	sector  int
	next    uint64
	want    [Slots]Record
	maybe   map[int]Record // writes that failed, which may have reached the disk, or may yet
}

// NewJournal starts from what the ring holds when the lease is granted.
func NewJournal(name string, version uint64, ring []byte, sectorSize int) *Journal {
	j := &Journal{name: name, version: version, sector: sectorSize, maybe: map[int]Record{}}
	for i := range j.want {
		j.want[i], _ = Decode(ring[i*sectorSize:])
		j.next = max(j.next, j.want[i].Sequence)
	}
	j.next++
	return j
}

// Next returns the next record to write, and its slot.
func (j *Journal) Next() (slot int, r Record) {
	return int(j.next % Slots), Record{Version: j.version, Sequence: j.next, Name: j.name}
}

// Wrote says that the disk took the record of Next.
func (j *Journal) Wrote(slot int, r Record) {
	j.want[slot] = r
	delete(j.maybe, slot)
	j.next++
}

// Maybe says that the write of the record of Next failed; it may still be on the disk. The next record goes to
// the next slot.
func (j *Journal) Maybe(slot int, r Record) {
	j.maybe[slot] = r
	j.next++
}

// Check compares the ring with what it must hold. Each difference is told once: LOST when a write of ours is
// gone, HARM when another writer's record is there that was not when we got the lease. HARM with a higher
// version means that the lease has a new owner and that we are the one who may not write.
func (j *Journal) Check(ring []byte) []string {
	var out []string
	for i := range j.want {
		got, _ := Decode(ring[i*j.sector:])
		want := j.want[i]
		if got == want {
			continue
		}
		j.want[i] = got
		if late, ok := j.maybe[i]; ok && got == late {
			delete(j.maybe, i)
			continue
		}
		word := "HARM"
		if got.Name == j.name && got.Version == j.version || got == (Record{}) {
			word = "LOST"
		}
		out = append(out, fmt.Sprintf("%s: slot %d has %v where %v was", word, i, got, want))
	}
	return out
}
