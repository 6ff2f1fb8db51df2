package lockspace

import (
	"context"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/lockspace/hosts"
)

// Probe reads the owner's own sector and tells what may be concluded about that incarnation. Free and Dead
// are only ever said on the strength of this read together with what was seen before it (spec ondisk 9.3,
// 9.4). It takes at most one io_timeout. leases.Lost: we are no member any more and conclude nothing.
func (s *Space) Probe(ctx context.Context, o leases.Owner) (leases.Verdict, error) {
	if err := s.Cause(); err != nil {
		return 0, err
	}
	if o.Host < 1 || uint64(o.Host) > s.geometry.MaxHosts() {
		return 0, &leases.Error{
			Op: "probe " + o.String() + " of", Space: s.cfg.Name, Kind: leases.Corrupt, Err: errNoSuchHost,
		}
	}
	asked := s.cfg.Clock.Now()
	b, err := s.readSector(ctx, o.Host)
	if err != nil {
		return 0, err
	}
	defer b.Release()
	fresh, err := ondisk.DecodeLeader(b.Bytes())
	if err == nil {
		err = fresh.CheckDelta(s.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, bad := s.table.Observe(s.cfg.Clock.Now(), o.Host, b.Bytes()); err == nil {
		err = bad
	}
	if err != nil {
		// What does not verify is seen as life by the table, and concluded from by nobody.
		return 0, &leases.Error{Op: "probe " + o.String() + " of", Space: s.cfg.Name, Kind: delta.FaultKind(err), Err: err}
	}
	if o == s.self {
		return leases.Alive, nil
	}
	return s.table.Verdict(asked, o, fresh), nil
}

func (s *Space) readSector(ctx context.Context, id leases.HostID) (*device.Buffer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.times.OneIO())
	defer cancel()
	off := s.cfg.Offset + s.geometry.DeltaOffset(uint64(id))
	b, err := s.cfg.Device.Read(ctx, off, s.geometry.Sector)
	if err != nil {
		return nil, &leases.Error{Op: "probe a host of", Space: s.cfg.Name, Kind: delta.FaultKind(err), Err: err}
	}
	return b, nil
}

// Hosts lists what is known of every host that was ever seen. It reports false until the first renewal after
// the join has been evaluated.
func (s *Space) Hosts() ([]hosts.View, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.Views(s.cfg.Clock.Now()), s.ready
}
