package sanlockd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/leases/rindex"
)

var (
	errIndexBusy   = errors.New("another request of this host is at work on a resource index of the lockspace")
	errLeaseInUse  = errors.New("a client of this host acquires, holds or gives back the lease")
	errNoDirection = errors.New("a request must either add or remove an entry")
)

// indexOp is one request about a resource index. sp is nil if it does without a lockspace.
type indexOp struct {
	s   *Server
	sp  *space
	ctx context.Context
	dev device.Device
	x   *rindex.Index
}

// indexRequest decodes a request about an index; those that only name an index have no entry.
func indexRequest(r request) (x sanlockwire.Rindex, e sanlockwire.REntry, err error) {
	err = x.Decode(r.body)
	if err == nil && len(r.body) > sanlockwire.RindexSize {
		err = e.Decode(r.body[sanlockwire.RindexSize:])
	}
	return x, e, err
}

// doIndex carries out the six commands about resource indexes (spec sanlock-daemon 1.7).
func (s *Server) doIndex(c *client, r request) {
	x, e, err := indexRequest(r)
	what := fmt.Sprintf("%s %s:%d", x.Space, x.Disk.Path, x.Disk.Offset)
	var found sanlockwire.REntry
	if err == nil {
		found, err = s.index(r, x, e)
	}
	var body []byte
	if len(r.body) > sanlockwire.RindexSize {
		body = found.Append(nil) // on errors too, as in stock
	}
	if r.Cmd == sanlockwire.CmdLookupRindex {
		s.logRead(r.Cmd, c, what, err)
	} else {
		s.logDone(r.Cmd, c, what, err)
	}
	s.reply(c, r.Header, resultOf(err), 0, body)
}

func (s *Server) index(
	r request, x sanlockwire.Rindex, e sanlockwire.REntry,
) (found sanlockwire.REntry, err error) {
	switch r.Cmd {
	case sanlockwire.CmdFormatRindex:
		return found, s.formatIndex(x)
	case sanlockwire.CmdLookupRindex:
		err = s.onIndex(r, x, func(op *indexOp) error {
			entry, err := op.x.Lookup(op.ctx, e.Name, e.Offset)
			found.Name, found.Offset = entry.Name, entry.Offset
			return err
		})
	case sanlockwire.CmdUpdateRindex:
		err = s.onIndex(r, x, func(op *indexOp) error {
			entry, err := op.update(e, r.Flags)
			found.Name, found.Offset = entry.Name, entry.Offset
			return err
		})
	case sanlockwire.CmdRebuildRindex:
		err = s.onIndex(r, x, func(op *indexOp) error {
			if err := op.lock(); err != nil {
				return err
			}
			return op.x.Rebuild(op.ctx)
		})
	case sanlockwire.CmdCreateResource:
		err = s.onIndex(r, x, func(op *indexOp) error {
			if err := op.lock(); err != nil {
				return err
			}
			found.Offset, err = op.x.Create(op.ctx, e.Name, uint64(r.Data2))
			return err
		})
	default:
		err = s.onIndex(r, x, func(op *indexOp) error {
			if err := op.lock(); err != nil {
				return err
			}
			return op.x.Delete(op.ctx, e.Name)
		})
	}
	return found, err
}

func (s *Server) formatIndex(x sanlockwire.Rindex) error {
	dev, err := s.openIndex(x.Disk.Path)
	if err != nil {
		return err
	}
	defer dev.Close()
	g, stated, err := flagged(x.Flags)
	if err != nil {
		return err
	}
	if !stated {
		g = defaultGeometry(dev)
	}
	return rindex.Format(s.root, rindex.Config{
		Device: dev, Offset: x.Disk.Offset, Space: x.Space, Times: s.cfg.own(),
	}, g, x.MaxResources)
}

// openIndex opens the device of an index. What is no storage gets the number of the call that stock fails in.
func (s *Server) openIndex(path string) (device.Device, error) {
	dev, err := s.open(path)
	if errors.Is(err, device.ErrNotStorage) {
		errno := syscall.EINVAL
		if info, stat := os.Stat(path); stat == nil && info.IsDir() {
			errno = syscall.EISDIR
		}
		err = fmt.Errorf("%w (%w)", err, errno)
	}
	return dev, err
}

// onIndex opens an index for do, in its lockspace unless the request does without. What do has locked is
// given back afterwards; where that fails it goes on in the background, and the lockspace stays busy.
func (s *Server) onIndex(r request, x sanlockwire.Rindex, do func(op *indexOp) error) error {
	dev, err := s.openIndex(x.Disk.Path)
	if err != nil {
		return err
	}
	op := &indexOp{s: s, ctx: s.root, dev: dev}
	times := s.cfg.own()
	alone := r.Flags&sanlockwire.IndexNoLockspace != 0
	if r.Cmd == sanlockwire.CmdCreateResource || r.Cmd == sanlockwire.CmdDeleteResource || !alone {
		sp, err := s.beginIndex(x.Space)
		if err != nil {
			dev.Close()
			return err
		}
		op.sp, op.ctx, times = sp, sp.ctx, sp.times()
	}
	op.x, err = rindex.Open(op.ctx, rindex.Config{
		Device: dev, Offset: x.Disk.Offset, Space: x.Space, Times: times,
	})
	if err == nil {
		err = do(op)
	}
	if op.sp != nil {
		err = s.whyOver(op.sp, err)
	}
	op.finish()
	return err
}

