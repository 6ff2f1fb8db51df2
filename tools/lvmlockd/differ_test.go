package lvmlockd

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// besideStock runs f with Debian's lvmlockd --test and ours, for each lock type.
func besideStock(t *testing.T, f func(p *pair)) {
	t.Helper()
	if !apart(t) {
		return
	}
	t.Run("types", func(t *testing.T) {
		for _, gl := range []string{"dlm", "sanlock"} {
			t.Run(gl, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, gl)
				f(p)
				t.Logf("%d answers and states were compared", p.compared)
				if p.compared < 40 {
					t.Errorf("only %d comparisons", p.compared)
				}
			})
		}
	})
}

// start joins a VG's lockspace on connection 0.
func (p *pair) start(vg string) {
	p.t.Helper()
	p.wait(0, fmt.Sprintf("start_vg vg_name=%s vg_lock_type=%s vg_lock_args=1.0.0:lvmlock vg_uuid=u%s version=3 host_id=1",
		vg, p.gl, vg))
	p.wait(0, "start_wait")
	p.settled()
}

// sweep asks everything that a started VG is asked, in every mode and of every lock type. What the two do not have in
// common is left out: see COMPATIBILITY.md.
func (p *pair) sweep(vg string) {
	p.t.Helper()
	for _, name := range []string{
		"lock_gl", "lock_vg", "lock_lv", "vg_update", "find_free_lock", "busy_vg", "query_lock_vg", "query_lock_lv",
		"enable_gl", "init_lv", "init_vg", "running_lm", "start_wait",
	} {
		modes := []string{""}
		if strings.HasPrefix(name, "lock_") {
			modes = []string{"", "mode=un", "mode=nl", "mode=sh", "mode=ex", "mode=zz", "mode=ex", "mode=un"}
		}
		for _, typ := range []string{"none", "dlm", "sanlock", "idm", "nosuch"} {
			for _, mode := range modes {
				if name == "lock_gl" && mode == "mode=sh" && typ != p.gl {
					continue // ours answers what 2.03.16 can go on after
				}
				request := fmt.Sprintf("%s vg_name=%s lv_name=l lv_uuid=U1 vg_lock_type=%s version=5 "+
					"vg_lock_args=1.0.0:lvmlock cmd=x pid=1 opts=none", name, vg, typ)
				if name == "lock_lv" {
					request += " lv_lock_args=1.0.0:70254592"
				}
				p.wait(1, request+" "+mode)
			}
		}
	}
}

// TestEveryRequest asks all that there is to ask, of a VG that is not started, that is, and that was killed.
func TestEveryRequest(t *testing.T) {
	besideStock(t, func(p *pair) {
		p.start("t1")
		p.sweep("t2")
		p.settled()
		p.sweep("t1")
		p.settled()
		for _, typ := range []string{p.gl, "none", "nosuch", "idm"} {
			p.wait(0, "start_vg vg_name=t1 host_id=1 vg_lock_type="+typ)
		}
		for _, typ := range []string{"none", "nosuch", "idm"} {
			p.wait(0, "start_vg vg_name=t2 host_id=1 vg_lock_type="+typ)
			p.wait(0, "rename_vg_final vg_name=t2 vg_lock_type="+typ)
		}
		p.hangUp(1)
		p.wait(1, "kill_vg vg_name=t1")
		p.sweep("t1")
		p.settled()
		p.wait(1, "stop_vg vg_name=t1")
		p.settled()
	})
}

// TestGlobalLockMoves enables and disables the global lock in two VGs, and stops them.
func TestGlobalLockMoves(t *testing.T) {
	besideStock(t, func(p *pair) {
		p.start("t1")
		p.start("t2")
		for _, moves := range []string{
			"gl disable:t1 gl disable:t1 gl", "disable:t2 gl disable:t1 gl", "disable:t1 disable:t2 gl enable:t2 gl enable:t1",
			"enable:t1 gl", "disable:t1 enable:t1 gl", "disable:t1 enable:t2 gl stop:t2 gl", "stop:t1 enable:t2 gl",
			"stop:t1 gl enable:t2",
		} {
			for move := range strings.FieldsSeq(moves) {
				switch what, vg, _ := strings.Cut(move, ":"); what {
				case "gl":
					p.ask(1, "lock_gl mode=ex vg_lock_type="+p.gl)
					p.ask(1, "lock_gl mode=un")
				case "stop":
					p.wait(1, "stop_vg vg_name="+vg)
					p.settled()
				default:
					p.ask(1, what+"_gl vg_name="+vg)
				}
			}
			p.start("t1")
			p.start("t2")
		}
	})
}

