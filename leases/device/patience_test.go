package device

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// unopened counts how often it was closed.
type unopened struct {
	Device
	closed *atomic.Int64
}

func (u unopened) Close() error {
	u.closed.Add(1)
	return nil
}

func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var closed atomic.Int64
		p := NewPatience(func(path string) (Device, error) {
			switch path {
			case "hangs":
				<-hang
			case "fails":
				return nil, &OpError{Op: "open", Device: path, Err: os.ErrNotExist}
			}
			return unopened{closed: &closed}, nil
		})
		within := func(path string) (Device, time.Duration, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			d, err := p.Open(ctx, path)
			return d, time.Since(began), err
		}
		if d, took, err := within("works"); d == nil || err != nil || took != 0 {
			t.Errorf("%v, %v after %v", d, err, took)
		}
		if _, _, err := within("fails"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("an open that fails: %v", err)
		}
		for i := range maxLateOpens {
			_, took, err := within("hangs")
			if !errors.Is(err, os.ErrDeadlineExceeded) || took != 10*time.Second || p.Late() != i+1 {
				t.Errorf("an open that hangs: %v after %v, %d late", err, took, p.Late())
			}
		}
		if _, took, err := within("hangs"); !errors.Is(err, ErrStuck) || took != 0 {
			t.Errorf("one more than may hang: %v after %v", err, took)
		}
		if _, _, err := within("works"); err != nil {
			t.Errorf("another path: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Open(ctx, "works elsewhere"); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
		close(hang)
		synctest.Wait()
		if p.Late() != 0 || closed.Load() < maxLateOpens {
			t.Errorf("%d are late, %d were closed", p.Late(), closed.Load())
		}
		if _, _, err := within("hangs"); err != nil {
			t.Errorf("storage that is back: %v", err)
		}
	})
}