// whyOver says of an operation that was given up that its lockspace is over.
func (s *Server) whyOver(sp *space, err error) error {
	if leases.KindOf(err) == leases.Aborted && s.over(sp) {
		return fail("use the resource index of", sp.wire.Name, leases.NoSpace, errPassedOn)
	}
	return err
}

// beginIndex reserves a lockspace for one request about an index.
func (s *Server) beginIndex(name leases.Name) (*space, error) {
	refuse := func(k leases.Kind, why error) (*space, error) {
		return nil, fail("use the resource index of", name, k, why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.active(name)
	switch {
	case sp == nil:
		return refuse(leases.NotFound, errSpaceUnknown)
	case sp.isOver():
		return refuse(leases.NoSpace, errSpaceNotActive)
	case sp.indexing:
		return refuse(leases.Busy, errIndexBusy)
	}
	sp.indexing = true
	sp.beginOp()
	return sp, nil
}

// endIndex is the end of beginIndex; sp may be nil.
func (s *Server) endIndex(sp *space) {
	if sp == nil {
		return
	}
	s.mu.Lock()
	sp.indexing = false
	s.mu.Unlock()
	s.endOp(sp)
}

// lock takes the index's own lease, if there is a lockspace to take it in.
func (op *indexOp) lock() error {
	if op.sp == nil {
		return nil
	}
	ls, cfg := op.sp.ls, &op.s.cfg
	return op.x.Lock(op.ctx, rindex.Member{
		Self: ls.Self(), Live: ls, Clock: *cfg.Clock, Reserve: op.reserve, Jitter: cfg.Random,
		AllowUnknownFlags: cfg.AllowUnknownFlags,
	})
}

// reserve keeps a lease from this host's clients for the time of the request.
func (op *indexOp) reserve(space, name leases.Name) (free func(), err error) {
	s, r := op.s, sanlockwire.Resource{Space: space, Name: name}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holdings[keyOf(r)] != nil {
		return nil, acquireError(r, leases.Busy, errLeaseInUse)
	}
	h := s.newHolding(op.sp, r)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.forget(h)
	}, nil
}

// update changes one entry. It holds the index's lease, which stock's does not: a resource that another host
// creates in the same sector of the index at the same time must not be lost.
func (op *indexOp) update(e sanlockwire.REntry, flags uint32) (ondisk.IndexEntry, error) {
	add, remove := flags&sanlockwire.IndexAdd != 0, flags&sanlockwire.IndexRemove != 0
	if !add && !remove {
		return ondisk.IndexEntry{}, fail("update the resource index", leases.Name{}, leases.Invalid, errNoDirection)
	}
	set := ondisk.IndexEntry{Offset: e.Offset, Name: e.Name}
	if err := op.x.CheckUpdate(set, remove); err != nil {
		return ondisk.IndexEntry{}, err
	}
	if err := op.lock(); err != nil {
		return ondisk.IndexEntry{}, err
	}
	return op.x.Update(op.ctx, set, remove)
}

// finish gives back what is locked and closes the device.
func (op *indexOp) finish() {
	if op.sp == nil || op.x == nil {
		op.dev.Close()
		op.s.endIndex(op.sp)
		return
	}
	if op.unlocked() {
		return
	}
	op.s.busy.Go(func() {
		pause := op.sp.times().OneIO()
		for sleep(op.ctx, pause) && !op.unlocked() {
			continue
		}
		if op.x != nil {
			op.bury()
		}
	})
}

// unlocked tries to end the request and reports whether it has.
func (op *indexOp) unlocked() bool {
	if err := op.x.Unlock(op.ctx); err != nil {
		op.sp.log.Error().Err(err).Msg("resource index is not unlocked, will be tried again")
		return false
	}
	op.x = nil
	op.dev.Close()
	op.s.endIndex(op.sp)
	return true
}

// bury leaves the request to the end of its lockspace, which is not left before the last write has ended.
func (op *indexOp) bury() {
	at := op.x.Abandon()
	left := new(atomic.Int32)
	left.Store(int32(len(at)))
	var disks []resource.Disk
	for _, off := range at {
		disks = append(disks, resource.Disk{Device: shares{op.dev, left}, Offset: off})
	}
	if len(at) == 0 {
		op.dev.Close()
	}
	op.s.mu.Lock()
	op.sp.wreckage = closeLanded(append(op.sp.wreckage, disks...))
	op.s.mu.Unlock()
	op.s.endIndex(op.sp)
}

// shares is one of several uses of a device; the last one closes it.
type shares struct {
	device.Device
	left *atomic.Int32
}

func (d shares) Close() error {
	if d.left.Add(-1) > 0 {
		return nil
	}
	return d.Device.Close()
}
