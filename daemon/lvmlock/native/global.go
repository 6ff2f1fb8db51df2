package native

import (
	"context"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// GlobalEnabled reads whether the VG's lease for the global lock is the one in use.
func (s *space) GlobalEnabled(ctx context.Context) (bool, error) {
	name, err := s.slotName(ctx, globalSlot)
	if err != nil {
		return false, diskError("read the global lock of", s.name.String(), err)
	}
	return name == globalName, nil
}

// SetGlobal gives the lease the other name. It is held meanwhile, so that nothing is taken from a host that
// holds it; a lease that cannot be held because it is none is written anew.
func (s *space) SetGlobal(ctx context.Context, enabled bool) error {
	from, to := globalName, disabledName
	if enabled {
		from, to = to, from
	}
	name, err := s.slotName(ctx, globalSlot)
	if err == nil && name == to {
		return nil
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	old := s.resource(from, s.lay.at(globalSlot))
	err = s.hold.Acquire(context.Background(), client.Self, sanlockwire.AcquireOwnerNoWait, ownerName, old)
	if err == nil {
		renamed := sanlockwire.Resource{Space: s.name, Name: leases.NameOf(to)}
		_, err = s.hold.Release(context.Background(), client.Self, sanlockwire.ReleaseRename, old, renamed)
		s.exit()
		return s.renamed(err)
	}
	s.exit()
	if answer, ok := said(err); ok && corrupt(answer) {
		return s.renamed(s.m.ask(ctx, func(c *client.Conn) error {
			return c.WriteResource(ctx, s.resource(to, s.lay.at(globalSlot)), 0, 0, 0)
		}))
	}
	r := lvmlock.Resource{Kind: lvmwire.GL, Name: from}
	return s.refused(ctx, "rename", old, r, lvmwire.EX, lvmlock.LockOptions{}, err)
}

func (s *space) renamed(err error) error {
	if err == nil {
		return nil
	}
	return diskError("rename the global lock of", s.name.String(), err)
}
