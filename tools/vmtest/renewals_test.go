package vmtest

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/tenurelock/tenure/leases/ondisk"
)

// renewals watches a host's sector in the image of the shared disk, from outside: what is on the disk is what
// the other host judges by, whatever the daemon logs.
type renewals struct {
	offset int64
	file   *os.File
	stop   context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	last time.Time // when the timestamp last changed
	prev time.Time // and when before that
	seen uint64
	gap  uint64 // the most seconds between two timestamps
}

// watchEvery is how exact the time of a renewal is.
const watchEvery = 20 * time.Millisecond

func watchRenewals(t *testing.T, image string, host, sectorSize int) *renewals {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &renewals{offset: int64((host - 1) * sectorSize), file: f, stop: stop, done: make(chan struct{})}
	if r.look(); r.seen == 0 {
		t.Fatalf("the sector of host %d has no timestamp", host)
	}
	go func() {
		defer close(r.done)
		for tick := time.NewTicker(watchEvery); ; {
			select {
			case <-tick.C:
				r.look()
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	}()
	t.Cleanup(r.end)
	return r
}

func (r *renewals) end() {
	r.stop()
	<-r.done
	r.file.Close()
}

func (r *renewals) look() {
	sector := make([]byte, ondisk.LeaderSize)
	if _, err := r.file.ReadAt(sector, r.offset); err != nil {
		return
	}
	leader, err := ondisk.DecodeLeader(sector)
	if err != nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if leader.Timestamp != r.seen {
		if r.seen != 0 {
			r.gap = max(r.gap, leader.Timestamp-r.seen)
		}
		r.seen, r.prev, r.last = leader.Timestamp, r.last, now
	}
}

// at returns when the host last renewed.
func (r *renewals) at() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// until returns the last renewal of a host that was reset, and when a write that its disk had held came to the disk
// after all, which QEMU lets it when the machine ends.
func (r *renewals) until(reset time.Time) (renewed, landed time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const together = time.Second
	if !reset.IsZero() && r.last.After(reset.Add(-together)) && r.last.Sub(r.prev) > fire/2 {
		return r.prev, r.last
	}
	return r.last, time.Time{}
}

// longest returns the most seconds between two renewals, as the host itself counts them.
func (r *renewals) longest() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gap
}

// next waits for a renewal that comes after this call.
func (r *renewals) next(ctx context.Context, t *testing.T) time.Time {
	t.Helper()
	before := r.at()
	for r.at().Equal(before) {
		select {
		case <-time.After(watchEvery):
		case <-ctx.Done():
			t.Fatal("the host does not renew")
		}
	}
	return r.at()
}
