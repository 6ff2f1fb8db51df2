package lvmlock_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// restarted is a host whose daemon died and left locks: u1 in EX, u2 in SH, the VG's lock in EX and the
// global lock.
func restarted(t *testing.T, typ lvmwire.LockType) (m *hooked, file string) {
	t.Helper()
	m = newHooked(typ)
	h := newHost(t, m)
	h.start(1, "vg", typ.String())
	h.start(1, "idle", typ.String())
	for _, ask := range []string{
		lv("vg", "u1", "ex", "persistent"), lv("vg", "u2", "sh", "persistent"), "lock_vg vg_name=vg mode=ex",
		"lock_gl mode=sh vg_lock_type=none",
	} {
		h.want(1, ask, "0 "+typ.String())
	}
	<-h.engine.Changed()
	file = string(h.engine.AdoptText())
	h.engine.Close()
	return m, file
}

// anew is the host with a new daemon.
func anew(t *testing.T, m *hooked, active ...string) *host {
	return newHost(t, m, func(c *lvmlock.Config) {
		c.Adopt = true
		c.Active = func(context.Context) ([]string, error) { return active, nil }
	})
}

const activeU1, activeU2 = "LVM-uuidvgu1", "LVM-uuidvgu2-tpool"

func TestAdopt(t *testing.T) {
	for _, typ := range []lvmwire.LockType{lvmwire.Sanlock, lvmwire.DLM} {
		bubble(t, func(t *testing.T) {
			m, file := restarted(t, typ)
			other := newHost(t, m.Host(2))
			name := typ.String()
			h := anew(t, m, activeU1, activeU2)
			other.start(1, "vg", name)
			other.want(1, lv("vg", "u1", "ex", "persistent"), "-11 "+name)

			h.want(1, "lock_vg vg_name=vg mode=sh", "-211")
			release := m.hold("lock u2")
			done := make(chan error, 1)
			go func() { done <- h.engine.Adopt(t.Context(), []byte(file)) }()
			synctest.Wait()
			h.want(1, lv("vg", "u1", "ex", "persistent"), "-211 "+name)
			h.want(1, "lock_vg vg_name=idle mode=ex", "0 "+name)
			h.want(1, "lock_vg vg_name=idle mode=un", "0 "+name)
			if r := h.ask(1, "lock_vg vg_name=unknown mode=sh"); r.Result != lvmwire.NoLockspace {
				t.Errorf("a VG that has nothing to do with it: %d", r.Result)
			}
			release()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			h.want(1, "query_lock_lv vg_name=vg lv_uuid=u1", "0 "+name+" mode=ex")
			h.want(1, "query_lock_lv vg_name=vg lv_uuid=u2", "0 "+name+" mode=sh")
			other.want(1, "lock_vg vg_name=vg mode=ex", "0 "+name)
			other.want(1, "lock_vg vg_name=vg mode=un", "0 "+name)
			other.want(1, "lock_gl mode=ex vg_lock_type=none", "0 "+name)
			other.want(1, lv("vg", "u1", "ex", "persistent"), "-11 "+name)
			h.want(1, lv("vg", "u1", "un", "persistent"), "0 "+name)
			other.want(1, lv("vg", "u1", "ex", "persistent"), "0 "+name)
			h.want(1, "stop_vg vg_name=vg", "-16")
		})
	}
}

func TestAdoptOtherMode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m, file := restarted(t, lvmwire.Sanlock)
		file = strings.Replace(file, "1.0.0:70254592 ex 0", "1.0.0:70254592 sh 0", 1)
		h := anew(t, m, activeU1, activeU2)
		if err := h.engine.Adopt(t.Context(), []byte(file)); err != nil {
			t.Fatal(err)
		}
		h.want(1, "query_lock_lv vg_name=vg lv_uuid=u1", "0 sanlock mode=ex")
	})
}

func TestAdoptStale(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m, file := restarted(t, lvmwire.Sanlock)
		uuid := strings.Repeat(" ", 38-len("uuid-vg")) + "uuid-vg"
		file += "# a comment, as an administrator may make\n"
		file += "LV: " + uuid + " u9 1.0.0:72351744 ex 0\n" // not active any more
		file += "VG: " + strings.Repeat(" ", 33) + "other other sanlock 1.0.0:lvmlock\n"
		h := anew(t, m, activeU1, activeU2)
		if err := h.engine.Adopt(t.Context(), []byte(file)); err != nil {
			t.Error(err)
		}
		h.want(1, "query_lock_lv vg_name=vg lv_uuid=u1", "0 sanlock mode=ex")
		h.want(1, "lock_vg vg_name=other mode=sh", "-210")
	})
}

