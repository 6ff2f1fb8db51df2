package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// DiskPath is the shared disk's path on every host.
const DiskPath = "/dev/shared"

// What is on the disk: lockspaces S0 …, each with leases R1 ….
const (
	Spaces = 2
	Leases = 2
)

var sizes = ondisk.Geometry{Sector: 512, Align: ondisk.MiB}

// Event is something that happened.
type Event struct {
	At   time.Duration // since the world's beginning
	Host string
	What string
}

// World is a shared disk, the hosts on it, and what has happened.
type World struct {
	Disk  *memdisk.Disk
	began time.Time

	mu       sync.Mutex
	events   []Event
	holds    []*Hold
	breaches []string
	judged   map[[2]int]bool // pairs of pids that are among the breaches
	pids     int
	hosts    []*Host
}

// New formats a disk for hosts of an io_timeout in seconds.
func New(ioTimeout int) *World {
	w := &World{
		Disk:  memdisk.New(memdisk.Config{SectorSize: sizes.Sector, Size: Spaces * (Leases + 1) * ondisk.MiB}),
		began: time.Now(), pids: 100, judged: map[[2]int]bool{},
	}
	for s := range Spaces {
		space := leases.NameOf(spaceName(s))
		w.Disk.Poke(areaOf(s, 0), ondisk.FormatLockspace(sizes, space, uint16(ioTimeout)))
		for n := 1; n <= Leases; n++ {
			lease := ondisk.FormatResource(sizes, space, leases.NameOf(leaseName(n)), 0)
			w.Disk.Poke(areaOf(s, n), lease)
		}
	}
	return w
}

func spaceName(space int) string { return fmt.Sprintf("S%d", space) }
func leaseName(n int) string     { return fmt.Sprintf("R%d", n) }

// areaOf is the byte offset of a lockspace, or of its lease n from 1.
func areaOf(space, n int) int64 { return int64(space*(Leases+1)+n) * ondisk.MiB }

// Now is the time since the world's beginning.
func (w *World) Now() time.Duration { return time.Since(w.began) }

func (w *World) note(host, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(host, fmt.Sprintf(format, args...))
}

func (w *World) noteLocked(host, what string) {
	w.events = append(w.events, Event{time.Since(w.began), host, what})
}

// Find returns when a host first did something after a time: the first event that begins with what.
func (w *World) Find(host, what string, after time.Duration) (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Host == host && e.At >= after && strings.HasPrefix(e.What, what) {
			return e.At, true
		}
	}
	return 0, false
}

// Timeline is everything that happened from a time on, in seconds after it.
func (w *World) Timeline(from time.Duration) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, e := range w.events {
		if e.At >= from {
			fmt.Fprintf(&b, "%7.1f  %s  %s\n", (e.At - from).Seconds(), e.Host, e.What)
		}
	}
	return b.String()
}

// Breaches are the moments at which two processes held one lease. There must be none.
func (w *World) Breaches() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.breaches...)
}

// Close ends every host. The world must not be used any more.
func (w *World) Close() {
	w.mu.Lock()
	hosts := w.hosts
	w.mu.Unlock()
	for _, h := range hosts {
		h.close()
	}
}
