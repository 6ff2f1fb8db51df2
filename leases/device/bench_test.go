package device

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/tools/need"
)

// The sizes that leases are made of: a sector, a ballot's read for few hosts, an area.
var benchSizes = []int{512, 9 << 10, 1 << 20}

// BenchmarkTransfer sets a transfer with a deadline beside the bare system call on the same loop device.
func BenchmarkTransfer(b *testing.B) {
	path := need.Loop(b, 512, 8<<20)
	f, err := Open(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_SYNC|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	for _, n := range benchSizes {
		p := NewBuffer(n)
		defer p.Release()
		run := func(name string, transfer func() error) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := transfer(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("read/bare", func() error {
			_, err := unix.Pread(fd, p.Bytes(), 1<<20)
			return err
		})
		run("read/device", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			buf, err := f.Read(ctx, 1<<20, n)
			if err == nil {
				buf.Release()
			}
			return err
		})
		run("write/bare", func() error {
			_, err := unix.Pwrite(fd, p.Bytes(), 1<<20)
			return err
		})
		run("write/device", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return f.Write(ctx, 1<<20, NewBuffer(n))
		})
	}
}
