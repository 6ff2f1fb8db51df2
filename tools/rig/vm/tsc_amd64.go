package vm

import "time"

// rdtsc is the processor's time stamp counter, which is what QEMU's guests see as theirs.
func rdtsc() uint64

// measureTSC measures the counter against the host's clock, to some millionths.
func measureTSC() (kHz int) {
	const during = 200 * time.Millisecond
	ticks, began := tscNow()
	time.Sleep(during)
	more, ended := tscNow()
	return int(float64(more-ticks) / float64(ended.Sub(began)) * float64(time.Millisecond))
}

// tscNow reads the counter and the clock at one moment: of many tries, the one in which the least time passed.
func tscNow() (uint64, time.Time) {
	const tries = 1000
	var ticks uint64
	var at time.Time
	least := time.Hour
	for range tries {
		before := time.Now()
		now := rdtsc()
		if took := time.Since(before); took < least {
			least, ticks, at = took, now, before.Add(took/2)
		}
	}
	return ticks, at
}
