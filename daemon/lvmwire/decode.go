package lvmwire

import "math"

// Bounds of what a request carries.
const (
	// maxName is how many bytes of arguments, of a UUID and of a command's name count; the rest is cut off, as stock
	// does.
	maxName = 64
	// maxLVMName is how many bytes the name of a VG or an LV has at most. Stock cuts off these too, and
	// then does not find them.
	maxLVMName = 127
	// maxPath is how many bytes of a path count: Linux has no longer ones.
	maxPath = 4096
	// defaultRetries is how often a lock that somebody holds is tried again.
	defaultRetries = 4
	// maxRetries bounds what a client may ask for instead, one a second. No command asks.
	maxRetries = 600
)

// Decode reads a request's body (spec lvmlockd 2.2). A name that is not known, or none, is no error and has Op 0;
// a body that is no text of this protocol is a *SyntaxError.
func Decode(body []byte) (Request, error) {
	f, err := parseText(body)
	if err != nil {
		return Request{}, err
	}
	r := Request{Name: f["request"].text, Cmd: cut(f.str("cmd"), maxName), PID: clampInt(f.num("pid", 0))}
	k := requests[r.Name]
	r.Op, r.Kind = k.op, k.kind
	r.Mode = ParseMode(f["mode"].text)
	r.Opts = f.str("opts")
	r.Options = ParseOpts(r.Opts)
	for key, to := range map[string]*string{
		"lv_uuid": &r.LVUUID, "vg_uuid": &r.VGUUID, "vg_sysid": &r.VGSysID,
		"vg_lock_args": &r.VGArgs, "lv_lock_args": &r.LVArgs, "prev_lv_args": &r.PrevLVArgs, "set_lock_args": &r.SetArgs,
	} {
		*to = cut(f.str(key), maxName)
	}
	r.VGName, r.LVName = cut(f.str("vg_name"), maxLVMName), cut(f.str("lv_name"), maxLVMName)
	r.Type = ParseLockType(f["vg_lock_type"].text)
	r.Version = f.num("version", 0)
	r.HostID = f.num("host_id", 0)
	r.MaxRetries = int(min(max(f.num("max_retries", defaultRetries), 0), maxRetries))
	r.Path = cut(f.str("path"), maxPath)
	r.LVSize = f.num("lv_size_bytes", 0)
	r.AlignMB = f.num("align_mb", 0)
	return r, nil
}

func cut(s string, n int) string { return s[:min(len(s), n)] }

func clampInt(n int64) int { return int(min(max(n, math.MinInt32), math.MaxInt32)) }
