package record

import (
	"strings"
	"testing"
)

// ring is a shared area with two writers.
type ring struct {
	t      *testing.T
	sector int
	disk   []byte
}

func (r *ring) write(j *Journal) {
	slot, rec := j.Next()
	rec.Encode(r.disk[slot*r.sector:])
	j.Wrote(slot, rec)
}

func (r *ring) expect(j *Journal, words ...string) {
	r.t.Helper()
	got := j.Check(r.disk)
	if len(got) != len(words) {
		r.t.Fatalf("Check says %q, want %q", got, words)
	}
	for i, w := range words {
		if !strings.HasPrefix(got[i], w) {
			r.t.Fatalf("Check says %q, want %q", got, words)
		}
	}
}

func TestJournal(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		r := &ring{t, sector, make([]byte, Slots*sector)}
		first := NewJournal("vm1", 3, r.disk, sector)
		for range 3 * Slots { // round and round
			r.expect(first)
			r.write(first)
		}
		r.expect(first)

		second := NewJournal("vm2", 4, r.disk, sector)
		r.write(second)
		r.write(second)
		r.expect(second)
		r.write(first) // the old owner is not dead
		r.expect(second, "HARM")
		r.expect(second) // told once
		r.expect(first, "HARM")

		slot, _ := second.Next()
		before := append([]byte(nil), r.disk[slot*sector:][:sector]...)
		r.write(second)
		copy(r.disk[slot*sector:], before) // an older state of the sector comes back
		r.expect(second, "HARM")           // it was vm1's: nobody can tell it from a write of vm1

		for range Slots {
			r.write(second)
		}
		slot, _ = second.Next()
		copy(before, r.disk[slot*sector:])
		r.write(second)
		copy(r.disk[slot*sector:], before)
		r.expect(second, "LOST")
	}
}

func TestFailedWriteMayLand(t *testing.T) {
	r := &ring{t, 512, make([]byte, Slots*512)}
	j := NewJournal("vm1", 1, r.disk, 512)
	slot, rec := j.Next()
	j.Maybe(slot, rec)
	r.expect(j)
	rec.Encode(r.disk[slot*512:])
	r.expect(j)
	r.disk[slot*512]++ // torn
	r.expect(j, "LOST")
}

func TestDecodeWantsTheWholeRecord(t *testing.T) {
	sector := make([]byte, 512)
	want := Record{Version: 7, Sequence: 9, Name: "vm1"}
	want.Encode(sector)
	if got, ok := Decode(sector); !ok || got != want {
		t.Fatalf("Decode says %v %v, want %v", got, ok, want)
	}
	for i := range size {
		sector[i] ^= 1
		if got, ok := Decode(sector); ok {
			t.Errorf("byte %d changed, and Decode says %v", i, got)
		}
		sector[i] ^= 1
	}
}
