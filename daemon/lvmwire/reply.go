package lvmwire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// What a daemon says of itself in the answer to hello.
const (
	protocol        = "lvmlockd"
	protocolVersion = 1
)

// answer puts a reply together, one line per key.
type answer struct {
	text []byte
}

// str writes a string, which cannot be escaped: what would end it is written as "_". An empty one is "none".
func (a *answer) str(key, value string) {
	if value == "" {
		value = none
	}
	a.text = append(a.text, key...)
	a.text = append(a.text, ` = "`...)
	for i := range len(value) {
		c := value[i]
		if c == '"' || c == '\\' || c < ' ' {
			c = '_'
		}
		a.text = append(a.text, c)
	}
	a.text = append(a.text, "\"\n"...)
}

func (a *answer) num(key string, value int64) {
	a.text = append(a.text, key...)
	a.text = append(a.text, " = "...)
	a.text = strconv.AppendInt(a.text, value, 10)
	a.text = append(a.text, '\n')
}

// unsigned writes what a client reads as a signed number.
func (a *answer) unsigned(key string, value uint64) { a.num(key, int64(min(value, math.MaxInt64))) }

// Append appends the reply as a daemon of dialect d sends it, its terminator included (spec lvmlockd 2.5).
func (r Reply) Append(dst []byte, d Dialect) []byte {
	a := &answer{dst}
	a.str("response", "OK")
	switch r.Op {
	case OpHello, OpQuit:
		a.num("result", int64(r.Result))
		a.str("protocol", protocol)
		a.num("version", protocolVersion)
	case OpDumpInfo, OpDumpLog:
		a.num("result", int64(r.Result))
		a.num("dump_len", int64(r.DumpLen))
	case OpInit, OpSetLockArgsFinal:
		r.results(a)
		a.str("vg_lock_args", r.VGArgs)
		a.str("lv_lock_args", r.LVArgs)
		a.str("result_flags", r.Flags)
	case OpQueryLock:
		a.num("op", int64(r.Op))
		a.num("op_result", int64(r.Result))
		a.str("lock_type", r.Type.String())
		a.str("mode", r.Mode.String())
	case OpSetRemoteLVLock:
		a.num("op", int64(r.Op))
		a.num("op_result", int64(r.Result))
	default:
		r.usual(a, d)
	}
	return append(a.text, terminator...)
}

func (r *Reply) results(a *answer) {
	a.num("op", int64(r.Op))
	a.num("op_result", int64(r.Result))
	a.num("lm_result", int64(r.ManagerValue))
}

// usual is the shape of most replies, where the newer dialect adds what it knows.
func (r *Reply) usual(a *answer, d Dialect) {
	a.num("op", int64(r.Op))
	a.str("lock_type", r.Type.String())
	a.num("op_result", int64(r.Result))
	a.num("lm_result", int64(r.ManagerValue))
	newer := d == Dialect40
	owner := newer && (r.Op == OpVGStatus || r.Op == OpLock && r.Owner.HostID != 0)
	previous := newer && r.Op == OpStart && r.Type == Sanlock && r.Previous != 0
	switch {
	case owner:
		a.unsigned("owner_host_id", r.Owner.HostID)
		a.unsigned("owner_generation", r.Owner.Generation)
		a.unsigned("owner_timestamp", r.Owner.Timestamp)
		a.str("owner_state", r.Owner.State)
		a.str("owner_name", r.Owner.Name)
	case previous:
		a.unsigned("prev_generation", r.Previous)
	}
	a.str("result_flags", r.Flags)
	if newer && !owner && !previous {
		a.unsigned("ls_generation", r.Generation)
	}
}

// ErrNotLvmlockd says that whoever answered a hello speaks another protocol, or another version of it.
var ErrNotLvmlockd = errors.New("peer does not speak lvmlockd version 1")

// DecodeReply reads a daemon's answer, of either dialect. Which request it answers is seen from its keys; where they do
// not tell, Op is that of the first of its sort: OpHello, OpDumpInfo.
func DecodeReply(body []byte) (Reply, error) {
	f, err := parseText(body)
	if err != nil {
		return Reply{}, fmt.Errorf("reply: %w", err)
	}
	if response := f["response"].text; response != "OK" {
		return Reply{}, fmt.Errorf("reply: response %q, want OK", response)
	}
	if !f["op_result"].isNumber {
		return decodeShort(f)
	}
	r := Reply{
		Op: Op(clampInt(f.num("op", 0))), Type: ParseLockType(f["lock_type"].text), Flags: f.str("result_flags"),
		Result: Result(clampInt(f.num("op_result", 0))), ManagerValue: Result(clampInt(f.num("lm_result", 0))),
		VGArgs: f.str("vg_lock_args"), LVArgs: f.str("lv_lock_args"),
		Generation: f.unsigned("ls_generation"), Previous: f.unsigned("prev_generation"),
		Owner: Owner{
			HostID: f.unsigned("owner_host_id"), Generation: f.unsigned("owner_generation"),
			Timestamp: f.unsigned("owner_timestamp"), State: f.str("owner_state"), Name: f.str("owner_name"),
		},
	}
	if r.Op == OpQueryLock {
		r.Mode = ParseMode(f["mode"].text)
	}
	return r, nil
}

// decodeShort reads the answers that have a result and no op.
func decodeShort(f fields) (Reply, error) {
	if !f["result"].isNumber {
		return Reply{}, errors.New("reply: no op_result and no result")
	}
	r := Reply{Op: OpHello, Result: Result(clampInt(f.num("result", 0)))}
	if length, ok := f["dump_len"]; ok {
		r.Op, r.DumpLen = OpDumpInfo, clampInt(length.number)
		return r, nil
	}
	if f["protocol"].text != protocol || f.num("version", 0) != protocolVersion {
		return Reply{}, fmt.Errorf("reply: %w", ErrNotLvmlockd)
	}
	return r, nil
}

// unsigned returns an integer that is at least 0.
func (f fields) unsigned(key string) uint64 { return uint64(max(f.num(key, 0), 0)) }
