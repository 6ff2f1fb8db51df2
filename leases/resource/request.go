package resource

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// PutRequest asks the lease's owner to give it up (spec ondisk 4.9): lver is the version that is wanted, mode
// 1 force or 2 graceful. next, with lver 0, means the version after the present one. lver 0 with mode 0
// resets the record whatever version it asks for, and whatever state the leader is in. It returns whom to tell, or a zero owner if the lease is
// free, when nothing is written. leases.RequestOld: the lease has that version already. leases.RequestHigher:
// a request for a later one is there. leases.RequestMagic, RequestVersion: the record does not verify.
func (l *Lease) PutRequest(ctx context.Context, lver uint64, mode uint32, next bool) (leases.Owner, error) {
	var to leases.Owner
	reset := lver == 0 && mode == 0
	if !reset {
		leader, err := l.ReadLeader(ctx)
		if err != nil {
			return to, err
		}
		if leader.Timestamp == 0 {
			return to, nil
		}
		if next && lver == 0 {
			lver = leader.LVer + 1
		}
		if leader.LVer >= lver {
			return to, l.fail("request", leases.RequestOld,
				fmt.Errorf("version %d is wanted, the lease has %d already", lver, leader.LVer))
		}
		to = owner(record(&leader).Owner)
	}
	old, err := l.takeRequest(ctx, reset)
	if err != nil {
		return leases.Owner{}, err
	}
	if !reset && old.LVer > lver {
		return leases.Owner{}, l.fail("request", leases.RequestHigher,
			fmt.Errorf("version %d is wanted, a request for %d is already there", lver, old.LVer))
	}
	old.LVer, old.ForceMode = lver, mode
	if err := l.write(ctx, 0, int64(l.geometry.Sector), old.Encode); err != nil {
		return leases.Owner{}, l.fail("request", causeKind(err), err)
	}
	return to, nil
}

// TakeRequest reads the request record. Where it lies is known once a leader was read.
func (l *Lease) TakeRequest(ctx context.Context) (ondisk.Request, error) {
	return l.takeRequest(ctx, false)
}

// takeRequest is TakeRequest; with anyway, a leader that does not verify leaves the sizes as they were assumed.
func (l *Lease) takeRequest(ctx context.Context, anyway bool) (ondisk.Request, error) {
	if !l.sized {
		var bad *ondisk.FormatError
		if _, err := l.ReadLeader(ctx); err != nil && (!anyway || !errors.As(err, &bad)) {
			return ondisk.Request{}, err
		}
	}
	b, err := l.read(ctx, 0, int64(l.geometry.Sector), l.geometry.Sector)
	if err != nil {
		return ondisk.Request{}, l.fail("read the request of", causeKind(err), err)
	}
	defer b.Release()
	r, err := ondisk.DecodeRequest(b.Bytes())
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return ondisk.Request{}, l.fail("read the request of", causeKind(err), err)
	}
	return r, nil
}

// ReadLeader reads and checks the leader of disk 0, and adopts its sizes.
func (l *Lease) ReadLeader(ctx context.Context) (ondisk.Leader, error) {
	b, err := l.read(ctx, 0, 0, l.geometry.Sector)
	if err != nil {
		return ondisk.Leader{}, l.fail("read", causeKind(err), err)
	}
	defer b.Release()
	leader, err := ondisk.DecodeLeader(b.Bytes())
	if err == nil {
		err = l.check(&leader, terms{})
	}
	if err != nil {
		return ondisk.Leader{}, l.fail("read", causeKind(err), err)
	}
	l.geometry, l.numHosts, l.sized = leader.Geometry(), cover(&leader), true
	return leader, nil
}
