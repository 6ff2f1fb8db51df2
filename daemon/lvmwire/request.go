package lvmwire

// Request is one message of a client, with what is absent or "none" empty (spec lvmlockd 2.2).
type Request struct {
	Name string // as sent: "lock_vg"
	Op   Op
	Kind Kind

	Cmd     string // the command's name, at most 64 bytes
	PID     int
	Mode    Mode
	Options Flags
	Opts    string // as sent

	VGName, LVName, LVUUID, VGUUID, VGSysID string // at most 64 bytes each
	Type                                    LockType
	VGArgs, LVArgs                          string // at most 64 bytes each
	Version                                 int64
	HostID                                  int64
	MaxRetries                              int // 4 unless sent

	Path       string // refresh_lv
	PrevLVArgs string // 2.03.40
	LVSize     int64  // bytes, 2.03.40
	SetArgs    string // set_lock_args, 2.03.40
	AlignMB    int64  // 2.03.40
}

// Owner is the host that stands in a request's way, or our own in the answer to vg_status.
type Owner struct {
	HostID     uint64
	Generation uint64
	Timestamp  uint64 // seconds of the owner's clock
	State      string // "UNKNOWN", "FREE", "LIVE", "FAIL", "DEAD" or empty
	Name       string
}

// Reply is what a request is answered with. Which keys are written depends on Op and the dialect (spec lvmlockd 2.5).
type Reply struct {
	Op           Op
	Type         LockType
	Result       Result
	ManagerValue Result // lm_result
	VGArgs       string
	LVArgs       string
	Mode         Mode
	Flags        string // result_flags, "" is written as none
	Generation   uint64 // ls_generation
	Previous     uint64 // prev_generation
	Owner        Owner
	DumpLen      int
}
