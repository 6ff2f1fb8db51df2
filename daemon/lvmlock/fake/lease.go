package fake

import (
	"context"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// leaseSpace is a lockspace as sanlock has it: with a place for the global lock, slots for LVs, and hosts
// that have generations.
type leaseSpace struct{ *space }

var (
	_ lvmlock.GlobalLocker = (*leaseSpace)(nil)
	_ lvmlock.SlotFinder   = (*leaseSpace)(nil)
	_ lvmlock.Member       = (*leaseSpace)(nil)
	_ lvmlock.Purger       = (*space)(nil)
)

// GlobalEnabled says whether the global lock is in this VG.
func (s *leaseSpace) GlobalEnabled(ctx context.Context) (enabled bool, err error) {
	err = s.do(ctx, Op{Name: "global_enabled"}, func(a *area) error {
		if s.manager.cfg.GlobalAnywhere && !s.manager.cluster.anyEnabled() {
			a.enabled = true
		}
		enabled = a.enabled
		return nil
	})
	return enabled, err
}

// SetGlobal moves the global lock here, or away.
func (s *leaseSpace) SetGlobal(ctx context.Context, enabled bool) error {
	return s.do(ctx, Op{Name: "set_global"}, func(a *area) error {
		a.decided, a.enabled = true, enabled
		return nil
	})
}

// FindFree looks for room for one more LV.
func (s *leaseSpace) FindFree(ctx context.Context, _ int64) error {
	op := Op{Name: "find_free"}
	return s.do(ctx, op, func(a *area) error {
		if most := s.manager.cfg.Slots; most > 0 && len(a.slots) >= most {
			return s.refuse(op, lvmwire.TooLong)
		}
		return nil
	})
}

// FreeLV makes room.
func (s *leaseSpace) FreeLV(ctx context.Context, r lvmlock.Resource) error {
	op := Op{Name: "free_lv", Resource: r.Name}
	return s.do(ctx, op, func(a *area) error {
		delete(a.slots, r.Name)
		return nil
	})
}

// Status is what the others know of this host.
func (s *leaseSpace) Status(ctx context.Context) (owner lvmwire.Owner, err error) {
	err = s.do(ctx, Op{Name: "status"}, func(a *area) error {
		host := s.manager.host
		owner = lvmwire.Owner{
			HostID: host, Generation: a.generations[host], Timestamp: uint64(time.Now().Unix()), State: "LIVE",
		}
		return nil
	})
	return owner, err
}
