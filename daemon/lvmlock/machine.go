package lvmlock

import "github.com/tenurelock/tenure/daemon/lvmwire"

// ClientID is one connection, never used again; 0 is nobody, which holds what is persistent.
type ClientID uint32

// Ask is a request that waits on a resource.
type Ask struct {
	Client     ClientID
	Op         lvmwire.Op // OpLock, OpUpdate, OpEnable, OpDisable; OpQueryLock never waits
	Mode       lvmwire.Mode
	Flags      lvmwire.Flags
	Version    int64
	MaxRetries int
	Args       string // lv_lock_args of this request
	retries    int    // how often the lock manager said Again and it was asked anew
	paused     bool   // not before the next Resume
	unheard    bool   // our own: gives back what the client was never told of; nobody waits for its answer
	said       error  // what the lock manager said last, nil if it was not asked or agreed
}

// Answer ends an Ask.
type Answer struct {
	Ask          *Ask
	Result       lvmwire.Result
	ManagerValue lvmwire.Result // of the last call made for it, 0 if none was
	Flags        lvmwire.Flags  // SHExists, LVLock …
	Owner        lvmwire.Owner
	Validity     Validity // what may still be believed of copies made under an earlier lock
	Err          error    // what the lock manager said, for the log
}

// CallKind is what a resource wants of its lock manager.
type CallKind uint8

// The calls; CallEnable and CallDisable are SetGlobal.
const (
	CallLock CallKind = iota + 1
	CallConvert
	CallUnlock
	CallEnable
	CallDisable
)

// Call is one call on the lock manager. A resource has at most one under way.
type Call struct {
	Kind     CallKind
	Resource Resource
	From, To lvmwire.Mode
	Value    *Value // to be written, nil: none
	Options  LockOptions
}

// Outcome is how a Call ended.
type Outcome struct {
	Value Value
	Err   error
}
