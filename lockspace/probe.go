package lockspace

import (
	"context"
	"errors"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/lockspace/hosts"
)

var errNoSuchHost = errors.New("its host id does not exist in this lockspace")

// Probe reads the owner's own sector and tells what may be concluded about that incarnation. Free and Dead
// are only ever said on the strength of this read together with what was seen before it (spec ondisk 9.3,
// 9.4). It takes at most one io_timeout. leases.Lost: we are no member any more and conclude nothing. A
// record that does not verify is an error: nothing is concluded from it either.
func (s *Space) Probe(ctx context.Context, o leases.Owner) (leases.Verdict, error) {
	if err := s.Cause(); err != nil {
		return 0, err
	}
	fail := func(kind leases.Kind, err error) (leases.Verdict, error) {
		return 0, &leases.Error{Op: "probe " + o.String() + " of", Space: s.cfg.Name, Kind: kind, Err: err}
	}
	if o.Host < 1 || uint64(o.Host) > s.geometry.MaxHosts() {
		return fail(leases.Corrupt, errNoSuchHost)
	}
	asked := s.cfg.Clock.Now()
	b, err := s.readSector(ctx, o.Host)
	if err != nil {
		return fail(delta.FaultKind(err), err)
	}
	defer b.Release()
	fresh, err := ondisk.DecodeLeader(b.Bytes())
	if err != nil {
		return fail(delta.FaultKind(err), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// What it says to us is left for the renewing goroutine to hear, which reads the same sector.
	if err := s.table.See(s.cfg.Clock.Now(), o.Host, b.Bytes()); err != nil {
		return fail(delta.FaultKind(err), err)
	}
	if o == s.self {
		return leases.Alive, nil
	}
	return s.table.Verdict(asked, o, fresh), nil
}

func (s *Space) readSector(ctx context.Context, id leases.HostID) (*device.Buffer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.times.OneIO())
	defer cancel()
	return s.cfg.Device.Read(ctx, s.cfg.Offset+s.geometry.DeltaOffset(uint64(id)), s.geometry.Sector)
}

// Hosts lists what is known of every host that was ever seen. It reports false until the first renewal after
// the join has been evaluated.
func (s *Space) Hosts() ([]hosts.View, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.Views(s.cfg.Clock.Now()), s.ready
}
