package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/ondisk"
)

// How much the acquire section measures: rounds in which each takes its turn, operations in each turn.
const (
	acquireRounds = 12
	acquireOps    = 25
	warmUp        = 5
)

// acquireSection measures acquire and release of an EX lease that nobody else wants, through both daemons
// and as bare transfers. The lockspace lies on another device, so that the lease's device does nothing else.
func (b *bench) acquireSection() (err error) {
	spaces, err := b.newLoop("acquire-space", mib)
	if err != nil {
		return err
	}
	defer spaces.close(&err)
	disk, err := b.newLoop("acquire-lease", 4*mib)
	if err != nil {
		return err
	}
	defer disk.close(&err)
	err = b.init("-s", "LS:0:"+spaces.path+":0", "-o", fmt.Sprint(ioTimeout))
	if err != nil {
		return err
	}
	var daemons []*daemon
	for i, who := range []string{ours, theirs} {
		d, err := b.start(who, uint64(i+1))
		if err != nil {
			return err
		}
		defer d.stop()
		if err := d.join(spaces.path); err != nil {
			return err
		}
		daemons = append(daemons, d)
	}
	for i, slots := range []uint64{2000, 16} {
		r := resource{
			space: "LS", name: fmt.Sprintf("R%d", slots), path: disk.path, offset: int64(2*i) * mib,
		}
		if err := b.formatSlots(r, slots); err != nil {
			return err
		}
		// The bare transfers have an area of their own, formatted too: holes of a file are read without a disk.
		scratch := resource{space: "LS", name: "scratch", path: disk.path, offset: r.offset + mib}
		if err := b.formatSlots(scratch, slots); err != nil {
			return err
		}
		if err := b.acquireSlots(disk, daemons, r, slots); err != nil {
			return err
		}
	}
	return err
}

// formatSlots makes a lease for the given number of hosts.
func (b *bench) formatSlots(r resource, slots uint64) error {
	if err := b.init("-r", fmt.Sprintf("%s:%s:%s:%d", r.space, r.name, r.path, r.offset)); err != nil {
		return err
	}
	f, err := openDirect(r.path)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := aligned(512)
	if err != nil {
		return err
	}
	if _, err := f.ReadAt(p, r.offset); err != nil {
		return err
	}
	l, err := ondisk.DecodeLeader(p)
	if err != nil {
		return err
	}
	l.NumHosts = slots
	l.Encode(p)
	_, err = f.WriteAt(p, r.offset)
	return err
}

// turn does n operations and returns how long each took.
type turn struct {
	who string
	do  func(n int) ([]float64, error)
}

func (b *bench) acquireSlots(disk *loop, daemons []*daemon, r resource, slots uint64) error {
	var turns []turn
	for _, d := range daemons {
		c, err := client(d.runDir)
		if err != nil {
			return err
		}
		defer c.Close()
		turns = append(turns, turn{d.who, func(n int) ([]float64, error) { return cycles(c, r, n) }})
	}
	f, err := openDirect(r.path)
	if err != nil {
		return err
	}
	defer f.Close()
	turns = append(turns, turn{bare, func(n int) ([]float64, error) {
		return bareCycles(f, r.offset+mib, slots, n)
	}})

	b.say("acquire and release, %d slots: %d rounds", slots, acquireRounds)
	times, before := map[string][]float64{}, map[string][]traffic{}
	for _, t := range turns {
		if _, err := t.do(warmUp); err != nil {
			return fmt.Errorf("%s: %w", t.who, err)
		}
	}
	for range acquireRounds {
		for _, t := range turns {
			old, err1 := disk.stat()
			took, err2 := t.do(acquireOps)
			now, err3 := disk.stat()
			if err := errors.Join(err1, err2, err3); err != nil {
				return fmt.Errorf("%s: %w", t.who, err)
			}
			before[t.who] = append(before[t.who], now.since(old, acquireOps))
			times[t.who] = append(times[t.who], took...)
		}
	}
	b.reportSlots(slots, turns, times, before)
	return nil
}

func (b *bench) reportSlots(slots uint64, turns []turn, times map[string][]float64, io map[string][]traffic) {
	const s = "acquire"
	pick := func(who string, get func(traffic) float64) []float64 {
		var v []float64
		for _, t := range io[who] {
			v = append(v, get(t))
		}
		return v
	}
	for _, q := range []struct {
		unit string
		get  func(traffic) float64
	}{
		{"reads", func(t traffic) float64 { return t.reads }},
		{"sectors read", func(t traffic) float64 { return t.sectorsRead }},
		{"writes", func(t traffic) float64 { return t.writes }},
		{"sectors written", func(t traffic) float64 { return t.sectorsWritten }},
	} {
		for _, t := range turns {
			b.report.add(s, fmt.Sprintf("%d slots", slots), t.who, q.unit, pick(t.who, q.get))
		}
	}
	median := map[string]float64{}
	for _, t := range turns {
		median[t.who] = b.report.add(s, fmt.Sprintf("%d slots", slots), t.who, "ms", times[t.who])
	}
	what := fmt.Sprintf("%d slots, time over ", slots)
	if slots == 2000 {
		b.report.atMost(s, what+"Debian's", median[ours]/median[theirs], limitStock)
	} else {
		b.report.note(s, what+"Debian's", median[ours]/median[theirs])
	}
	b.report.atMost(s, what+"bare transfers", median[ours]/median[bare], limitBare)
}

// cycles acquires and releases n times and returns the milliseconds of each cycle.
func cycles(c *conn, r resource, n int) ([]float64, error) {
	took := make([]float64, n)
	for i := range took {
		begin := time.Now()
		if rv, err := c.acquire(r, 0); err != nil || rv != 0 {
			return nil, fmt.Errorf("acquire: %d, %w", rv, err)
		}
		if rv, err := c.release(r); err != nil || rv != 0 {
			return nil, fmt.Errorf("release: %d, %w", rv, err)
		}
		took[i] = float64(time.Since(begin).Microseconds()) / 1000
	}
	return took, nil
}

// bareCycles makes the transfers of one acquire and release, each waiting for the one before: three times
// read all blocks and write a sector; then write, read, write a sector.
func bareCycles(f *os.File, off int64, slots uint64, n int) ([]float64, error) {
	const sector = 512
	area, err := aligned(sector * int(slots+2))
	if err != nil {
		return nil, err
	}
	defer unmap(area)
	one, err := aligned(sector)
	if err != nil {
		return nil, err
	}
	defer unmap(one)
	took := make([]float64, n)
	for i := range took {
		binary.LittleEndian.PutUint64(one, uint64(i))
		begin := time.Now()
		for range 3 {
			if _, err := f.ReadAt(area, off); err != nil {
				return nil, err
			}
			if _, err := f.WriteAt(one, off+2*sector); err != nil {
				return nil, err
			}
		}
		_, err1 := f.WriteAt(one, off+2*sector)
		_, err2 := f.ReadAt(one, off)
		_, err3 := f.WriteAt(one, off)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, err
		}
		took[i] = float64(time.Since(begin).Microseconds()) / 1000
	}
	return took, nil
}

func openDirect(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT|syscall.O_SYNC, 0)
}

// aligned returns page aligned memory, which O_DIRECT wants.
func aligned(n int) ([]byte, error) {
	page := os.Getpagesize()
	p, err := unix.Mmap(-1, 0, (n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	return p[:n:cap(p)], nil
}

func unmap(p []byte) {
	_ = unix.Munmap(p[:cap(p)]) // memory of this process that nobody needs any more
}
