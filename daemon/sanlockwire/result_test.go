package sanlockwire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/tenurelock/tenure/leases"
)

func TestResultOf(t *testing.T) {
	kind := func(k leases.Kind, cause error) error { return &leases.Error{Op: "test", Kind: k, Err: cause} }
	for _, c := range []struct {
		name string
		err  error
		want int32
	}{
		{"success", nil, 0},
		{"a kind", kind(leases.Held, nil), -243},
		{"a wrapped kind", fmt.Errorf("acquire: %w", kind(leases.SharedHeld, nil)), -11},
		{"the outer kind counts", kind(leases.LeaderRead, kind(leases.Timeout, nil)), -220},
		{"a kind without a number lets the cause speak", kind(leases.Other, kind(leases.HostIDBusy, nil)), -262},
		{"an errno", syscall.EACCES, -13},
		{"an errno of open", &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, -2},
		{"an errno below no kind", kind(leases.Other, fmt.Errorf("x: %w", syscall.ENXIO)), -6},
		{"an errno below I/O", kind(leases.IO, syscall.EREMOTEIO), -121},
		{"an errno that would be a number of sanlock's", syscall.Errno(243), -201},
		{"I/O alone", kind(leases.IO, errors.New("odd")), -5},
		{"an errno among several errors", errors.Join(errors.New("x"), syscall.EBADF), -9},
		{"a deadline", context.DeadlineExceeded, -202},
		{"the other deadline", fmt.Errorf("read: %w", os.ErrDeadlineExceeded), -202},
		{"given up", context.Canceled, -201},
		{"given up, as a kind", kind(leases.Aborted, context.Canceled), -201},
		{"anything", errors.New("anything"), -201},
		{"a result again", fmt.Errorf("x: %w", ErrorOf(-227)), -227},
	} {
		if got := ResultOf(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// Every kind but Other has a number, so that a new one is not forgotten; and a number has a name and a text.
func TestEveryKindHasANumber(t *testing.T) {
	for k := leases.Other + 1; k <= leases.IndexDiffer; k++ {
		n := ResultOf(&leases.Error{Kind: k})
		if n >= 0 {
			t.Errorf("kind %d has no number", k)
			continue
		}
		var r *Result
		if err := ErrorOf(n); !errors.As(err, &r) || r.Name == "" || r.Text == "" {
			t.Errorf("number %d of kind %d has no meaning: %v", n, k, err)
		}
		if back := ResultOf(&leases.Error{Kind: r.Kind}); r.Kind != leases.Other && back != n {
			t.Errorf("number %d gives kind %d, which has number %d", n, r.Kind, back)
		}
	}
}

func TestErrorOf(t *testing.T) {
	for _, n := range []int32{0, 1, 1 << 20} {
		if err := ErrorOf(n); err != nil {
			t.Errorf("result %d is an error: %v", n, err)
		}
	}
	for _, c := range []struct {
		n    int32
		name string
		kind leases.Kind
	}{
		{-11, "EAGAIN", leases.Again},
		{-28, "ENOSPC", leases.NoSpace},
		{-201, "SANLK_ERROR", leases.Other},
		{-202, "SANLK_AIO_TIMEOUT", leases.Timeout},
		{-243, "SANLK_ACQUIRE_IDLIVE", leases.Held},
		{-5, "EIO", leases.IO},
		{-9999, "", leases.Other},
	} {
		err := fmt.Errorf("acquire: %w", ErrorOf(c.n))
		var r *Result
		if !errors.As(err, &r) || r.Number != c.n || r.Name != c.name {
			t.Errorf("%d: %+v", c.n, r)
		}
		if got := leases.KindOf(err); got != c.kind {
			t.Errorf("%d: kind %d, want %d", c.n, got, c.kind)
		}
		if err.Error() == "" {
			t.Errorf("%d: no text", c.n)
		}
	}
}

func TestMeaningsAreUnique(t *testing.T) {
	numbers, names := map[int32]bool{}, map[string]bool{}
	for _, m := range meanings {
		if numbers[m.number] || names[m.name] {
			t.Errorf("%d %s stands twice", m.number, m.name)
		}
		numbers[m.number], names[m.name] = true, true
		if m.number > -200 && syscall.Errno(-m.number).Error() == fmt.Sprintf("errno %d", -m.number) {
			t.Errorf("%s: the system knows no errno %d", m.name, -m.number)
		}
	}
}
