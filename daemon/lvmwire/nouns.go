package lvmwire

// Op is what a request wants, as the number that replies carry (spec lvmlockd 2.1).
type Op int32

// The requests, and the two that arise inside: a connection that closes, and nothing.
const (
	OpHello            Op = 1
	OpQuit             Op = 2
	OpInit             Op = 3
	OpFree             Op = 4
	OpStart            Op = 5
	OpStop             Op = 6
	OpLock             Op = 7
	OpUpdate           Op = 8
	OpClose            Op = 9
	OpEnable           Op = 10
	OpDisable          Op = 11
	OpStartWait        Op = 12
	OpStopAll          Op = 13
	OpDumpInfo         Op = 14
	OpDumpLog          Op = 15
	OpRenameBefore     Op = 16
	OpRenameFinal      Op = 17
	OpRunningLM        Op = 18
	OpFindFreeLock     Op = 19
	OpKillVG           Op = 20
	OpDropVG           Op = 21
	OpBusy             Op = 22
	OpQueryLock        Op = 23
	OpRefreshLV        Op = 24
	OpVGStatus         Op = 25
	OpSetLockArgs      Op = 28 // setlockargs_vg_before
	OpSetLockArgsFinal Op = 29
	OpSetRemoteLVLock  Op = 30
)

// Kind is which sort of resource a request is about.
type Kind uint8

// The kinds of resources; their names in logs and dumps are "gl", "vg" and "lv".
const (
	NoKind Kind = iota
	GL
	VG
	LV
)

// Mode is how a lock is held or wanted. The numbers are stock's.
type Mode int8

// The modes. NL is understood and refused; Invalid is a mode that is absent or not known.
const (
	Invalid Mode = -1
	UN      Mode = 0
	NL      Mode = 1
	SH      Mode = 2
	EX      Mode = 3
)

// LockType names a kind of lock manager; the numbers are what running_lm answers.
type LockType int8

// The lock types that requests may name.
const (
	UnknownType LockType = -2
	NoType      LockType = 0
	DLM         LockType = 2
	Sanlock     LockType = 3
	IDM         LockType = 4
)

// Flags are the options of a request and what became of it, as dumps show them (spec lvmlockd 2.4).
type Flags uint32

// Flags from opts come first, those that arise inside after them.
const (
	Persistent    Flags = 0x1
	NoClient      Flags = 0x2
	UnlockCancel  Flags = 0x4
	NextVersion   Flags = 0x8
	Wait          Flags = 0x10
	Force         Flags = 0x20
	ExDisable     Flags = 0x40
	Enable        Flags = 0x80
	Disable       Flags = 0x100
	SearchLS      Flags = 0x200
	WaitStarting  Flags = 0x1000
	DupGL         Flags = 0x2000
	Adopt         Flags = 0x10000
	WarnGLRemoved Flags = 0x20000
	LVLock        Flags = 0x40000
	LVUnlock      Flags = 0x80000
	SHExists      Flags = 0x100000
	AdoptOnly     Flags = 0x200000
	NoDelay       Flags = 0x400000
	Repair        Flags = 0x800000
	NoTimeout     Flags = 0x1000000
	HostsUnknown  Flags = 0x2000000
)

// Result is an op_result: 0, an errno or one of lvmlockd's own numbers, negative (spec lvmlockd 2.6).
type Result int32

// The results. Names follow the numbers' stock names without the E.
const (
	OK           Result = 0
	Perm         Result = -1
	NotFound     Result = -2   // ENOENT
	IO           Result = -5   // EIO
	Again        Result = -11  // EAGAIN: held
	NoMemory     Result = -12  // ENOMEM
	Busy         Result = -16  // EBUSY
	Exists       Result = -17  // EEXIST
	NoDevice     Result = -19  // ENODEV
	BadRequest   Result = -22  // EINVAL
	NoSpace      Result = -28  // ENOSPC
	NoLock       Result = -37  // ENOLCK: no lock manager runs
	NotEmpty     Result = -39  // ENOTEMPTY
	Unattached   Result = -49  // EUNATCH: the global lock is disabled here; becomes NoLockspace
	Full         Result = -54  // EXFULL: several lock managers run
	TooLong      Result = -90  // EMSGSIZE: beyond the lvmlock LV, or no slot left in it
	NoSupport    Result = -93  // EPROTONOSUPPORT
	Unsupported  Result = -95  // EOPNOTSUPP
	Refused      Result = -111 // ECONNREFUSED
	Already      Result = -114 // EALREADY: held in this mode
	Stale        Result = -116 // ESTALE: stopping
	OtherMode16  Result = -117 // EUCLEAN: 2.03.16's AdoptRetry
	Canceled     Result = -125 // ECANCELED
	NoLockspace  Result = -210
	Starting     Result = -211
	BadArgs      Result = -212
	BadHostID    Result = -213
	NoManager    Result = -214
	BadPrepare   Result = -215
	NoDaemon     Result = -216
	VGKilled     Result = -217
	LockIO       Result = -218
	Removed      Result = -219
	DeviceOpen   Result = -220
	ManagerError Result = -221
	Orphan       Result = -222
	AdoptNone    Result = -223
	AdoptRetry   Result = -224
	IOTimeout    Result = -225
	RepairNeeded Result = -226
)

// Dialect is whose habits a reply follows.
type Dialect uint8

// The dialects: replies of the newer have keys more, which the older's commands ignore.
const (
	Dialect16 Dialect = 16
	Dialect40 Dialect = 40
)
