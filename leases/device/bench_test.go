package device

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/tools/need"
)

// BenchmarkTransfer sets a transfer with a deadline beside the bare system call on the same loop device, in
// turn, so that both see the same machine. The sizes are those that leases are made of: a sector, a ballot's
// read for few hosts, an area. It reports medians and their ratio. What a transfer costs more is two wake-ups
// of the scheduler: 2 µs while the other processors are awake, up to 15 µs on a virtual machine where they
// sleep. TMPDIR chooses what backs the loop device.
func BenchmarkTransfer(b *testing.B) {
	path := need.Loop(b, 512, 8<<20)
	f, err := Open(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const off = 1 << 20
	for _, n := range []int{512, 9 << 10, 1 << 20} {
		p := NewBuffer(n)
		defer p.Release()
		b.Run(fmt.Sprintf("read/%d", n), func(b *testing.B) {
			compare(b, func() error {
				_, err := unix.Pread(f.direct.fd, p.Bytes(), off)
				return err
			}, func(ctx context.Context) error {
				buf, err := f.Read(ctx, off, n)
				if err == nil {
					buf.Release()
				}
				return err
			})
		})
		b.Run(fmt.Sprintf("write/%d", n), func(b *testing.B) {
			compare(b, func() error {
				_, err := unix.Pwrite(f.direct.fd, p.Bytes(), off)
				return err
			}, func(ctx context.Context) error {
				return f.Write(ctx, off, NewBuffer(n))
			})
		})
	}
}

func compare(b *testing.B, bare func() error, ours func(context.Context) error) {
	b.ReportAllocs()
	var took [2][]time.Duration
	for b.Loop() {
		start := time.Now()
		if err := bare(); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := ours(ctx)
		cancel()
		took[0] = append(took[0], between.Sub(start))
		took[1] = append(took[1], time.Since(between))
		if err != nil {
			b.Fatal(err)
		}
	}
	var median [2]float64
	for i := range took {
		slices.Sort(took[i])
		median[i] = float64(took[i][len(took[i])/2])
	}
	b.ReportMetric(median[0], "bare-ns")
	b.ReportMetric(median[1], "device-ns")
	b.ReportMetric(median[1]/median[0], "ratio")
}
