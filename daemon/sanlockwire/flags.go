package sanlockwire

// Flags of a resource (spec sanlock-daemon 1.5).
const (
	ResLVer       = 1 // LVer is set: the leader must have this version
	ResNumHosts   = 2 // Data32 is the new number of hosts
	ResShared     = 4
	ResPersistent = 8
)

// Flags of a lockspace in the answer of GET_LOCKSPACES.
const (
	SpaceAdding   = 1
	SpaceRemoving = 2
)

// Flags that choose sector and align size; the same bits in resources, lockspaces and resource indexes.
const (
	Align1M    = 0x10
	Align2M    = 0x20
	Align4M    = 0x40
	Align8M    = 0x80
	AlignMask  = Align1M | Align2M | Align4M | Align8M
	Sector512  = 0x100
	Sector4K   = 0x200
	SectorMask = Sector512 | Sector4K
)

// Flags of the commands, in Header.Flags.
const (
	AcquireLVB         = 1
	AcquireOrphan      = 2
	AcquireOrphanOnly  = 4
	AcquireOwnerNoWait = 8

	ReleaseAll    = 1
	ReleaseRename = 2
	ReleaseOrphan = 4

	ConvertOwnerNoWait = 8

	RequestNextLVer = 1

	RestrictAll     = 1
	RestrictSigkill = 2
	RestrictSigterm = 4

	KillpathPID = 1

	AddAsync    = 1
	RemoveAsync = 1
	RemoveIdle  = 2 // stock's REM_UNUSED: only when nobody uses it
	InquireWait = 1

	WriteClear = 1

	EventCurrentGeneration = 1
	EventClearHostID       = 2
	EventClear             = 4
	EventReplace           = 8
	EventAllHosts          = 0x10

	IndexNoLockspace = 1
	IndexAdd         = 0x10000
	IndexRemove      = 0x20000

	// GetHostLocal asks GET_HOSTS for our own slot only, from sanlock 4.0 on (spec 6.1).
	GetHostLocal = 1
)

// Values of Header.Data: how a REQUEST is to be put, what SET_CONFIG sets, what STATUS leaves out.
const (
	RequestForce    = 1
	RequestGraceful = 2

	ConfigUsed            = 1
	ConfigUnused          = 2
	ConfigUsedByOrphans   = 4
	ConfigUnusedByOrphans = 8

	StatusAll        = 0
	StatusDaemon     = 1
	StatusClients    = 2 // and the daemon
	StatusLockspaces = 3 // and the clients and the daemon
)

// HostStateMask selects the leases.Verdict in Host.Flags.
const HostStateMask = 0xF
