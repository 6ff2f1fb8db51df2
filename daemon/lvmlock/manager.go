package lvmlock

import (
	"context"
	"fmt"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// VG is what a lock manager needs to know of a volume group.
type VG struct {
	Name   string
	UUID   string
	Args   string // vg_lock_args
	HostID uint64 // sanlock's; 0 when none was sent
}

// Resource is one thing that can be locked in a lockspace.
type Resource struct {
	Kind lvmwire.Kind
	Name string // "GLLK", "VGLK" or the LV's UUID with dashes
	Args string // lv_lock_args of this request, of an LV
}

// Value is a resource's value block (spec lvmlockd 3.7).
type Value struct {
	Version uint32 // r_version: of the VG's metadata, or a counter
	Removed bool
	Set     bool // something was ever written: the block's own version is not 0
}

// PrepareOptions say how to get ready to join.
type PrepareOptions struct{ Repair bool }

// JoinOptions say how to join.
type JoinOptions struct {
	NoDelay   bool
	Adopt     bool // a lockspace that is joined already is taken over
	AdoptOnly bool // and nothing else will do
}

// LockOptions say how to lock.
type LockOptions struct {
	Adopt     bool // an orphan of this host will do
	AdoptOnly bool // and nothing else will do
	Repair    bool
}

// LockManager is one way for hosts to agree. Calls of one manager may come side by side. What is wrong is told by an
// *Error; any other error counts as Kind ManagerError.
type LockManager interface {
	// Type is the lock type that VGs name it by.
	Type() lvmwire.LockType
	// Running returns nil if the manager can be used now.
	Running(ctx context.Context) error
	// Prepare checks quickly what a join needs, and returns the lockspace, not joined yet. previous is the
	// generation of our last membership, 0 if it is not known.
	Prepare(ctx context.Context, vg VG, o PrepareOptions) (space Lockspace, previous uint64, err error)
}

// Lockspace is a VG's locks (or the global lock's own). For one resource there is never more than one call at a time.
type Lockspace interface {
	// Join makes this host a member, which may take minutes; generation is 0 where there is no such thing. After an error
	// Leave is still called, and only closes what Prepare opened.
	Join(ctx context.Context, o JoinOptions) (generation uint64, err error)
	// Leave gives back what is held and ends the membership; the device is closed when it returns. With free the VG is
	// being removed: nothing of the lockspace can be used afterwards. After an error that says Busy we are still
	// a member.
	Leave(ctx context.Context, free bool) error
	// Lock takes an unlocked resource in SH or EX and never waits for other hosts to let go. Locks outlive this process.
	Lock(ctx context.Context, r Resource, m lvmwire.Mode, o LockOptions) (Value, error)
	// Convert changes the mode of a held lock. value, if any, is written when EX is given up.
	Convert(ctx context.Context, r Resource, from, to lvmwire.Mode, value *Value) error
	// Unlock gives a lock back. value, if any, is written when EX is given up. After an error the lock is still held.
	Unlock(ctx context.Context, r Resource, from lvmwire.Mode, value *Value) error
	// Hosts returns how many other hosts may be members. unsure says that of none of them anything is known yet.
	Hosts(ctx context.Context) (others int, unsure bool, err error)
	// Lost is closed when the membership ended without Leave, or cannot be relied on any more.
	Lost() <-chan struct{}
}

// A LockManager may be one of these too.
type (
	// VGFormatter keeps its locks on a disk that it must prepare, or has arguments of its own for a VG.
	VGFormatter interface {
		// InitVG makes a VG's locks and returns its vg_lock_args. vg.Args is the name of the lock LV (sanlock).
		InitVG(ctx context.Context, vg VG, o InitOptions) (args string, err error)
		// RenameVG makes the locks of a VG that is not started those of vg.Name.
		RenameVG(ctx context.Context, vg VG) error
	}
	// LVAllocator gives each LV a place of its own. space is nil if the VG is not started.
	LVAllocator interface {
		// InitLV makes an LV's lock and returns its lv_lock_args.
		InitLV(ctx context.Context, vg VG, space Lockspace, uuid, previousArgs string) (args string, err error)
	}
	// Adopter can find what an earlier daemon left.
	Adopter interface {
		// Lockspaces returns the names of the joined lockspaces, those with "lvm_" only.
		Lockspaces(ctx context.Context) ([]string, error)
	}
	// Identifier is an Adopter that can tell as which host a lockspace is joined.
	Identifier interface {
		// HostID returns our host id in a lockspace that Lockspaces returned.
		HostID(ctx context.Context, space string) (uint64, error)
	}
	// Refresher can make other hosts look at an LV anew.
	Refresher interface {
		Refresh(ctx context.Context, path string) error
	}
)

// A Lockspace may be one of these too.
type (
	// GlobalLocker has a place for the global lock in each VG, of which one is enabled. A manager whose lockspaces
	// are no GlobalLocker has the global lock in a lockspace of its own, "lvm_global".
	GlobalLocker interface {
		GlobalEnabled(ctx context.Context) (bool, error)
		SetGlobal(ctx context.Context, enabled bool) error
	}
	// SlotFinder can say whether one more LV lock fits.
	SlotFinder interface {
		// FindFree returns an Error of Kind TooLong if no slot is free. size is that of the lock LV in bytes, 0 if unknown.
		FindFree(ctx context.Context, size int64) error
		// FreeLV gives the slot of an LV back.
		FreeLV(ctx context.Context, r Resource) error
	}
	// Member can tell what is known of this host in the lockspace.
	Member interface {
		Status(ctx context.Context) (lvmwire.Owner, error)
	}
	// Purger removes what this host's earlier life left and nobody adopted.
	Purger interface {
		Purge(ctx context.Context) error
	}
)

// InitOptions say how to make a VG's locks.
type InitOptions struct {
	Global  bool   // with the global lock enabled
	SetArgs string // the user's --setlockargs
	AlignMB int64  // wanted size of a lease, 0: the manager's choice
}

// Error is how a lock manager says no. Result is what the client is told.
type Error struct {
	Op     string // what was tried: "lock"
	What   string // on what
	Result lvmwire.Result
	Retry  bool          // the same may succeed in a moment
	Owner  lvmwire.Owner // who stands in the way, if known
	Wait   uint64        // seconds until the owner's lock may be taken if it stays away, 0 if unknown
	Err    error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: result %d", e.Op, e.What, e.Result)
	if e.Owner.HostID != 0 {
		o := e.Owner
		s += fmt.Sprintf(", held by host %d (%s) generation %d, %s", o.HostID, o.Name, o.Generation, o.State)
	}
	if e.Wait != 0 {
		s += fmt.Sprintf(", can be taken in %d s if that host stays away", e.Wait)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }
