package device

import (
	"math/bits"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The pool keeps released memory by size class: pageSize<<0, pageSize<<1, … pageSize<<(classes-1). What is
// larger, or released when keepBytes are kept already, goes back to the kernel at once.
const (
	pageSize  = 4096
	classes   = 13       // the largest class is 16 MiB
	keepBytes = 16 << 20 // memory kept for reuse, all classes together
	// hugePage is what the memory of classes from halfHuge on is aligned to. The kernel pins every page of a
	// direct transfer: one of 1 MiB is 256 pages or a half of one.
	hugePage = 2 << 20
	halfHuge = hugePage / 2
)

// Buffer is page aligned memory from the package's pool. It has one owner at a time; ownership moves with
// the call that takes it. It is not safe for concurrent use.
type Buffer struct {
	mem []byte // what the pool gave; nil once the buffer was given away
	n   int
}

// NewBuffer returns n zeroed bytes, page aligned, from the pool. A transfer wants n to be a multiple of the
// sector size. It panics if the kernel has no memory, as make does.
func NewBuffer(n int) *Buffer {
	mem, used := memory.get(n)
	if used {
		clear(mem[:n])
	}
	return &Buffer{mem: mem, n: n}
}

// Bytes returns the bytes that were asked for, and none after Release or Write.
func (b *Buffer) Bytes() []byte {
	if b.mem == nil {
		return nil
	}
	return b.mem[:b.n:b.n]
}

// Release gives the memory back; the bytes must not be used any more. Releasing a buffer that was released
// before, or that a Write has taken, does nothing, so that it can be deferred.
func (b *Buffer) Release() {
	if mem, _ := b.take(); mem != nil {
		memory.put(mem)
	}
}

// take moves the memory out of b, which is empty afterwards.
func (b *Buffer) take() (mem []byte, n int) {
	mem, n = b.mem, b.n
	b.mem, b.n = nil, 0
	return mem, n
}

// BuffersInUse returns how many buffers of the process are neither released nor free, those that the
// kernel still works on included.
func BuffersInUse() int {
	memory.mu.Lock()
	defer memory.mu.Unlock()
	return memory.used
}

// memory is the one pool of the process: buffers pass between devices and belong to none of them.
var memory pool

type pool struct {
	mu   sync.Mutex
	free [classes][][]byte
	kept int // bytes in free
	used int // buffers given out
}

// classOf returns the smallest class that holds n bytes; it may be beyond the last one.
func classOf(n int) int {
	return bits.Len(uint(max(n-1, 0)) / pageSize)
}

// get returns memory of at least n bytes, and whether it may hold something else than zeros.
func (p *pool) get(n int) (mem []byte, used bool) {
	if n < 0 {
		panic("device: buffer of negative size")
	}
	c := classOf(n)
	p.mu.Lock()
	p.used++
	if c < classes {
		if last := len(p.free[c]) - 1; last >= 0 {
			mem = p.free[c][last]
			p.free[c][last] = nil
			p.free[c] = p.free[c][:last]
			p.kept -= len(mem)
			p.mu.Unlock()
			return mem, true
		}
	}
	p.mu.Unlock()
	size := (n + pageSize - 1) / pageSize * pageSize
	if c < classes {
		size = pageSize << c
	}
	switch {
	case size < halfHuge:
		return mapPages(size), false
	case size > halfHuge:
		return mapHuge(size), false
	}
	both := mapHuge(hugePage)
	p.keep(both[halfHuge:])
	return both[:halfHuge:halfHuge], false
}

// mapPages maps n bytes of zeros, a multiple of the page size.
func mapPages(n int) []byte {
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		panic("device: mmap of a buffer: " + err.Error())
	}
	return mem
}

// mapHuge maps n bytes of zeros that begin a huge page and lie in huge pages as far as the kernel has any.
func mapHuge(n int) []byte {
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(n+hugePage), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		panic("device: mmap of a buffer: " + err.Error())
	}
	head := -uintptr(base) % hugePage
	unmap(base, head)
	begin := unsafe.Add(base, head)
	unmap(unsafe.Add(begin, n), hugePage-head)
	mem := unsafe.Slice((*byte)(begin), n)
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // a kernel without huge pages is slower, not wrong
	return mem
}

// unmap gives n bytes of a mapping back, which may be none.
func unmap(at unsafe.Pointer, n uintptr) {
	if n == 0 {
		return
	}
	if err := unix.MunmapPtr(at, n); err != nil {
		panic("device: munmap of a buffer: " + err.Error())
	}
}

// put takes a buffer's memory back.
func (p *pool) put(mem []byte) {
	p.mu.Lock()
	p.used--
	p.mu.Unlock()
	p.keep(mem)
}

// keep puts memory on the list of its class, or gives it back to the kernel if there is enough. A half of a
// huge page is given back by itself.
func (p *pool) keep(mem []byte) {
	c := classOf(len(mem))
	p.mu.Lock()
	room := c < classes && p.kept+len(mem) <= keepBytes
	if room {
		p.free[c] = append(p.free[c], mem)
		p.kept += len(mem)
	}
	p.mu.Unlock()
	if room {
		return
	}
	unmap(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem)))
}
