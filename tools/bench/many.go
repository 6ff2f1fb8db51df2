package main

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// The size of the many section.
const (
	manySpaces = 200
	cpuTime    = 20 * time.Second
)

// manySection joins 200 lockspaces at once and measures what the daemon then takes. Debian's goes second, on
// the same device formatted anew; both once, since that takes minutes.
func (b *bench) manySection() (err error) {
	disk, err := b.newLoop("many", manySpaces*mib)
	if err != nil {
		return err
	}
	defer disk.close(&err)
	for _, who := range []string{ours, theirs} {
		for i := range manySpaces {
			err := b.init("-s", fmt.Sprintf("LS%d:0:%s:%d", i, disk.path, i*mib), "-o", fmt.Sprint(ioTimeout))
			if err != nil {
				return err
			}
		}
		if err := b.many(disk, who); err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
	}
	return err
}

func (b *bench) many(disk *loop, who string) error {
	const s = "many"
	d, err := b.start(who, 1)
	if err != nil {
		return err
	}
	defer d.stop()
	b.say("%s: one lockspace, then %d at once", who, manySpaces)
	begin := time.Now()
	if err := d.add(lockspace{"LS0", 1, disk.path, 0}); err != nil {
		return err
	}
	alone := time.Since(begin).Seconds()
	begin = time.Now()
	var wg sync.WaitGroup
	var errs [manySpaces]error
	for i := 1; i < manySpaces; i++ {
		wg.Go(func() { errs[i] = d.add(lockspace{fmt.Sprintf("LS%d", i), 1, disk.path, int64(i) * mib}) })
	}
	wg.Wait()
	all := time.Since(begin).Seconds()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	before, err1 := d.usage()
	time.Sleep(cpuTime)
	after, err2 := d.usage()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	cpu := 100 * (after.cpu - before.cpu).Seconds() / cpuTime.Seconds()
	for _, q := range []struct {
		what, unit string
		value      float64
	}{
		{"join one", "s", alone},
		{"join 199 more at once", "s", all},
		{"with 200, memory", "MB RSS", after.rssMB},
		{"with 200", "threads", after.threads},
		{"with 200, renewals", "% of a CPU", cpu},
	} {
		b.report.add(s, q.what, who, q.unit, []float64{q.value})
	}
	if who == ours {
		b.report.atMost(s, "seconds longer than one join", all-alone, limitJoin)
		b.report.atMost(s, "MB", after.rssMB, limitRSS)
		b.report.atMost(s, "threads", after.threads, limitThreads)
	}
	return nil
}