func TestAdoptFails(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *hooked, file string) string
		want   string
		after  string // of query_lock_lv u1
	}{
		"no orphan": {func(m *hooked, file string) string {
			m.fail("lock u1", lvmwire.AdoptNone)
			return file
		}, "lv lock u1: result -223", "0 sanlock mode=un"},
		"join": {func(m *hooked, file string) string {
			m.fail("join lvm_vg", lvmwire.ManagerError)
			return file
		}, "join lvm_vg: result -221", "-210 mode=iv"},
		"VG lock": {func(m *hooked, file string) string {
			m.fail("lock VGLK", lvmwire.LockIO)
			return file
		}, "vg lock : result -218", "0 sanlock mode=ex"},
		"no lockspace": {func(m *hooked, file string) string {
			return strings.NewReplacer(" vg sanlock", " gone sanlock").Replace(file)
		}, "VG gone has 2 active LVs but no lockspace", "-210 mode=iv"},
		"version": {func(m *hooked, file string) string {
			return strings.Replace(file, "adopt_version 1.0", "adopt_version 2.0", 1)
		}, "version 2.0", "-210 mode=iv"},
		"garbage": {func(m *hooked, file string) string { return file + "LV: x\n" }, "line 8", "-210 mode=iv"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m, file := restarted(t, lvmwire.Sanlock)
				h := anew(t, m, activeU1, activeU2)
				err := h.engine.Adopt(t.Context(), []byte(c.change(m, file)))
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("adopt: %v, want %q", err, c.want)
				}
				if !strings.Contains(h.log.String(), "adopt_locks failed, reset host") {
					t.Error("nothing in the log")
				}
				kept := strings.Contains(string(h.engine.AdoptText()), " u1 1.0.0:70254592 ex 0\n")
				if want := name != "version" && name != "garbage"; kept != want {
					t.Errorf("u1 is in the adopt file: %v, want %v", kept, want)
				}
				if got := say(h.ask(1, "query_lock_lv vg_name=vg lv_uuid=u1")); got != c.after {
					t.Errorf("u1 afterwards: %q, want %q", got, c.after)
				}
			})
		})
	}
}

func TestAdoptNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := anew(t, newHooked(lvmwire.Sanlock))
		if err := h.engine.Adopt(t.Context(), []byte("nonsense")); err != nil {
			t.Errorf("no lockspace is joined: the file does not matter: %v", err)
		}
		if err := h.engine.Adopt(t.Context(), nil); err == nil {
			t.Error("a second adoption went well")
		}
	})
}

// TestStartWhileDiscovering asks for a VG before it is known whether it will be adopted.
func TestStartWhileDiscovering(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m, file := restarted(t, lvmwire.Sanlock)
		h := anew(t, m, activeU1, activeU2)
		h.send(1, "start_vg vg_name=vg vg_lock_type=sanlock vg_lock_args=1.0.0:lvmlock vg_uuid=uuid-vg host_id=1")
		h.want(2, "lock_gl mode=sh vg_lock_type=none", "-211")
		if err := h.engine.Adopt(t.Context(), []byte(file)); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := strings.Join(h.heard(), ","); got != "1 start_vg: -211 sanlock" && got != "1 start_vg: -17 sanlock" {
			t.Errorf("start_vg of an adopted VG: %q", got)
		}
	})
}

