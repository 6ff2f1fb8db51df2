package memdisk_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, d device.Device, off int64, v byte, n int) {
	t.Helper()
	if err := d.Write(t.Context(), off, filled(v, n)); err != nil {
		t.Error(err)
	}
}

func filled(v byte, n int) *device.Buffer {
	b := device.NewBuffer(n)
	copy(b.Bytes(), bytes.Repeat([]byte{v}, n))
	return b
}

func TestHostsShareSectors(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		disk := memdisk.New(memdisk.Config{SectorSize: ss, Size: 4 << 20})
		a, b := disk.Open("a"), disk.Open("b")
		if got, want := a.Geometry(), (device.Geometry{
			Path: "a", SectorSize: ss, Size: 4 << 20, IsBlock: true,
		}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		at := int64(1<<20 - ss) // across two extents
		write(t, a, at, 7, 2*ss)
		a.Close()
		got, err := b.Read(t.Context(), at-int64(ss), 4*ss)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Concat(make([]byte, ss), bytes.Repeat([]byte{7}, 2*ss), make([]byte, ss))
		if !bytes.Equal(got.Bytes(), want) || !bytes.Equal(disk.Bytes(at-int64(ss), 4*ss), want) {
			t.Errorf("sector size %d: b reads something else than a wrote", ss)
		}
		got.Release()
		disk.Poke(at+1, []byte{9, 9})
		if got := disk.Bytes(at, 4); !bytes.Equal(got, []byte{7, 9, 9, 7}) {
			t.Errorf("after a poke: %v", got)
		}
		b.Close()
	}
}

func TestRefuses(t *testing.T) {
	disk := memdisk.New(memdisk.Config{SectorSize: 4096, Size: 1 << 20})
	d := disk.Open("a")
	defer d.Close()
	for _, c := range []struct {
		off  int64
		n    int
		want error
	}{
		{512, 4096, device.ErrMisaligned},
		{0, 512, device.ErrMisaligned},
		{0, 0, device.ErrMisaligned},
		{-4096, 4096, device.ErrMisaligned},
		{1 << 20, 4096, device.ErrShort},
		{1 << 40, 4096, device.ErrShort},
		{1<<20 - 4096, 8192, device.ErrShort},
	} {
		if _, err := d.Read(t.Context(), c.off, c.n); !errors.Is(err, c.want) {
			t.Errorf("read %d+%d: got %v, want %v", c.off, c.n, err, c.want)
		}
		if err := d.Write(t.Context(), c.off, device.NewBuffer(c.n)); !errors.Is(err, c.want) {
			t.Errorf("write %d+%d: got %v, want %v", c.off, c.n, err, c.want)
		}
	}
}

// A transfer of several sectors must show other hosts' writes in its middle, in both directions.
func TestLargeTransfersTear(t *testing.T) {
	const n = 8 * 512
	tornReads, tornWrites := map[byte]bool{}, map[byte]bool{}
	for seed := range uint64(20) {
		var other device.Device
		busy := false
		disk := memdisk.New(memdisk.Config{Size: 1 << 20, Seed: seed, Between: func(op string, off int64) {
			if busy || off != 4*512 && off != 3*512 {
				return
			}
			busy = true
			if op == "read" {
				for s := range int64(8) {
					_ = other.Write(context.Background(), s*512, filled(2, 512))
				}
				return
			}
			b, err := other.Read(context.Background(), 0, 512)
			if err == nil {
				tornWrites[b.Bytes()[0]] = true
				b.Release()
			}
		}})
		one := disk.Open("one")
		other = disk.Open("other")
		disk.Poke(0, bytes.Repeat([]byte{1}, n))
		b, err := one.Read(t.Context(), 0, n)
		if err != nil {
			t.Fatal(err)
		}
		if first, last := b.Bytes()[0], b.Bytes()[n-1]; first == last {
			t.Errorf("seed %d: the read is of one moment", seed)
		} else {
			tornReads[first] = true
		}
		b.Release()
		disk.Poke(0, bytes.Repeat([]byte{1}, n))
		busy = false
		write(t, one, 0, 3, n)
		one.Close()
		other.Close()
	}
	if len(tornReads) != 2 || len(tornWrites) != 2 {
		t.Errorf("reads begin with %v, writes show %v: always the same direction", tornReads, tornWrites)
	}
}

// One sector is all old or all new, however many hosts write it.
func TestSectorsAreWhole(t *testing.T) {
	disk := memdisk.New(memdisk.Config{SectorSize: 4096, Size: 1 << 20})
	var wg sync.WaitGroup
	for host := range 4 {
		d := disk.Open("host")
		defer d.Close()
		wg.Go(func() {
			for range 100 {
				write(t, d, 0, byte(host), 8*4096)
				b, err := d.Read(t.Context(), 0, 8*4096)
				if err != nil {
					t.Error(err)
					return
				}
				for s := range slices.Chunk(b.Bytes(), 4096) {
					if !bytes.Equal(s, bytes.Repeat(s[:1], 4096)) {
						t.Error("half a sector")
					}
				}
				b.Release()
			}
		})
	}
	wg.Wait()
}

// A bubble ends only when all its goroutines have ended, and no virtual time passes on the way.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		disk := memdisk.New(memdisk.Config{Size: 2 << 20})
		for range 3 {
			d := disk.Open("a")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := d.Write(ctx, 0, filled(1, 1<<20)); err != nil {
				t.Error(err)
			}
			cancel()
			d.Close()
			if _, err := d.Read(t.Context(), 0, 512); !errors.Is(err, device.ErrClosed) {
				t.Errorf("after close: %v", err)
			}
		}
		if time.Since(start) != 0 {
			t.Error("time passed")
		}
	})
}
