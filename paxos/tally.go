package paxos

import "fmt"

// tally collects what the disks report about one action.
type tally struct {
	disks    int
	reported [MaxDisks]bool
	good     [MaxDisks]bool
	bad      bool  // a disk was lost to a block that does not verify
	cause    error // what the last failed disk said
}

func newTally(disks int) tally { return tally{disks: disks} }

// report notes one disk's answer and reports whether all disks have answered. A report that was not asked
// for is a broken caller, and a broken caller could grant a lease twice.
func (t *tally) report(disk int, err error) bool {
	if disk < 0 || disk >= t.disks || t.reported[disk] {
		panic(fmt.Sprintf("paxos: unexpected report of disk %d of %d", disk, t.disks))
	}
	t.reported[disk] = true
	t.good[disk] = err == nil
	if err != nil {
		t.cause = err
	}
	for d := range t.disks {
		if !t.reported[d] {
			return false
		}
	}
	return true
}

func (t *tally) spoil(disk int) {
	t.good[disk] = false
	t.bad = true
}

// count returns on how many disks the action succeeded.
func (t *tally) count() int {
	n := 0
	for d := range t.disks {
		if t.good[d] {
			n++
		}
	}
	return n
}

// and drops the disks that were not good in an earlier action.
func (t *tally) and(earlier [MaxDisks]bool) {
	for d := range t.disks {
		t.good[d] = t.good[d] && earlier[d]
	}
}

// failed gives the error of an action that has no majority: kind, with what a disk said.
func (t *tally) failed(kind error) error {
	if t.bad {
		kind = ErrBadBlock
	}
	if t.cause == nil {
		return kind
	}
	return fmt.Errorf("%w: %w", kind, t.cause)
}
