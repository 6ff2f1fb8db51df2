package sanlockd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/lockspace"
)

// removingLasts is how long a lockspace that is removed without waiting can be seen on the removing list:
// clients poll once a second for the moment at which it is neither there nor gone (spec sanlock-daemon 5.4).
const removingLasts = 1500 * time.Millisecond

// space is a lockspace from ADD_LOCKSPACE until nothing is left of it. All fields below list are guarded by
// Server.mu.
type space struct {
	id   uint32
	wire sanlockwire.Lockspace // as it was added, flags 0
	set  timeouts.Set
	log  zerolog.Logger

	ctx    context.Context // of all work in it; ends when the lockspace is over
	cancel context.CancelFunc
	gone   chan struct{} // closed when it is on no list any more
	added  chan struct{} // closed when the join has ended, addErr says how

	list    list // adding, held (active) or removing
	addErr  error
	ls      *lockspace.Space // nil until joined
	dev     device.Device
	dead    bool // over: nothing is granted or written any more, its users are being stopped
	failed  bool // by itself: lost, not removed
	removed bool // by REM_LOCKSPACE or a forced shutdown
	async   bool // the removal is watched by polling
	killing bool
	corrupt int32 // result of the renewal that found the delta lease not ours

	listeners []*listener
	examining bool // a goroutine looks for requests

	used, usedByOrphans bool
	indexing            bool            // a request about a resource index of it is at work
	ops                 int             // operations on leases of it that have not ended
	wreckage            []resource.Disk // of leases that were given up without an answer from their disks
	attempt, success    monotime.Seconds
	maxSectorsKB        int // per transfer, as it was set for its device; 0 if it was left alone
}

func (sp *space) times() timeouts.Set { return sp.set }

// String prints NAME:ID:PATH:OFFSET.
func (sp *space) String() string { return sanlockwire.FormatLockspace(sp.wire) }

// isOver reports whether the membership is lost or being given up, judged by the clock at this moment.
// Server.mu is held.
func (sp *space) isOver() bool { return sp.dead || sp.ls == nil || sp.ls.Cause() != nil }

// over is isOver for those who do not hold s.mu.
func (s *Server) over(sp *space) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sp.isOver()
}

// same reports whether a request means this lockspace: name, path, offset, and host id unless it is 0.
func (sp *space) same(l sanlockwire.Lockspace) bool {
	return sp.wire.Name.Equal(l.Name) && sp.wire.Disk == l.Disk && (l.HostID == 0 || l.HostID == sp.wire.HostID)
}

// lookup returns the lockspace that a request means, on any list, or nil. s.mu is held.
func (s *Server) lookup(l sanlockwire.Lockspace) *space {
	for _, sp := range s.spaces {
		if sp.same(l) {
			return sp
		}
	}
	return nil
}

// active returns the active lockspace of a name, or nil. s.mu is held.
func (s *Server) active(name leases.Name) *space {
	for _, sp := range s.spaces {
		if sp.list == held && sp.wire.Name.Equal(name) {
			return sp
		}
	}
	return nil
}

var (
	errSpaceArguments = errors.New("name, host id and path must be given")
	errSpaceExists    = errors.New("it is joined already")
	errSpaceAdding    = errors.New("it is being added")
	errSpaceRemoving  = errors.New("it is being removed")
	errSpaceUnknown   = errors.New("it is not joined here")
	errSpaceInUse     = errors.New("leases of it are held")
	errShuttingDown   = errors.New("the daemon is shutting down")
	errNotSeenYet     = errors.New("its hosts have not been looked at since it was joined, try again")
)

// addSpace begins to join a lockspace and returns it, or says why not (spec sanlock-daemon 2.7).
func (s *Server) addSpace(l sanlockwire.Lockspace, ioTimeout uint32) (*space, error) {
	refuse := func(k leases.Kind, why error) (*space, error) {
		return nil, fail("add lockspace", l.Name, k, why)
	}
	if ioTimeout == 0 {
		ioTimeout = uint32(s.cfg.IOTimeout)
	}
	switch {
	case l.Name.IsEmpty(), l.HostID == 0, l.Disk.Path == "":
		return refuse(leases.Invalid, errSpaceArguments)
	case ioTimeout > timeouts.MaxIO:
		return refuse(leases.Invalid, fmt.Errorf(
			"io_timeout %d: the disk has room for 1 to %d; others would misjudge when we are dead",
			ioTimeout, timeouts.MaxIO))
	}
	l.Flags = 0
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return refuse(leases.Aborted, errShuttingDown)
	}
	if err := s.conflict(l); err != nil {
		return nil, err
	}
	if len(s.spaces) >= maxSpaces {
		return refuse(leases.TooBig, fmt.Errorf("there are %d lockspaces already", maxSpaces))
	}
	s.lastID.space++
	sp := &space{
		id: s.lastID.space, wire: l, set: s.cfg.set(ioTimeout), list: adding,
		gone: make(chan struct{}), added: make(chan struct{}),
		log: s.log.With().Uint32("s", s.lastID.space).Logger(),
	}
	sp.ctx, sp.cancel = context.WithCancel(s.root)
	s.spaces = append(s.spaces, sp)
	sp.log.Warn().Msgf("lockspace %v", sp)
	s.busy.Go(func() { s.run(sp) })
	return sp, nil
}

