package device

import (
	"testing"
	"unsafe"
)

func TestBuffersAreAlignedAndZeroed(t *testing.T) {
	for _, n := range []int{1, 512, 4096, 4097, 9 << 10, 1 << 20, 8 << 20, 16<<20 + 512} {
		for range 3 {
			b := NewBuffer(n)
			if len(b.Bytes()) != n || cap(b.Bytes()) != n {
				t.Errorf("%d bytes: got %d of %d", n, len(b.Bytes()), cap(b.Bytes()))
			}
			if address(b)%4096 != 0 {
				t.Errorf("%d bytes at %#x", n, address(b))
			}
			for i, v := range b.Bytes() {
				if v != 0 {
					t.Fatalf("%d bytes: byte %d is %d", n, i, v)
				}
				b.Bytes()[i] = 0xff
			}
			b.Release()
			b.Release()
			if b.Bytes() != nil {
				t.Error("a released buffer has bytes")
			}
		}
	}
}

func TestReleaseTwiceGivesMemoryOnce(t *testing.T) {
	a := NewBuffer(512)
	a.Release()
	a.Release()
	b, c := NewBuffer(512), NewBuffer(512)
	defer b.Release()
	defer c.Release()
	if address(b) == address(c) {
		t.Error("two owners of one page")
	}
}

func TestPoolIsBounded(t *testing.T) {
	var p pool
	var all [][]byte
	for n := range 40 {
		mem, used := p.get(1 << 20)
		if used && n%2 == 0 {
			t.Error("an empty pool gave used memory")
		}
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(mem))); at%halfHuge != 0 {
			t.Errorf("1 MiB at %#x crosses huge pages", at)
		}
		all = append(all, mem)
	}
	for _, mem := range all {
		p.put(mem)
	}
	if p.kept != keepBytes || p.used != 0 {
		t.Errorf("keeps %d bytes, %d in use", p.kept, p.used)
	}
	if mem, used := p.get(600 << 10); !used || len(mem) != 1<<20 || p.kept != keepBytes-1<<20 {
		t.Errorf("got %d bytes, used %v, keeps %d", len(mem), used, p.kept)
	} else {
		p.put(mem)
	}
	for range keepBytes >> 20 {
		mem, _ := p.get(1 << 20)
		big, _ := p.get(64 << 20) // larger than any class: goes back at once
		p.put(big)
		unmap(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem)))
		p.used--
	}
	if p.kept != 0 || p.used != 0 {
		t.Errorf("keeps %d bytes, %d in use", p.kept, p.used)
	}
}

func TestClassOf(t *testing.T) {
	for n, want := range map[int]int{
		0: 0, 1: 0, 4096: 0, 4097: 1, 8192: 1, 8193: 2,
		1 << 20: 8, 16 << 20: 12, 16<<20 + 1: 13,
	} {
		if got := classOf(n); got != want {
			t.Errorf("classOf(%d) = %d, want %d", n, got, want)
		}
		if c := classOf(n); pageSize<<c < n {
			t.Errorf("class %d does not hold %d bytes", c, n)
		}
	}
}
