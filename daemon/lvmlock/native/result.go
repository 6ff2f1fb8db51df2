package native

import (
	"errors"
	"syscall"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// Numbers of daemons newer than 3.8.5, and one that has no kind.
const (
	ownedNoTimeout = -249 // SANLK_ACQUIRE_OWNED_NO_TIMEOUT: the owner's leases never expire
	casMiscompare  = -285 // SANLK_CAW_MISCOMPARE: another host was faster
	wrongCAW       = -281 // SANLK_WRONG_CAW: the lease is taken in another way
	ballotVersion  = -212 // SANLK_DBLOCK_LVER: another host tries for a newer version
	ballotHigher   = -213 // SANLK_DBLOCK_MBAL: another host made a higher bid
	accessDenied   = -13
	noOrphan       = -2 // ENOENT
)

// said returns what the daemon answered, if err is an answer of the daemon's.
func said(err error) (*sanlockwire.Result, bool) {
	return errors.AsType[*sanlockwire.Result](err)
}

// kindOf is the kind of the daemon's answer, leases.Other if err is none.
func kindOf(err error) leases.Kind {
	if r, ok := said(err); ok {
		return r.Kind
	}
	return leases.Other
}

// contended reports whether other hosts, or the ways of this one, kept a lease from us, and whether a shared
// lease may be had in a moment.
func contended(r *sanlockwire.Result) (yes, soon bool) {
	switch r.Number {
	case ownedNoTimeout, ballotVersion, ballotHigher:
		return true, false
	case casMiscompare:
		return true, true
	}
	switch r.Kind {
	case leases.Held, leases.LostRace, leases.CommittedOther, leases.Again, leases.SharedHeld, leases.SharedRetries,
		leases.OwnerSilent: // stock's daemon says so of every owner that renews less often than it looks
		return true, true
	default:
		return false, false
	}
}

// storage reports whether an answer means that the device did not do what it should.
func storage(k leases.Kind) bool {
	switch k {
	case leases.IO, leases.Timeout, leases.Stuck, leases.LeaderRead, leases.LeaderWrite, leases.BlockRead,
		leases.BlockWrite:
		return true
	default:
		return false
	}
}

// corrupt reports whether an answer means that there is no lease, or not the one there should be.
func corrupt(r *sanlockwire.Result) bool {
	switch r.Kind {
	case leases.BadMagic, leases.BadVersion, leases.LeaderDiffer, leases.WrongSpace, leases.WrongResource,
		leases.BadChecksum, leases.BlockChecksum:
		return true
	default:
		return r.Number == wrongCAW
	}
}

// lockError says what an acquire or a convert that ended with err means for the client (spec lvmlockd 4.10).
func lockError(op, what string, r lvmlock.Resource, m lvmwire.Mode, o lvmlock.LockOptions, err error) *lvmlock.Error {
	e := &lvmlock.Error{Op: op, What: what, Result: lvmwire.ManagerError, Err: err}
	if answer, ok := said(err); ok {
		e.Result, e.Retry = lockResult(r, m, o, answer)
	}
	adopts := o.Adopt || o.AdoptOnly
	if r.Kind == lvmwire.GL && m == lvmwire.SH && e.Result != lvmwire.Again && !adopts {
		// Commands of 2.03.16 read on without the lock after this one, and give up after most others (T33,
		// T53).
		e.Result = lvmwire.LockIO
	}
	return e
}

func lockResult(
	r lvmlock.Resource, m lvmwire.Mode, o lvmlock.LockOptions, answer *sanlockwire.Result,
) (result lvmwire.Result, retry bool) {
	if yes, soon := contended(answer); yes {
		return lvmwire.Again, soon && m == lvmwire.SH
	}
	switch k := answer.Kind; {
	case k == leases.OrphanExists && (o.Adopt || o.AdoptOnly):
		return lvmwire.AdoptRetry, false // in the other mode
	case k == leases.OrphanExists:
		return lvmwire.Orphan, false
	case k == leases.NotFound && o.AdoptOnly:
		return lvmwire.AdoptNone, false
	case k == leases.ShortTransfer && r.Kind == lvmwire.LV:
		return lvmwire.TooLong, false
	case k == leases.Timeout, k == leases.Stuck:
		return lvmwire.IOTimeout, false
	case k == leases.NoSpace, storage(k): // the lockspace is gone, or is about to
		return lvmwire.LockIO, false
	case corrupt(answer):
		return lvmwire.RepairNeeded, false
	}
	return lvmwire.ManagerError, false
}

// diskError says what it means for the client that reading, formatting or joining ended with err. The
// daemon's own numbers are never passed on: some of them are lvmlockd's for something else (spec lvmlockd
// T51).
func diskError(op, what string, err error) *lvmlock.Error {
	e := &lvmlock.Error{Op: op, What: what, Result: lvmwire.ManagerError, Err: err}
	answer, ok := said(err)
	if !ok {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EACCES) {
			e.Result = lvmwire.NoManager
		}
		return e
	}
	switch k := answer.Kind; {
	case k == leases.NoDevice, answer.Number == accessDenied:
		e.Result = lvmwire.DeviceOpen
	case k == leases.NotFound, k == leases.BadSizes:
		e.Result = lvmwire.BadArgs
	case k == leases.BadHostID, k == leases.HostIDBusy:
		e.Result = lvmwire.BadHostID
	case k == leases.ShortTransfer:
		e.Result = lvmwire.TooLong
	case k == leases.Exists:
		e.Result = lvmwire.Exists
	case k == leases.NoSpace, storage(k):
		e.Result = lvmwire.LockIO
	case corrupt(answer):
		e.Result = lvmwire.RepairNeeded
	}
	return e
}