func TestAdoptCommands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m, _ := restarted(t, lvmwire.Sanlock)
		h := newHost(t, m)
		start := "start_vg vg_name=%s vg_lock_type=sanlock vg_lock_args=1.0.0:lvmlock host_id=1 opts="
		h.want(1, strings.Replace(start, "%s", "vg", 1)+"none", "0 sanlock")
		h.want(1, "start_wait", "-17")
		h.want(1, strings.Replace(start, "%s", "fresh", 1)+"adopt_only,", "0 sanlock")
		h.want(1, "start_wait", "-223")
		h.want(1, strings.Replace(start, "%s", "vg", 1)+"adopt_only,", "0 sanlock")
		h.want(1, "start_wait", "0")
		h.want(1, lv("vg", "u1", "ex", "persistent,"), "-222 sanlock")
		h.want(1, lv("vg", "u1", "sh", "persistent,adopt_only"), "-224 sanlock")
		h.want(1, lv("vg", "u1", "ex", "persistent,adopt_only"), "0 sanlock")
		h.want(1, lv("vg", "u8", "ex", "persistent,adopt_only"), "-223 sanlock")
		h.want(1, "lock_vg vg_name=vg mode=ex opts=adopt", "0 sanlock")
		h.want(1, lv("vg", "u1", "un", "persistent"), "0 sanlock")
		h.want(1, "stop_vg vg_name=vg", "-16") // u2 is an orphan
		h.want(1, lv("vg", "u2", "sh", "persistent,adopt"), "0 sanlock")
		h.want(1, lv("vg", "u2", "un", "persistent,adopt"), "0 sanlock")
	})
}

// TestAdoptText holds the text beside stock's files, byte for byte but for our own comments and the first
// line's numbers.
func TestAdoptText(t *testing.T) {
	for _, name := range []string{"sanlock-16", "dlm-16", "sanlock-40"} {
		bubble(t, func(t *testing.T) {
			file, err := os.ReadFile(filepath.Join("testdata", "adopt", name))
			if err != nil {
				t.Fatal(err)
			}
			typ := lvmwire.Sanlock
			if strings.HasPrefix(name, "dlm") {
				typ = lvmwire.DLM
			}
			h := newHost(t, newHooked(typ))
			var lines, want []string
			vgs := map[string]string{}
			for line := range strings.Lines(string(file)) {
				w := strings.Fields(line)
				switch w[0] {
				case "VG:":
					vgs[w[1]] = w[2]
					h.want(1, "start_vg opts=wait host_id=1 vg_uuid="+w[1]+" vg_name="+w[2]+" vg_lock_type="+w[3]+
						" vg_lock_args="+w[4], "0 "+typ.String())
				case "LV:":
					h.want(1, "lock_lv opts=persistent vg_name="+vgs[w[1]]+" lv_uuid="+w[2]+" lv_lock_args="+w[3]+
						" mode="+w[4], "0 "+typ.String())
				default:
					continue
				}
				want = append(want, line)
			}
			for i, line := range strings.SplitAfter(string(h.engine.AdoptText()), "\n") {
				if i > 0 && line != "" && !strings.HasPrefix(line, "#") {
					lines = append(lines, line)
				}
			}
			slices.Sort(lines) // stock has its locks in no order
			slices.Sort(want)
			if got, want := strings.Join(lines, ""), strings.Join(want, ""); got != want {
				t.Errorf("%s: got\n%swant\n%s", name, got, want)
			}
		})
	}
}

func TestActiveUUIDs(t *testing.T) {
	dir := t.TempDir()
	for dev, uuid := range map[string]string{"dm-0": "LVM-abc-tpool\n", "dm-1": "CRYPT-x\n"} {
		if err := os.MkdirAll(filepath.Join(dir, "block", dev, "dm"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "block", dev, "dm", "uuid"), []byte(uuid), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := lvmlock.ActiveUUIDs(dir)
	if err != nil || strings.Join(got, " ") != "LVM-abc-tpool CRYPT-x" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := lvmlock.ActiveUUIDs(filepath.Join(dir, "none")); err != nil || len(got) != 0 {
		t.Errorf("without device-mapper: %q, %v", got, err)
	}
}

// TestAdoptGlobalAlone finds only the lockspace of dlm's global lock, in which a command of the earlier
// daemon died.
func TestAdoptGlobalAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.DLM)
		first := newHost(t, m)
		first.want(1, "lock_gl mode=ex vg_lock_type=none", "0 dlm")
		first.engine.Close()
		h := anew(t, m)
		if err := h.engine.Adopt(t.Context(), nil); err != nil {
			t.Error(err)
		}
		h.want(1, "lock_gl mode=ex vg_lock_type=none", "0 dlm")
		other := newHost(t, m.Host(2))
		other.want(1, "lock_gl mode=ex vg_lock_type=none", "-11 dlm")
	})
}
