package lockspace

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/lockspace/hosts"
)

// Link is the connection to the watchdog. Live says until when we are alive; it must not block. After Close
// nothing is sent any more.
type Link interface {
	Live(renewed, expires monotime.Seconds) error
	Close() error
}

// Config says which lockspace, where, and who we are. Times are in seconds.
type Config struct {
	Name     string
	Host     leases.HostID
	HostName string
	Device   device.Device
	Offset   int64 // of the area, bytes

	IO         uint32 // our io_timeout
	Fire       uint32 // of the watchdog; all hosts must agree
	BitmapHold uint32 // how long a host's bit stays set; 0 means 6 × IO
	ReadExtend int    // how much longer a late renewal read is waited for; negative means IO
	History    int    // renewals remembered; 0 none

	Clock             monotime.Clock
	Link              Link // nil: no watchdog guards this membership
	Log               zerolog.Logger
	AllowUnknownFlags bool
}

// Space is one membership, from Join to Leave.
type Space struct {
	cfg      Config
	name     leases.Name
	times    timeouts.Set
	geometry ondisk.Geometry
	lease    *delta.Lease // used by Join, then by the renewing goroutine, then by Leave
	self     leases.Owner

	stop context.CancelFunc
	busy sync.WaitGroup
	lost chan struct{}
	left sync.Once

	mu      sync.Mutex
	cause   error
	closed  bool // lost is closed
	status  Status
	renewed monotime.Instant // time before the write of the last renewal that succeeded
	asleep  time.Duration    // what the clock said of suspend then
	table   *hosts.Table
	ready   bool // the host table has been filled by a renewal
	bits    map[leases.HostID]monotime.Instant
	event   [3]uint64
	history ring
}

// Join acquires our host id and starts to renew it. It takes as long as delta.Lease.Acquire takes; ctx ends it
// with leases.Aborted. The errors are those of that, of delta.ReadSizes, leases.BadHostID, and
// leases.WatchdogError if the link cannot be told.
func Join(ctx context.Context, cfg Config) (*Space, error) {
	s := &Space{
		cfg: cfg, name: leases.NameOf(cfg.Name), times: timeouts.Set{IO: cfg.IO, Fire: cfg.Fire},
		lost: make(chan struct{}), bits: map[leases.HostID]monotime.Instant{}, history: ring{size: cfg.History},
	}
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.busy.Go(func() { s.renewing(run) })
	s.busy.Go(func() { s.watching(run) })
	return s, nil
}

func (s *Space) acquire(ctx context.Context) error {
	var err error
	s.geometry, err = delta.ReadSizes(ctx, s.cfg.Device, s.cfg.Offset, s.name, s.times.OneIO())
	if err != nil {
		return err
	}
	extend := s.times.OneIO()
	if s.cfg.ReadExtend >= 0 {
		extend = max(time.Duration(s.cfg.ReadExtend)*time.Second, time.Second/2)
	}
	s.lease, err = delta.New(delta.Config{
		Device: s.cfg.Device, Offset: s.cfg.Offset, Geometry: s.geometry, Space: s.name, Host: s.cfg.Host,
		HostName: s.cfg.HostName, Times: s.times, Clock: s.cfg.Clock, ReadExtend: extend,
		AllowUnknownFlags: s.cfg.AllowUnknownFlags,
	})
	if err != nil {
		return err
	}
	s.table = hosts.New(hosts.Config{Self: s.cfg.Host, Space: s.name, OwnIO: s.cfg.IO, Fire: s.cfg.Fire})
	s.asleep = s.cfg.Clock.Asleep()
	claim, err := s.lease.Acquire(ctx)
	if err != nil {
		return err
	}
	s.self, s.renewed = claim.Owner, claim.At
	s.status.acquired(claim.At)
	// The claim is as old as the wait after it. If that was long by our own measure, renew before anybody
	// relies on it (spec ondisk 9.13).
	if claim.Waited.ShortDelay() > s.times.ShortDelay() {
		r, err := s.lease.Renew(ctx, delta.Extra{}, s.observe)
		if err != nil {
			return err
		}
		s.renewed = r.At
	}
	if err := s.tellLink(s.renewed); err != nil {
		s.abandonClaim(ctx)
		return err
	}
	return nil
}

// abandonClaim frees a host id that could not be put to use.
func (s *Space) abandonClaim(ctx context.Context) {
	if err := s.lease.Release(context.WithoutCancel(ctx)); err != nil {
		s.cfg.Log.Error().Str("space", s.cfg.Name).Err(err).Msg("host id could not be freed after a join that failed")
	}
}

// Self returns our incarnation.
func (s *Space) Self() leases.Owner { return s.self }

// Name returns the lockspace's name.
func (s *Space) Name() string { return s.cfg.Name }

// Geometry returns the sizes that the lockspace is laid out in.
func (s *Space) Geometry() ondisk.Geometry { return s.geometry }

// Times returns our own intervals.
func (s *Space) Times() timeouts.Set { return s.times }

// Lost is closed when the membership is lost. It is closed once and never reopened.
func (s *Space) Lost() <-chan struct{} { return s.lost }

// Cause tells why the membership was lost, or nil. It judges by the clock at this moment, so it is right even
// where no timer has had its turn yet: ask it before relying on the membership.
func (s *Space) Cause() error {
	s.judge()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// Renewed returns the time before the write of the last renewal that succeeded.
func (s *Space) Renewed() monotime.Instant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewed
}

// Leave stops renewing, closes the link, and frees the host id if the last renewal succeeded; otherwise it is
// left to time out. Whoever holds leases in the lockspace must be gone before. It may be called again.
func (s *Space) Leave(ctx context.Context) error {
	var err error
	s.left.Do(func() {
		s.lose(&leases.Error{Op: "renew", Space: s.cfg.Name, Kind: leases.Lost, Err: errLeft})
		s.stop()
		s.busy.Wait()
		if s.cfg.Link != nil {
			err = s.cfg.Link.Close()
		}
		if freed := s.lease.Release(ctx); freed != nil {
			err = freed
		}
	})
	return err
}