// TestWaitingWhenKilled: a VG is killed while one command waits for another's lock. Stock goes on with it, and grants it a
// lock of the VG that has lost its storage; ours ends the wait.
func TestWaitingWhenKilled(t *testing.T) {
	if !apart(t) {
		return
	}
	const lock = "lock_lv vg_name=t1 vg_lock_type=dlm lv_uuid=U1 opts=none mode="
	p := newPair(t, "dlm")
	p.start("t1")
	for _, s := range []struct {
		*side
		atOnce, then string
	}{{p.stock, "", "op_result = 0"}, {p.ours, "op_result = -217", ""}} {
		hears := func(c int, request, want string) {
			t.Helper()
			if request != "" {
				s.client(c).say(t, message(request))
			}
			limit := patience
			if want == "" {
				limit = promptly
			}
			if got := s.client(c).hear(limit); !strings.Contains(got, want) || (got == "") != (want == "") {
				t.Errorf("%s after %q of %d hears %q, want %q", s.socket, request, c, got, want)
			}
		}
		hears(1, lock+"ex", "op_result = 0")
		hears(2, lock+"ex", "")
		hears(3, "kill_vg vg_name=t1", "op_result = 0")
		hears(2, "", s.atOnce)
		hears(1, lock+"un", "op_result = 0")
		hears(2, "", s.then)
	}
}

// number is a variable of the environment, or other.
func number(name string, other uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 32); err == nil {
		return n
	}
	return other
}

// dice makes up what commands may do.
type dice struct {
	*rand.Rand
	p *pair
}

func (d dice) of(choice ...string) string { return choice[d.IntN(len(choice))] }

// request is one of a command that locks.
func (d dice) request() string {
	vg := "vg_name=" + d.of("t1", "t1", "t1", "t2", "t3")
	typ := "vg_lock_type=" + d.of("none", d.p.gl, d.p.gl)
	lv := "lv_uuid=" + d.of("U1", "U2", "U3") + " lv_lock_args=1.0.0:70254592"
	mode := "mode=" + d.of("un", "un", "sh", "ex")
	switch n := d.IntN(100); {
	case n < 15:
		return strings.Join([]string{"lock_gl", mode, "vg_lock_type=" + d.p.gl}, " ")
	case n < 40:
		return strings.Join([]string{"lock_vg", mode, vg, typ}, " ")
	case n < 80:
		return strings.Join([]string{"lock_lv", mode, vg, typ, lv, "opts=" + d.of("none", "persistent", "persistent")}, " ")
	case n < 88:
		opts := "opts=" + d.of("none", "next_version")
		return strings.Join([]string{"vg_update", vg, opts, "version=" + strconv.Itoa(d.IntN(12))}, " ")
	case n < 94:
		return strings.Join([]string{"query_lock_lv", vg, lv, typ}, " ")
	default:
		return strings.Join([]string{d.of("query_lock_vg", "busy_vg", "find_free_lock"), vg, typ}, " ")
	}
}

// free is a connection that does not wait, -1 if all do.
func (d dice) free() int {
	clients := []int{1, 2, 3, 4}
	clients = slices.DeleteFunc(clients, d.p.waits)
	if len(clients) == 0 {
		return -1
	}
	return clients[d.IntN(len(clients))]
}

// TestCommandsAtRandom lets four connections do as they like, and end. Other seeds and more
// rounds come from the environment.
func TestCommandsAtRandom(t *testing.T) {
	first := number("TENURE_LVMLOCKD_SEED", 1)
	besideStock(t, func(p *pair) {
		p.start("t1")
		p.start("t2")
		rounds := number("TENURE_LVMLOCKD_ROUNDS", map[string]uint64{"dlm": 4, "sanlock": 1}[p.gl]) // 10 s each with sanlock
		for seed := first; seed < first+rounds; seed++ {
			p.said = append(p.said, fmt.Sprintf("seed %d", seed))
			d := dice{rand.New(rand.NewPCG(seed, seed)), p}
			for range 80 {
				c := d.free()
				if c < 0 {
					break
				}
				switch n := d.IntN(100); {
				case n < 7:
					p.hangUp(c)
					continue
				case n < 10: // t1 stays: ours keeps the global lock of dlm if it is held, when the last VG is stopped
					request := d.of("stop_vg", "stop_vg", "drop_vg", "kill_vg", "stop_vg opts=force")
					if request == "kill_vg" && p.awaited("t2") {
						request = "stop_vg" // see TestWaitingWhenKilled
					}
					p.wait(c, request+" vg_name=t2")
					p.settled()
				case n < 12:
					p.start("t2")
				case n < 24:
					p.settled()
				}
				p.ask(c, d.request())
			}
			// All goes, those first that are not waited for by anybody.
			for n := 0; len(p.ours.clients) > 1 && n < 100; n++ {
				if c := d.free(); c >= 0 {
					p.hangUp(c)
				}
			}
			p.wait(0, "stop_all opts=force")
			p.settled()
			p.start("t1")
			p.start("t2")
		}
	})
}
