package lockspace

import (
	"context"
	"errors"
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
	BitmapHold uint32 // how long a host's bit stays raised; 0 means 6 × IO
	ReadExtend int    // how much longer a late renewal read is waited for; 0 means half a second, negative IO
	History    int    // renewals remembered; 0 none

	Clock             monotime.Clock
	Link              Link // nil: no watchdog guards this membership. Still the caller's if Join fails
	Log               zerolog.Logger
	Number            func(error) int32 // what the log calls an error by; nil: -1
	AllowUnknownFlags bool

	// Notice, if not nil, hears what other hosts want from us. It is called by the renewing goroutine, which
	// it must not keep waiting.
	Notice func(hosts.Notice)
}

// Space is one membership, from Join to Leave.
type Space struct {
	cfg      Config
	name     leases.Name
	times    timeouts.Set
	hold     time.Duration // of a raised bit
	pause    time.Duration // before each renewal
	geometry ondisk.Geometry
	lease    *delta.Lease // used by Join, then by the renewing goroutine, then by Leave
	self     leases.Owner

	run  context.Context // ends when the membership is lost
	stop context.CancelFunc
	busy sync.WaitGroup
	lost chan struct{}
	turn chan struct{} // has room while no renewal is under way
	look chan struct{} // has room while nobody looks at the hosts

	left    sync.Once
	leftErr error // of Leave, once that is done

	mu       sync.Mutex
	cause    error
	closed   bool // lost is closed
	status   Status
	renewed  monotime.Instant // time before the write of the last renewal that succeeded, in whole seconds
	asleep   time.Duration    // what the clock said of suspend then
	table    *hosts.Table
	looked   monotime.Instant // when the last Look ended
	lookErr  error            // what came of it
	ready    bool             // the host table has been filled by a renewal
	bulletin bulletin
	history  ring
}

// Join acquires our host id and starts to renew it. It takes as long as delta.Lease.Acquire takes; ctx ends
// it with leases.Aborted. The errors are those of that, of delta.ReadSizes and delta.New,
// leases.WatchdogError if the link cannot be told, and leases.Lost if it took longer than the lease lasts.
func Join(ctx context.Context, cfg Config) (*Space, error) {
	s := &Space{
		cfg: cfg, name: leases.NameOf(cfg.Name), times: timeouts.Set{IO: cfg.IO, Fire: cfg.Fire},
		pause: pauseOf(cfg.Name, cfg.Host), lost: make(chan struct{}), turn: make(chan struct{}, 1), look: make(chan struct{}, 1),
		history:  ring{size: cfg.History},
		bulletin: bulletin{bits: map[leases.HostID]monotime.Instant{}},
	}
	s.hold = s.holdOf()
	s.run, s.stop = context.WithCancel(context.Background())
	if err := s.acquire(ctx); err != nil {
		s.stop()
		s.busy.Wait()
		return nil, err
	}
	s.busy.Go(func() { s.watching(s.run) })
	s.busy.Go(func() { s.warning(s.run) })
	s.busy.Go(func() { s.renewing(s.run) })
	return s, nil
}

// prepare checks what can be checked without the disk, and then learns the sizes.
func (s *Space) prepare(ctx context.Context) error {
	if n := len(s.cfg.Name); n < 1 || n > leases.NameSize || s.cfg.IO < 1 || s.cfg.IO > timeouts.MaxIO {
		return &leases.Error{
			Op: "join", Space: s.cfg.Name, Kind: leases.Invalid,
			Err: errors.New("a lockspace has a name of 1 to 48 bytes and an io_timeout of 1 to 255 seconds"),
		}
	}
	var err error
	s.geometry, err = delta.ReadSizes(ctx, s.cfg.Device, s.cfg.Offset, s.name, s.times.OneIO())
	if err != nil {
		return err
	}
	s.lease, err = delta.New(delta.Config{
		Device: s.cfg.Device, Offset: s.cfg.Offset, Geometry: s.geometry, Space: s.name, Host: s.cfg.Host,
		HostName: s.cfg.HostName, Times: s.times, Clock: s.cfg.Clock, ReadExtend: s.readExtend(),
		AllowUnknownFlags: s.cfg.AllowUnknownFlags,
	})
	s.table = hosts.New(hosts.Config{
		Self: s.cfg.Host, Space: s.name, Fire: s.cfg.Fire, Hold: s.hold, Look: s.times.Renewal(),
		AllowUnknownFlags: s.cfg.AllowUnknownFlags,
	})
	return err
}

