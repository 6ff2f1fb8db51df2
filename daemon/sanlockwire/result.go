package sanlockwire

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/tenurelock/tenure/leases"
)

// Result is what a negative result of the daemon means. Its zero value is no error.
type Result struct {
	Number int32       // as on the wire: -errno, or sanlock's own from -200 on downwards
	Name   string      // "SANLK_ACQUIRE_IDLIVE", "EAGAIN"; "" when nobody knows the number
	Text   string      // a sentence for people
	Kind   leases.Kind // the kind that ResultOf turns into this number; the plainest, where several do
}

// Error prints "SANLK_ACQUIRE_IDLIVE (-243): the lease is held by a host that is alive".
func (r *Result) Error() string {
	if r.Name == "" {
		return fmt.Sprintf("result %d", r.Number)
	}
	return fmt.Sprintf("%s (%d): %s", r.Name, r.Number, r.Text)
}

// As lets leases.KindOf find the kind.
func (r *Result) As(target any) bool {
	e, ok := target.(**leases.Error)
	if ok {
		*e = &leases.Error{Op: "ask the daemon", Kind: r.Kind, Err: r}
	}
	return ok
}

// ErrorOf returns what a result of the daemon means: nil for 0 and positive ones, else a *Result.
func ErrorOf(result int32) error {
	if result >= 0 {
		return nil
	}
	r := Result{Number: result}
	for _, m := range meanings {
		if m.number == result {
			r.Name, r.Text = m.name, m.text
		}
	}
	r.Kind = kindOf(result)
	return &r
}

// kindOf is the way back through numberOf. Where kinds share a number it takes the one that says least.
func kindOf(result int32) leases.Kind {
	switch result {
	case resultError:
		return leases.Other
	case numberOf[leases.Again]:
		return leases.Again
	}
	for k := leases.Other + 1; k <= leases.IndexDiffer; k++ {
		if numberOf[k] == result {
			return k
		}
	}
	return leases.Other
}

// ResultOf returns the number that tells a client why: 0 for nil; the number of the kind of the first
// leases.Error in err's chain that has one; else an errno in the chain; else what a context's end means; else
// SANLK_ERROR. A *Result keeps its number.
func ResultOf(err error) int32 {
	if err == nil {
		return 0
	}
	if known, ok := errors.AsType[*Result](err); ok {
		return known.Number
	}
	var e *leases.Error
	for in := err; errors.As(in, &e); in = e.Err {
		if n := numberOf[e.Kind]; n != 0 && e.Kind != leases.IO {
			return n
		}
	}
	if n := errnoOf(err); n != 0 {
		return -n
	}
	var late interface{ Timeout() bool }
	switch {
	case errors.As(err, &late) && late.Timeout():
		return numberOf[leases.Timeout]
	case leases.KindOf(err) == leases.IO:
		return numberOf[leases.IO]
	}
	return resultError
}

// resultError is SANLK_ERROR: something went wrong that no other number tells.
const resultError = -201

// maxErrno bounds what is taken for an errno: numbers from 200 on are sanlock's own.
const maxErrno = 199

// errnoOf finds an errno in err's chain, or returns 0. This package may not import syscall, so it knows an
// errno by what no other error is: an unsigned word. A tree of errors is walked in errors.Is's order.
func errnoOf(err error) int32 {
	if err == nil {
		return 0
	}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Uintptr && v.Uint() <= maxErrno {
		return int32(v.Uint())
	}
	switch e := err.(type) { //nolint:errorlint // the chain is walked here, one link at a time
	case interface{ Unwrap() error }:
		return errnoOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if n := errnoOf(one); n != 0 {
				return n
			}
		}
	}
	return 0
}

// numberOf gives each kind its number. Kinds that the table leaves out, such as Other, have none of their
// own.
var numberOf = [256]int32{
	leases.IO:             -5,
	leases.Timeout:        -202,
	leases.BlockRead:      -210,
	leases.BlockWrite:     -211,
	leases.BlockChecksum:  -214,
	leases.LeaderRead:     -220,
	leases.LeaderWrite:    -221,
	leases.LeaderDiffer:   -222,
	leases.BadMagic:       -223,
	leases.BadVersion:     -224,
	leases.BadSectorSize:  -225,
	leases.WrongSpace:     -226,
	leases.WrongResource:  -227,
	leases.BadNumHosts:    -228,
	leases.BadChecksum:    -229,
	leases.Corrupt:        -224, // a version of the record that we do not understand is the nearest
	leases.BadSizes:       -230,
	leases.BadHostID:      -231,
	leases.WrongVersion:   -240,
	leases.NotMember:      -241,
	leases.NoSpaceDisk:    -242,
	leases.Held:           -243,
	leases.LostRace:       -244,
	leases.CommittedOther: -245,
	leases.SharedRetries:  -246,
	leases.OwnerSilent:    -247,
	leases.ReleaseVersion: -250,
	leases.ReleaseOwner:   -251,
	leases.RenewOwner:     -260,
	leases.RenewDiffer:    -261,
	leases.HostIDBusy:     -262,
	leases.RequestMagic:   -270,
	leases.RequestVersion: -271,
	leases.RequestOld:     -272,
	leases.RequestHigher:  -273,
	leases.SharedHeld:     -11,
	leases.Exists:         -17,
	leases.Busy:           -16,
	leases.Again:          -11,
	leases.NotFound:       -2,
	leases.Invalid:        -22,
	leases.NoSpace:        -28,
	leases.InProgress:     -115,
	leases.Already:        -114,
	leases.ShortTransfer:  -90,
	leases.NoDevice:       -19,
	leases.TooBig:         -7,
	leases.OutOfRange:     -34,
	leases.Aborted:        resultError,
	leases.WatchdogError:  -203,
	leases.Lost:           -28, // stock checks the lockspace again when the acquire ends (spec 2.3 step 7)
	leases.OrphanExists:   -117,
	leases.TargetDied:     -25,
	leases.Stuck:          -202, // nothing was started, but to the caller it is storage that does not answer
	leases.IndexMagic:     -274,
	leases.IndexVersion:   -275,
	leases.IndexSpace:     -276,
	leases.IndexOffset:    -277,
	leases.IndexDiffer:    -278,
}