// conflict looks for a lockspace that stands in the way of a new one. s.mu is held.
func (s *Server) conflict(l sanlockwire.Lockspace) error {
	refuse := func(k leases.Kind, why error) error { return fail("add lockspace", l.Name, k, why) }
	if sp := s.lookup(l); sp != nil {
		switch sp.list {
		case adding:
			return refuse(leases.InProgress, errSpaceAdding)
		case removing:
			return refuse(leases.Again, errSpaceRemoving)
		default:
			return refuse(leases.Exists, errSpaceExists)
		}
	}
	for _, sp := range s.spaces {
		what := ""
		switch {
		case sp.wire.Name.Equal(l.Name):
			what = "name"
		case sp.wire.Disk == l.Disk:
			what = "path"
		default:
			continue
		}
		s.log.Error().Msgf("add_lockspace %s conflicts with %s of list%d s%d %v",
			sanlockwire.FormatLockspace(l), what, stockList(sp.list), sp.id, sp)
		return refuse(leases.Invalid, fmt.Errorf("it has the %s of %v", what, sp))
	}
	return nil
}

// stockList is the number that stock gives a list in its log.
func stockList(l list) int {
	switch l {
	case removing:
		return 2
	case adding:
		return 3
	default:
		return 1
	}
}

// removeSpace begins to remove a lockspace and returns it, or says why not (spec sanlock-daemon 2.8). One
// that is still being added is not joined at all.
func (s *Server) removeSpace(l sanlockwire.Lockspace, idle, async bool) (*space, error) {
	refuse := func(k leases.Kind, why error) (*space, error) {
		return nil, fail("remove lockspace", l.Name, k, why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if idle {
		for k := range s.holdings {
			if k.space == l.Name.String() {
				return refuse(leases.Busy, errSpaceInUse)
			}
		}
	}
	sp := s.lookup(l)
	switch {
	case sp == nil:
		return refuse(leases.NotFound, errSpaceUnknown)
	case sp.list == removing:
		return refuse(leases.InProgress, errSpaceRemoving)
	case sp.indexing:
		return refuse(leases.Busy, errIndexBusy)
	}
	sp.async = sp.async || async
	s.end(sp, false)
	return sp, nil
}

// end says that a lockspace is over: failed by itself, or removed. s.mu is held.
func (s *Server) end(sp *space, failed bool) {
	if failed {
		sp.failed = true
	} else {
		sp.removed = true
	}
	sp.dead = true
	sp.cancel()
	s.tell()
}

// inquire tells whether a lockspace is joined: nil, leases.NotFound or leases.InProgress.
func (s *Server) inquire(l sanlockwire.Lockspace) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.lookup(l)
	switch {
	case sp == nil:
		return fail("inquire lockspace", l.Name, leases.NotFound, errSpaceUnknown)
	case sp.list == adding:
		return fail("inquire lockspace", l.Name, leases.InProgress, errSpaceAdding)
	case sp.list == removing:
		return fail("inquire lockspace", l.Name, leases.InProgress, errSpaceRemoving)
	}
	return nil
}

// beginOp counts an operation on a lease; the lockspace is not left before it has ended. s.mu is held.
func (sp *space) beginOp() { sp.ops++ }

// endOp ends an operation.
func (s *Server) endOp(sp *space) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp.ops--
	s.tell()
}

// drop takes a lockspace from its list. s.mu is held.
func (s *Server) drop(sp *space) {
	s.spaces = slices.DeleteFunc(s.spaces, func(o *space) bool { return o == sp })
	sp.cancel()
	close(sp.gone)
	s.tell()
}

// listed returns the lockspaces on a list, newest first. s.mu is held.
func (s *Server) listed(on list) []*space {
	var all []*space
	for _, sp := range slices.Backward(s.spaces) {
		if sp.list == on {
			all = append(all, sp)
		}
	}
	return all
}
