package native

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// How long a host is silent until it is dead: so many of its io_timeouts, and what its watchdog takes to
// fire, in seconds (spec sanlock-daemon 2.11).
const (
	failIO      = 8
	fireSeconds = 60
)

// Hosts counts the other hosts that may use the lockspace. A host that was not seen to renew for a while
// counts until it is known to be dead.
func (s *space) Hosts(ctx context.Context) (others int, unsure bool, err error) {
	hosts, err := s.hosts(ctx, 0)
	if kindOf(err) == leases.Again {
		return 1, true, nil // we have not looked once: whoever is there was not seen
	}
	self := false
	known := 0
	for _, h := range hosts {
		switch {
		case h.HostID == s.vg.HostID:
			self = true
		case h.Verdict() == leases.Unknown:
			others++
		case h.Verdict() == leases.Alive || h.Verdict() == leases.Failing:
			others++
			known++
		}
	}
	if err == nil && !self {
		err = fmt.Errorf("our host id %d is not among the %d hosts that the daemon knows", s.vg.HostID, len(hosts))
	}
	if err != nil {
		return 0, false, &lvmlock.Error{Op: "count hosts of", What: s.name.String(), Result: lvmwire.Perm, Err: err}
	}
	return others, others > 0 && known == 0, nil
}

// hosts asks for the hosts that the daemon has seen in the lockspace, or for one of them.
func (s *space) hosts(ctx context.Context, id uint64) (hosts []sanlockwire.Host, err error) {
	err = s.m.ask(ctx, func(c *client.Conn) error {
		hosts, err = c.GetHosts(ctx, sanlockwire.Lockspace{Name: s.name, HostID: id}, 0)
		return err
	})
	return hosts, err
}

// Status is what the daemon knows of us.
func (s *space) Status(ctx context.Context) (lvmwire.Owner, error) {
	s.mu.Lock()
	o := lvmwire.Owner{HostID: s.vg.HostID, Generation: s.generation, State: leases.Alive.String()}
	s.mu.Unlock()
	hosts, err := s.hosts(ctx, s.vg.HostID)
	if kindOf(err) == leases.Again {
		return o, nil // joined, and not renewed yet
	}
	if err != nil {
		return o, diskError("ask for our status in", s.name.String(), err)
	}
	for _, h := range hosts {
		if h.HostID == o.HostID {
			o.Generation, o.Timestamp, o.State = h.Generation, h.Timestamp, h.Verdict().String()
		}
	}
	return o, nil
}

// owner finds which other host has a lease, and how many seconds it takes until it may be taken if that host
// stays silent from now on. What cannot be found is left out: it is for people to read.
func (s *space) owner(ctx context.Context, l sanlockwire.Resource) (lvmwire.Owner, uint64) {
	ctx, cancel := context.WithTimeout(ctx, ownerLimit)
	defer cancel()
	var holders, hosts []sanlockwire.Host
	var records map[uint64]sanlockwire.State
	var asking sync.WaitGroup
	asking.Go(func() {
		_ = s.m.ask(ctx, func(c *client.Conn) (err error) {
			l.Flags = s.lay.flags()
			_, holders, err = c.ReadResourceOwners(ctx, l)
			return err
		})
	})
	asking.Go(func() { hosts, _ = s.hosts(ctx, 0) })
	asking.Go(func() { records = s.records(ctx) })
	asking.Wait()
	for _, holder := range holders {
		if holder.HostID == s.vg.HostID {
			continue
		}
		o := lvmwire.Owner{HostID: holder.HostID, Generation: holder.Generation}
		for _, h := range hosts {
			if h.HostID == holder.HostID {
				o.Timestamp, o.State = h.Timestamp, h.Verdict().String()
			}
		}
		record := records[holder.HostID]
		o.Name, _ = sanlockwire.Word(record.Text, "owner_name")
		return o, remaining(record.Text)
	}
	return lvmwire.Owner{}, 0
}

// records returns the daemon's records of the hosts of the lockspace by host id.
func (s *space) records(ctx context.Context) map[uint64]sanlockwire.State {
	all := map[uint64]sanlockwire.State{}
	_ = s.m.ask(ctx, func(c *client.Conn) error {
		return c.HostStatus(ctx, sanlockwire.Lockspace{Name: s.name}, func(st sanlockwire.State) error {
			if st.Type == sanlockwire.StateHost {
				all[uint64(st.Data32)] = st
			}
			return nil
		})
	})
	return all
}

// remaining is in how many seconds a host is dead that is silent from now on; 0 if that cannot be told.
func remaining(text string) uint64 {
	seen, ioTimeout := number(text, "last_live"), number(text, "io_timeout")
	var now unix.Timespec
	if seen == 0 || ioTimeout == 0 || unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	dead := seen + failIO*ioTimeout + fireSeconds
	if uint64(now.Sec) >= dead {
		return 0
	}
	return dead - uint64(now.Sec)
}
