package leases

import (
	"errors"
	"strings"
)

// Kind says what went wrong in one word, for code that branches on it. Each kind that stock has a number
// for is translated to it at the socket, in daemon/sanlockwire, and nowhere else.
type Kind uint8

// The kinds. Comments give sanlock's name where there is one.
const (
	Other          Kind = iota
	IO                  // the device refused the transfer
	Timeout             // AIO_TIMEOUT: it may or may not have happened on disk
	BlockRead           // DBLOCK_READ
	BlockWrite          // DBLOCK_WRITE
	BlockChecksum       // DBLOCK_CHECKSUM
	LeaderRead          // LEADER_READ: no majority of disks readable
	LeaderWrite         // LEADER_WRITE: no majority of disks written
	LeaderDiffer        // LEADER_DIFF: no majority of disks agrees
	BadMagic            // LEADER_MAGIC
	BadVersion          // LEADER_VERSION
	BadSectorSize       // LEADER_SECTORSIZE
	WrongSpace          // LEADER_LOCKSPACE
	WrongResource       // LEADER_RESOURCE
	BadNumHosts         // LEADER_NUMHOSTS
	BadChecksum         // LEADER_CHECKSUM
	Corrupt             // a record that verifies but cannot be true, or that carries features we do not know
	BadSizes            // ADDLS_SIZES
	BadHostID           // ADDLS_INVALID_HOSTID
	WrongVersion        // ACQUIRE_LVER: the caller's lver is not the leader's
	NotMember           // ACQUIRE_LOCKSPACE: the owner's lockspace is not joined here
	NoSpaceDisk         // ACQUIRE_IDDISK
	Held                // ACQUIRE_IDLIVE: the owner is alive
	LostRace            // ACQUIRE_OWNED: another host committed this version
	CommittedOther      // ACQUIRE_OTHER: our ballot committed another host's value
	SharedRetries       // ACQUIRE_SHRETRY
	OwnerSilent         // ACQUIRE_OWNED_RETRY: silent, not yet dead, and the caller does not want to wait
	ReleaseVersion      // RELEASE_LVER
	ReleaseOwner        // RELEASE_OWNER
	RenewOwner          // RENEW_OWNER: our own delta lease names someone else
	RenewDiffer         // RENEW_DIFF: our own delta lease is not what we wrote
	HostIDBusy          // HOSTID_BUSY
	RequestMagic        // REQUEST_MAGIC
	RequestVersion      // REQUEST_VERSION
	RequestOld          // REQUEST_OLD
	RequestHigher       // REQUEST_LVER
	SharedHeld          // EAGAIN: live hosts hold it shared
	Exists              // EEXIST
	Busy                // EBUSY
	Again               // EAGAIN
	NotFound            // ENOENT
	Invalid             // EINVAL
	NoSpace             // ENOSPC: the lockspace is not joined, or is failing
	InProgress          // EINPROGRESS
	Already             // EALREADY
	ShortTransfer       // EMSGSIZE: beyond the end of the device
	NoDevice            // ENODEV
	TooBig              // E2BIG
	OutOfRange          // ERANGE
	Aborted             // SANLK_ERROR: given up because the lockspace leaves or the daemon stops
	WatchdogError       // WD_ERROR
	Lost                // the lease or the membership was lost while the call ran
	OrphanExists        // EUCLEAN
	TargetDied          // ENOTTY, ESTALE: the client died meanwhile
	Stuck               // too many transfers of this device hang in the kernel
	IndexMagic          // RINDEX_MAGIC
	IndexVersion        // RINDEX_VERSION
	IndexSpace          // RINDEX_LOCKSPACE
	IndexOffset         // RINDEX_OFFSET
	IndexDiffer         // RINDEX_DIFF: the entry of that offset has another name
)

// Error is what every floor above the device returns: what was attempted, on what, what happened.
type Error struct {
	Op       string // what was attempted, a verb: "acquire", "renew"
	Space    string // lockspace name, or ""
	Resource string // resource name, or ""
	Kind     Kind
	Err      error // the cause and what to do about it, in words
}

// Error prints "acquire VG/lv1: held by host 2 generation 4, which renewed 3 s ago".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Space != "" {
		b.WriteString(" " + e.Space)
		if e.Resource != "" {
			b.WriteString("/" + e.Resource)
		}
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost Error in err's chain, or Other.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Other
}
