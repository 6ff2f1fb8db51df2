package native

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// What of the first sector of a lease tells whose it is (spec ondisk 2.3). A sector with another magic is no
// lease.
//
//	offset 0 magic, 4   104 resource name, 48
const (
	leaseMagic   = 0x06152010
	leaseNameAt  = 104
	leaseNameEnd = 152
)

const (
	scanReaders = 8    // reads of one scan under way
	pageSize    = 4096 // what direct reads are aligned to
)

// leaseName is the name in the first sector of a lease, "" if the slot is free.
func leaseName(sector []byte) string {
	if binary.LittleEndian.Uint32(sector) != leaseMagic {
		return ""
	}
	name, _, _ := bytes.Cut(sector[leaseNameAt:leaseNameEnd], []byte{0})
	if string(name) == freeName {
		return ""
	}
	return string(name)
}

// readNames reads whose leases are in the slots from one offset up to another, or to the end of the device,
// past the caches of this host. A device that hangs costs one of maxScans.
func (m *Manager) readNames(ctx context.Context, path string, lay layout, from, to int64) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, scanLimit)
	defer cancel()
	select {
	case m.scans <- struct{}{}:
	default:
		return nil, fmt.Errorf("scan %s: %w", path, errScans)
	}
	type result struct {
		names []string
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-m.scans }()
		names, err := scanNames(path, lay, from, to)
		done <- result{names, err}
	}()
	select {
	case r := <-done:
		return r.names, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("scan %s: %w", path, ctx.Err())
	}
}

var errScans = fmt.Errorf("%d others are under way, or hang", maxScans)

func scanNames(path string, lay layout, from, to int64) ([]string, error) {
	fd, err := open(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	size, err := unix.Seek(fd, 0, unix.SEEK_END)
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", path, err)
	}
	count := (min(to, size) - from) / lay.align
	if count <= 0 {
		return nil, nil
	}
	names := make([]string, count)
	buffers, err := unix.Mmap(-1, 0, scanReaders*pageSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	var next atomic.Int64
	var readers sync.WaitGroup
	failed := make([]error, scanReaders)
	for i := range min(scanReaders, count) {
		sector := buffers[i*pageSize:][:lay.sector]
		readers.Go(func() {
			for at := next.Add(1) - 1; at < count && failed[i] == nil; at = next.Add(1) - 1 {
				if failed[i] = read(fd, sector, from+at*lay.align); failed[i] == nil {
					names[at] = leaseName(sector)
				}
			}
		})
	}
	readers.Wait()
	if err := errors.Join(append(failed, unix.Munmap(buffers))...); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return names, nil
}

func open(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

var errShort = errors.New("a sector could not be read whole")

func read(fd int, sector []byte, offset int64) error {
	for {
		n, err := unix.Pread(fd, sector, offset)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n != len(sector):
			return errShort
		default:
			return nil
		}
	}
}
