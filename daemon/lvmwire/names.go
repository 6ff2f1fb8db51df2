package lvmwire

import "fmt"

// known is what a request's name means (spec lvmlockd 2.1).
type known struct {
	op   Op
	kind Kind
}

// requests are all that a client may ask.
var requests = map[string]known{
	"hello": {OpHello, NoKind}, "quit": {OpQuit, NoKind}, "info": {OpDumpInfo, NoKind}, "dump": {OpDumpLog, NoKind},
	"init_vg": {OpInit, VG}, "init_lv": {OpInit, LV}, "free_vg": {OpFree, VG}, "free_lv": {OpFree, LV},
	"busy_vg": {OpBusy, VG}, "start_vg": {OpStart, VG}, "stop_vg": {OpStop, VG},
	"lock_gl": {OpLock, GL}, "lock_vg": {OpLock, VG}, "lock_lv": {OpLock, LV}, "vg_update": {OpUpdate, VG},
	"enable_gl": {OpEnable, GL}, "disable_gl": {OpDisable, GL},
	"start_wait": {OpStartWait, NoKind}, "stop_all": {OpStopAll, NoKind},
	"rename_vg_before": {OpRenameBefore, VG}, "rename_vg_final": {OpRenameFinal, VG},
	"running_lm": {OpRunningLM, NoKind}, "find_free_lock": {OpFindFreeLock, VG},
	"kill_vg": {OpKillVG, VG}, "drop_vg": {OpDropVG, VG},
	"query_lock_vg": {OpQueryLock, VG}, "query_lock_lv": {OpQueryLock, LV},
	"refresh_lv": {OpRefreshLV, NoKind}, "vg_status": {OpVGStatus, VG},
	"setlockargs_vg_before": {OpSetLockArgs, VG}, "setlockargs_vg_final": {OpSetLockArgsFinal, VG},
	"set_remote_lv_lock": {OpSetRemoteLVLock, LV},
}

var opNames = map[Op]string{
	OpHello: "hello", OpQuit: "quit", OpInit: "init", OpFree: "free", OpStart: "start", OpStop: "stop", OpLock: "lock",
	OpUpdate: "update", OpClose: "close", OpEnable: "enable", OpDisable: "disable", OpStartWait: "start_wait",
	OpStopAll: "stop_all", OpDumpInfo: "dump_info", OpDumpLog: "dump_log", OpRenameBefore: "rename_before",
	OpRenameFinal: "rename_final", OpRunningLM: "running_lm", OpFindFreeLock: "find_free_lock", OpKillVG: "kill_vg",
	OpDropVG: "drop_vg", OpBusy: "busy", OpQueryLock: "query_lock", OpRefreshLV: "refresh_lv",
	OpVGStatus: "vg_status", OpSetLockArgs: "setlockargs_before", OpSetLockArgsFinal: "setlockargs_final",
	OpSetRemoteLVLock: "set_remote_lv_lock",
}

// String is the name that logs and dumps use, "op_unknown" for numbers that no request has.
func (o Op) String() string {
	if s, ok := opNames[o]; ok {
		return s
	}
	return "op_unknown"
}

// String is "gl", "vg", "lv" or, for none, ".".
func (k Kind) String() string {
	switch k {
	case GL:
		return "gl"
	case VG:
		return "vg"
	case LV:
		return "lv"
	default:
		return "."
	}
}

// String is "un", "nl", "sh", "ex" or "iv".
func (m Mode) String() string {
	switch m {
	case UN:
		return "un"
	case NL:
		return "nl"
	case SH:
		return "sh"
	case EX:
		return "ex"
	default:
		return "iv"
	}
}

// ParseMode is the way back; everything else is Invalid.
func ParseMode(s string) Mode {
	for _, m := range []Mode{UN, NL, SH, EX} {
		if s == m.String() {
			return m
		}
	}
	return Invalid
}

// String is the name by which VGs call their lock type, "none" where there is none to name, and stock's "lm_unknown".
func (t LockType) String() string {
	switch t {
	case DLM:
		return "dlm"
	case Sanlock:
		return "sanlock"
	case IDM:
		return "idm"
	case UnknownType:
		return "lm_unknown"
	default:
		return none
	}
}

// ParseLockType is the way back. Nothing and "none" are NoType, what is not known is UnknownType.
func ParseLockType(s string) LockType {
	for _, t := range []LockType{NoType, DLM, Sanlock, IDM} {
		if s == t.String() {
			return t
		}
	}
	if s == "" {
		return NoType
	}
	return UnknownType
}

// String is the number as replies carry it, with its name where it has one of lvmlockd's own: "-210 ENOLS".
func (r Result) String() string {
	if r == NoLockspace {
		return fmt.Sprintf("%d ENOLS", int32(r))
	}
	return fmt.Sprint(int32(r))
}
