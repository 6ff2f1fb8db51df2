package resource

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/paxos"
)

// fail wraps err for the caller.
func (l *Lease) fail(op string, kind leases.Kind, err error) error {
	return &leases.Error{
		Op: op, Space: l.cfg.Space.String(), Resource: l.cfg.Name.String(), Kind: kind, Err: err,
	}
}

// causeKind is the kind of a failed transfer or of a record that does not verify.
func causeKind(err error) leases.Kind {
	var format *ondisk.FormatError
	var lease *leases.Error
	switch {
	case errors.As(err, &lease):
		return lease.Kind
	case errors.As(err, &format):
		return format.Kind
	case errors.Is(err, device.ErrShort):
		return leases.ShortTransfer
	case errors.Is(err, device.ErrStuck):
		return leases.Stuck
	case isTimeout(err):
		return leases.Timeout
	case errors.Is(err, errSizesChange), errors.Is(err, errSizesDiffer):
		return leases.Corrupt
	case errors.Is(err, context.Canceled):
		return leases.Aborted
	}
	return leases.IO
}

func isTimeout(err error) bool {
	var op *device.OpError
	return errors.As(err, &op) && op.Timeout()
}

// step is what the driver was doing when a machine ended; it decides which of stock's numbers a fault gets.
type step uint8

const (
	atLook   step = iota // before the ballot
	atBallot             // between the first block write and the leader write
	atLeader             // leader write, or anything after the ballot
)

// machineKind translates how a machine ended (spec ondisk 4.8, 7). Stock has numbers of its own for the
// leader of a lease on several disks.
func (l *Lease) machineKind(err error, at step) leases.Kind {
	cause := causeKind(err)
	moved := cause != leases.Timeout && cause != leases.IO
	switch {
	case errors.Is(err, paxos.ErrHeld):
		return leases.Held
	case errors.Is(err, paxos.ErrOwnerSilent):
		return leases.OwnerSilent
	case errors.Is(err, paxos.ErrLostRace), errors.Is(err, paxos.ErrOutbid), errors.Is(err, paxos.ErrSuperseded):
		return leases.LostRace
	case errors.Is(err, paxos.ErrOtherWon):
		return leases.CommittedOther
	case errors.Is(err, paxos.ErrWrongVersion):
		return leases.WrongVersion
	case errors.Is(err, paxos.ErrBadBlock):
		return leases.BlockChecksum
	case errors.Is(err, paxos.ErrDisagree):
		return leases.LeaderDiffer
	case errors.Is(err, paxos.ErrOldRound):
		return leases.ReleaseVersion
	case errors.Is(err, paxos.ErrNotOurs):
		return leases.ReleaseOwner
	case errors.Is(err, paxos.ErrNoWrite) && at == atBallot:
		return leases.BlockWrite
	case errors.Is(err, paxos.ErrNoRead) && at == atBallot && !moved:
		return leases.BlockRead
	case errors.Is(err, paxos.ErrNoRead) && len(l.cfg.Disks) > 1 && !moved:
		return leases.LeaderRead
	case errors.Is(err, paxos.ErrNoCommit) && len(l.cfg.Disks) > 1:
		return leases.LeaderWrite
	case errors.Is(err, paxos.ErrNoNumber):
		return leases.OutOfRange
	}
	return cause
}

// explain says of a machine's error what the caller wants to know: who holds the lease, or what is wrong with
// the record that was read, where the majority that was missed is of no interest.
func explain(a paxos.Action) error {
	var format *ondisk.FormatError
	var lease *leases.Error
	switch {
	case a.Owner.Host != 0:
		return fmt.Errorf("%w: %v", a.Err, owner(a.Owner))
	case errors.Is(a.Err, paxos.ErrNoRead) && errors.As(a.Err, &lease):
		return lease.Err
	case errors.Is(a.Err, paxos.ErrNoRead) && errors.As(a.Err, &format):
		return format
	}
	return a.Err
}
