package lvmlockd

import (
	"strings"
	"testing"
	"time"
)

// names are those of all requests, and some of none (spec lvmlockd 2.1).
const names = "hello quit info dump init_vg init_lv free_vg free_lv busy_vg start_vg stop_vg lock_gl lock_vg lock_lv vg_update " +
	"enable_gl disable_gl start_wait stop_all rename_vg_before rename_vg_final running_lm find_free_lock kill_vg drop_vg " +
	"query_lock_vg query_lock_lv refresh_lv vg_status setlockargs_vg_before setlockargs_vg_final set_remote_lv_lock " +
	"lock lock_pv unlock_vg LOCK_VG close fence nosuch"

// oddities are what may be wrong with a request, or new to us.
var oddities = []string{
	"", "vg_name=none", "vg_name=nosuch", "vg_name=t1", "vg_name=t1 mode=nl", "vg_name=t1 mode=iv", "vg_name=t1 mode=%3",
	"vg_name=t1 mode=un", "vg_name=%1 mode=ex", "vg_name=t1 lv_uuid=U mode=pw", "vg_name=t1 lv_uuid=U mode=sh",
	"vg_name=t1 lv_uuid=U lv_name=l mode=un opts=unlock_cancel", "vg_name=t1 vg_lock_type=nosuch", "vg_name=t1 vg_lock_type=idm",
	"vg_name=t1 vg_lock_type=sanlock lv_uuid=U mode=ex", "vg_name=t1 vg_lock_type=dlm vg_lock_args=9.9.9:no set_lock_args=x",
	"vg_name=t1 version=%-1 host_id=%-1 pid=%-1 max_retries=%-1", "vg_name=t1 version=x host_id=x pid=x max_retries=x mode=ex",
	"vg_name=t1 opts=wait", "vg_name=new vg_lock_type=dlm opts=wait", "vg_name=t1 opts=nosuch,newer mode=ex lv_uuid=V",
	"path=/dev//t1/l lv_uuid=U", "path=/ lv_uuid=U", "path_num=%3 lv_uuid=U vg_name=t1 mode=ex", "future=thing",
}

// TestEverythingIsAnswered: LVM's commands wait for an answer without a limit, so each request gets one, and the
// connection can be used on.
func TestEverythingIsAnswered(t *testing.T) {
	for _, odd := range oddities {
		t.Run(odd, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for name := range strings.FieldsSeq(names) {
				p := r.dial()
				p.want("hello", 0)
				p.startAgain("t1")
				p.send(name + " " + odd)
				if a := p.read(); !strings.HasPrefix(a, "response = \"OK\"\n") {
					t.Errorf("%s %s: %q", name, odd, a)
				}
				p.want("running_lm pid=%1", 2)
				p.conn.Close()
			}
		})
	}
}

// startAgain starts a VG that may be started, or going away.
func (p *peer) startAgain(name string) {
	p.tb.Helper()
	start := "start_vg pid=%1 vg_name=" + name + " vg_lock_type=dlm vg_lock_args=1.0.0:test vg_uuid=u version=%1 opts=wait"
	eventually(p.tb, "start "+name, func() bool {
		result := p.ask(start).Result
		return result == 0 || result == -17
	})
}

// TestPiecesAreAnswered: a message that cannot be read is answered, and so is one that comes in pieces, once its end is
// there. What comes behind it is the next.
func TestPiecesAreAnswered(t *testing.T) {
	r := newRig(t)
	p := r.dial()
	for _, whole := range []string{
		"\n##\n", "\x00\n##\n", "request\n##\n", "request=\n##\n", "request=\"lock_vg\n##\n", "{{{{\n##\n", "request=[1,2]\n##\n",
		"request=\"lock_vg\" mode=\"ex\" vg_na\n##\n", strings.Repeat("=", 70000) + "\n##\n",
	} {
		half := len(whole) / 2
		p.write(whole[:half])
		if a, err := p.next(10 * time.Millisecond); err == nil {
			t.Errorf("half of %.40q is answered %q", whole, a)
		}
		p.write(whole[half:])
		if a := p.read(); !strings.Contains(a, "op_result = -22\n") {
			t.Errorf("%.40q: %q", whole, a)
		}
	}
	p.want("running_lm pid=%1", 2)
}
