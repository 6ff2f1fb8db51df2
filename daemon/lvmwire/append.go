package lvmwire

import "strconv"

// keysOf are the keys of each request in the order in which commands write them; those that begin with "40:" are written
// in the newer dialect only (spec lvmlockd 2.3). Names that are missing here have no keys.
var keysOf = map[string][]string{
	"lock_gl": {"cmd", "pid", "mode", "opts", "vg_lock_type"},
	"lock_vg": {"cmd", "pid", "mode", "opts", "vg_name", "vg_lock_type", "vg_lock_args"},
	"lock_lv": {
		"cmd", "pid", "mode", "opts", "vg_name", "lv_name", "lv_uuid", "vg_lock_type", "vg_lock_args", "lv_lock_args",
	},
	"init_vg": {"pid", "vg_name", "vg_lock_type", "vg_lock_args", "40:set_lock_args", "40:align_mb", "opts"},
	"init_lv": {"pid", "vg_name", "lv_name", "lv_uuid", "40:prev_lv_args", "vg_lock_type", "vg_lock_args"},
	"free_vg": {"pid", "vg_name", "vg_lock_type", "vg_lock_args"},
	"busy_vg": {"pid", "vg_name", "vg_lock_type", "vg_lock_args"},
	"free_lv": {"pid", "vg_name", "lv_name", "lv_uuid", "vg_lock_type", "vg_lock_args", "lv_lock_args"},
	"start_vg": {
		"pid", "vg_name", "vg_lock_type", "vg_lock_args", "vg_uuid", "version", "host_id", "opts",
	},
	"stop_vg": {"pid", "vg_name"}, "start_wait": {"pid"}, "running_lm": {"pid"},
	"vg_update":        {"pid", "vg_name", "version"},
	"find_free_lock":   {"pid", "vg_name", "40:lv_size_bytes"},
	"rename_vg_before": {"pid", "vg_name", "vg_lock_type", "vg_lock_args"},
	"rename_vg_final":  {"pid", "vg_name", "vg_lock_type", "vg_lock_args"},
	"query_lock_lv": {
		"pid", "opts", "vg_name", "lv_name", "lv_uuid", "vg_lock_type", "vg_lock_args", "lv_lock_args",
	},
	"query_lock_vg": {"pid", "opts", "vg_name", "vg_lock_type", "vg_lock_args"},
	"refresh_lv":    {"pid", "opts", "lv_uuid", "path"}, "vg_status": {"pid", "vg_name"},
	"setlockargs_vg_before": {"pid", "vg_name", "vg_lock_type", "vg_lock_args", "set_lock_args"},
	"setlockargs_vg_final":  {"pid", "vg_name", "vg_lock_type", "vg_lock_args", "set_lock_args"},
	"set_remote_lv_lock":    {"cmd", "pid", "vg_name", "lv_uuid", "mode"},
	"enable_gl":             {"cmd", "pid", "vg_name"}, "disable_gl": {"cmd", "pid", "vg_name"},
	"kill_vg": {"cmd", "pid", "vg_name"}, "drop_vg": {"cmd", "pid", "vg_name"},
	"stop_all": {"cmd", "pid", "opts"},
}

// Append appends the message that a client of dialect d would send, its terminator included.
func (r Request) Append(dst []byte, d Dialect) []byte {
	keys, long := keysOf[r.Name]
	if !long {
		dst = append(dst, `request = `...)
		dst = appendQuoted(dst, r.Name)
		return append(dst, "\n"+terminator...)
	}
	if r.Name == "init_vg" && r.Type != Sanlock {
		keys = keys[:3] // the others have nothing to say about a disk
	}
	dst = append(dst, `request=`...)
	dst = appendQuoted(dst, r.Name)
	for _, key := range keys {
		if newer, ok := cutNewer(key); ok {
			if d != Dialect40 {
				continue
			}
			key = newer
		}
		// The formatter of the commands keeps the blank before "=" as part of the key.
		dst = append(dst, '\n')
		dst = append(dst, key...)
		dst = append(dst, " ="...)
		dst = r.appendValue(dst, key)
	}
	return append(dst, "\n"+terminator...)
}

func cutNewer(key string) (string, bool) {
	const mark = "40:"
	if len(key) > len(mark) && key[:len(mark)] == mark {
		return key[len(mark):], true
	}
	return key, false
}

// appendValue appends a value as its kind is written.
func (r *Request) appendValue(dst []byte, key string) []byte {
	switch key {
	case "pid":
		return strconv.AppendInt(dst, int64(r.PID), 10)
	case "version":
		return strconv.AppendInt(dst, r.Version, 10)
	case "host_id":
		return strconv.AppendInt(dst, r.HostID, 10)
	case "lv_size_bytes":
		return strconv.AppendInt(dst, r.LVSize, 10)
	case "align_mb":
		return strconv.AppendInt(dst, r.AlignMB, 10)
	}
	text := map[string]string{
		"cmd": r.Cmd, "mode": r.Mode.String(), "opts": r.Opts, "vg_name": r.VGName, "lv_name": r.LVName,
		"lv_uuid": r.LVUUID, "vg_uuid": r.VGUUID, "vg_lock_type": r.Type.String(), "vg_lock_args": r.VGArgs,
		"lv_lock_args": r.LVArgs, "path": r.Path, "prev_lv_args": r.PrevLVArgs, "set_lock_args": r.SetArgs,
	}[key]
	if text == "" {
		text = none
	}
	return appendQuoted(dst, text)
}

// appendQuoted writes a string as a client does, with \" and \\.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}