func (s *Space) readExtend() time.Duration {
	if s.cfg.ReadExtend < 0 {
		return s.times.OneIO()
	}
	return max(time.Duration(s.cfg.ReadExtend)*time.Second, time.Second/2)
}

func (s *Space) acquire(ctx context.Context) error {
	s.status.AcquireAttempt = s.cfg.Clock.Now().Seconds()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	s.busy.Go(func() { s.lookFirst(s.run) })
	s.asleep = s.cfg.Clock.Asleep()
	claim, err := s.lease.Acquire(ctx)
	if err != nil {
		return err
	}
	s.self, s.renewed = claim.Owner, whole(claim.At)
	s.status.acquired(claim.At, s.readExtend())
	// The claim is as old as the wait after it. If that was long by our own measure, renew before anybody
	// relies on it (spec ondisk 9.13).
	if s.cfg.Clock.Now().Sub(claim.At) > s.times.ShortDelay()+s.times.OneIO()/2 {
		if err := s.renewEarly(ctx); err != nil {
			return err
		}
	}
	err = s.tellLink(s.renewed)
	if err == nil && s.judge() <= 0 {
		err = s.cause
	}
	if err != nil {
		s.abandon(ctx)
	}
	return err
}

// renewEarly renews a claim that nobody relies on yet: it may be older than a lease may be.
func (s *Space) renewEarly(ctx context.Context) error {
	tried, asleep := s.cfg.Clock.Now(), s.cfg.Clock.Asleep()
	r, err := s.lease.Renew(ctx, delta.Extra{}, s.observe)
	s.note(tried, r, err)
	if err != nil {
		return err
	}
	s.renewed, s.asleep = whole(r.At), asleep
	return nil
}

// abandon frees a host id that could not be put to use, if that is still certain to be ours.
func (s *Space) abandon(ctx context.Context) {
	if s.judge() <= 0 {
		return
	}
	if err := s.lease.Release(context.WithoutCancel(ctx)); err != nil {
		s.cfg.Log.Error().Str("space", s.cfg.Name).Err(err).
			Msg("host id could not be freed after a join that failed")
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

// Lost is closed when the membership is lost, or is being left. It is closed once and never reopened.
func (s *Space) Lost() <-chan struct{} { return s.lost }

// Cause tells why the membership was lost, or nil. It judges by the clock at this moment, so it is right even
// where no timer has had its turn yet: ask it before relying on the membership.
func (s *Space) Cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judgeLocked()
	return s.cause
}

// Renewed returns the time before the write of the last renewal that succeeded, in whole seconds.
func (s *Space) Renewed() monotime.Instant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewed
}

// Leave stops renewing, closes the link, and frees the host id, if the membership was not lost and the last
// renewal succeeded; otherwise the host id is left to time out. Whoever holds leases in the lockspace must be
// gone before. It may be called again, and returns the same.
func (s *Space) Leave(ctx context.Context) error {
	s.left.Do(func() { s.leftErr = s.quit(ctx) })
	return s.leftErr
}

// letRenewalEnd waits for a renewal that is under way, for as long as one may take while storage is well: cut short, it
// would leave unknown whether the host id is still ours to free.
func (s *Space) letRenewalEnd(ctx context.Context) {
	well := time.NewTimer(renewPause)
	defer well.Stop()
	select {
	case s.turn <- struct{}{}:
	case <-s.lost:
	case <-well.C:
	case <-ctx.Done():
	}
}

func (s *Space) quit(ctx context.Context) error {
	s.letRenewalEnd(ctx)
	s.mu.Lock()
	left := s.judgeLocked()
	s.loseLocked(&leases.Error{Op: "renew", Space: s.cfg.Name, Kind: leases.Lost, Err: errLeft})
	s.mu.Unlock()
	s.busy.Wait()
	var err error
	if s.cfg.Link != nil {
		if err = s.cfg.Link.Close(); err != nil {
			err = &leases.Error{Op: "leave the watchdog of", Space: s.cfg.Name, Kind: leases.WatchdogError, Err: err}
		}
	}
	if left <= 0 {
		return err
	}
	// Nothing is written once another host may have taken the host id.
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	return errors.Join(err, s.lease.Release(ctx))
}
