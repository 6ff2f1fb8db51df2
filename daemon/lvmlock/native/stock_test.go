package native

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/tools/need"
)

// stock is a host with Debian's sanlock and Debian's lvmlockd, in a mount namespace of its own where /dev/mapper has
// the lock LVs that it is given.
type stock struct {
	dir  string
	cmd  *exec.Cmd
	conn net.Conn // to lvmlockd
}

// stockScript starts both. A lock LV is a device node with the number of the loop device it stands for.
const stockScript = `set -e
cd "$1"
mkdir dev
mount -t tmpfs none dev
mkdir dev/mapper dev/shm
mount --bind /dev/shm dev/shm
mount --rbind dev /dev
mknod -m 666 /dev/null c 1 3; mknod /dev/zero c 1 5; mknod /dev/random c 1 8; mknod /dev/urandom c 1 9
shift
while [ $# -gt 0 ]; do mknod "/dev/mapper/$1" b "$2" "$3"; shift 3; done
setpriv --pdeathsig KILL sanlock daemon -D -w 0 -h 0 -l 0 -e stock >sanlock.log 2>&1 &
i=0
while [ ! -S run/sanlock.sock ]; do i=$((i+1)); [ $i -lt 200 ]; sleep 0.05; done
exec lvmlockd -D -o 1 -p pid -s socket --adopt-file adopt >lvmlockd.log 2>&1
`

// startStock runs such a host. nodes are loop devices by the VG whose lock LV they are.
func startStock(t *testing.T, nodes map[string]string) *stock {
	t.Helper()
	need.Root(t)
	need.Program(t, "sanlock")
	need.Program(t, "lvmlockd")
	need.Program(t, "setpriv")
	s := &stock{dir: t.TempDir()}
	args := []string{"-c", stockScript, "stock", s.dir}
	for vg, dev := range nodes {
		var st syscall.Stat_t
		if err := syscall.Stat(dev, &st); err != nil {
			t.Fatal(err)
		}
		args = append(args, deviceName(vg, "lvmlock"), strconv.Itoa(int(st.Rdev>>8)), strconv.Itoa(int(st.Rdev&0xff)))
	}
	s.cmd = exec.Command("sh", args...)
	s.cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SANLOCK_RUN_DIR="+s.dir+"/run",
		"SANLOCK_PRIVILEGED=0")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"lvmlockd.log", "sanlock.log"} {
				text, _ := os.ReadFile(filepath.Join(s.dir, name))
				t.Logf("%s:\n%s", name, text[max(0, len(text)-3000):])
			}
		}
		_ = s.cmd.Process.Kill() // sanlock goes with its parent
		_ = s.cmd.Wait()
	})
	var err error
	for deadline := time.Now().Add(startWait); ; time.Sleep(pollEvery) {
		if s.conn, err = net.Dial("unix", filepath.Join(s.dir, "socket")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { s.conn.Close() })
	return s
}

// ask sends a request of "key value" pairs and returns op_result and lv_lock_args.
func (s *stock) ask(t *testing.T, name string, pairs ...string) (result int, args string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "request=%q\ncmd =\"test\"\npid =1\n", name)
	for i := 0; i < len(pairs); i += 2 {
		if _, err := strconv.Atoi(pairs[i+1]); err == nil {
			fmt.Fprintf(&b, "%s =%s\n", pairs[i], pairs[i+1])
		} else {
			fmt.Fprintf(&b, "%s =%q\n", pairs[i], pairs[i+1])
		}
	}
	b.WriteString("\n##\n")
	if err := s.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.Write([]byte(b.String())); err != nil {
		t.Fatal(err)
	}
	var reply []byte
	for p := make([]byte, 4096); !bytes.HasSuffix(reply, []byte("\n##\n")); {
		n, err := s.conn.Read(p)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		reply = append(reply, p[:n]...)
	}
	result = 1
	for line := range strings.Lines(string(reply)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		switch key {
		case "op_result":
			result, _ = strconv.Atoi(value)
		case "lv_lock_args":
			args = strings.Trim(value, `"`)
		}
	}
	return result, args
}

// want asks, and wants a result.
func (s *stock) want(t *testing.T, want lvmwire.Result, name string, pairs ...string) string {
	t.Helper()
	result, args := s.ask(t, name, pairs...)
	if result != int(want) {
		t.Errorf("stock's lvmlockd: %s %q: result %d, want %d", name, pairs, result, want)
	}
	return args
}

func (s *stock) start(t *testing.T, vg string, id int) {
	t.Helper()
	s.want(t, lvmwire.OK, "start_vg", "vg_name", vg, "vg_lock_type", "sanlock", "vg_lock_args", "1.0.0:lvmlock",
		"vg_uuid", uuid(0), "version", "3", "host_id", strconv.Itoa(id), "opts", "wait")
}

func (s *stock) lockVG(t *testing.T, want lvmwire.Result, vg, mode string) {
	t.Helper()
	s.want(t, want, "lock_vg", "vg_name", vg, "mode", mode, "opts", "none")
}

func (s *stock) lockLV(t *testing.T, want lvmwire.Result, vg string, lv lvmlock.Resource, mode string) {
	t.Helper()
	s.want(t, want, "lock_lv", "vg_name", vg, "vg_lock_type", "sanlock", "vg_lock_args", "1.0.0:lvmlock",
		"lv_name", "lv", "lv_uuid", lv.Name, "lv_lock_args", lv.Args, "mode", mode, "opts", "persistent")
}

// loops makes loop devices that a host of ours finds as lock LVs.
func loops(t *testing.T, sector int, size int64, vgs ...string) (dir string, nodes map[string]string) {
	t.Helper()
	dir, nodes = t.TempDir(), map[string]string{}
	for _, vg := range vgs {
		nodes[vg] = need.Loop(t, sector, size)
		if err := os.Symlink(nodes[vg], filepath.Join(dir, deviceName(vg, "lvmlock"))); err != nil {
			t.Fatal(err)
		}
	}
	return dir, nodes
}

// TestFormatsAsStock: a lock LV has, byte for byte, what Debian's lvmlockd writes on it, but for the order.
func TestFormatsAsStock(t *testing.T) {
	t.Parallel()
	for _, l := range []layout{{512, mib}, {4096, 8 * mib}} {
		size := l.at(firstLVSlot + 3)
		_, theirs := loops(t, int(l.sector), size, "vg-1")
		dir, ours := loops(t, int(l.sector), size, "vg-1")
		s := startStock(t, theirs)
		for _, global := range []bool{true, false} {
			opts := map[bool]string{true: "enable", false: "disable"}[global]
			s.want(t, lvmwire.OK, "init_vg", "vg_name", "vg-1", "vg_lock_type", "sanlock", "vg_lock_args", "lvmlock",
				"opts", opts)
			start(t, tenure, 1, dir).format(t, "vg-1", global)
			if diff := sameBytes(t, theirs["vg-1"], ours["vg-1"], l.align); diff != "" {
				t.Errorf("sectors of %d, global lock %t: stock's and ours: %s", l.sector, global, diff)
			}
		}
	}
}

// sameBytes compares two devices slot by slot and says where they differ first.
func sameBytes(t *testing.T, a, b string, slot int64) string {
	t.Helper()
	var disks [2]*os.File
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		disks[i] = f
	}
	one, two := make([]byte, slot), make([]byte, slot)
	for n := 0; ; n++ {
		_, err := io.ReadFull(disks[0], one)
		if errors.Is(err, io.EOF) && n > firstLVSlot {
			return ""
		}
		if _, err2 := io.ReadFull(disks[1], two); err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if bytes.Equal(one, two) {
			continue
		}
		for off := range one {
			if one[off] != two[off] {
				return fmt.Sprintf("byte %d of slot %d is %#x and %#x", off, n, one[off], two[off])
			}
		}
	}
}

// TestBesideStock: a host of ours and one with Debian's lvmlockd and sanlock share a VG.
func TestBesideStock(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir, nodes := loops(t, 512, 80*mib, "vg")
	theirs := startStock(t, nodes)
	ours := start(t, tenure, 1, dir)
	theirs.want(t, lvmwire.OK, "init_vg", "vg_name", "vg", "vg_lock_type", "sanlock", "vg_lock_args", "lvmlock",
		"opts", "enable")
	s := ours.join(t, "vg")
	theirs.start(t, "vg", 2)
	meet(t, s)

	theirs.lockVG(t, lvmwire.OK, "vg", "ex")
	_, err := s.Lock(ctx, groupLock, lvmwire.SH, lvmlock.LockOptions{})
	e := wantResult(t, "lock the VG that stock holds", err, lvmwire.Again)
	if e.Owner.HostID != 2 || e.Owner.Name != "stock" || e.Owner.State != "LIVE" || e.Wait == 0 {
		t.Errorf("owner %+v, wait %d s", e.Owner, e.Wait)
	}
	theirs.want(t, lvmwire.OK, "vg_update", "vg_name", "vg", "version", "17")
	theirs.lockVG(t, lvmwire.OK, "vg", "un")
	if v := mustLock(t, s, groupLock, lvmwire.EX); v != (lvmlock.Value{Version: 17, Set: true}) {
		t.Errorf("value %+v of what stock wrote", v)
	}
	theirs.lockVG(t, lvmwire.Again, "vg", "ex")
	mustUnlock(t, s, groupLock, lvmwire.EX, &lvmlock.Value{Version: 18})
	theirs.lockVG(t, lvmwire.OK, "vg", "ex") // it refuses values that it does not understand
	theirs.want(t, lvmwire.OK, "vg_update", "vg_name", "vg", "version", "19")
	theirs.lockVG(t, lvmwire.OK, "vg", "un")
	if v := mustLock(t, s, groupLock, lvmwire.SH); v.Version != 19 {
		t.Errorf("value %+v of what stock wrote", v)
	}
	theirs.lockVG(t, lvmwire.OK, "vg", "sh")
	theirs.lockVG(t, lvmwire.OK, "vg", "un")
	mustUnlock(t, s, groupLock, lvmwire.SH, nil)
	sharedLVs(t, ours, s, theirs)

	theirs.want(t, lvmwire.Busy, "busy_vg", "vg_name", "vg")
	if err := s.SetGlobal(ctx, false); err != nil {
		t.Error(err)
	}
	theirs.want(t, lvmwire.NoLockspace, "lock_gl", "mode", "ex", "opts", "none", "vg_lock_type", "none")
	if err := s.SetGlobal(ctx, true); err != nil {
		t.Error(err)
	}
	theirs.want(t, lvmwire.OK, "lock_gl", "mode", "ex", "opts", "none", "vg_lock_type", "none")
	_, err = s.Lock(ctx, globalLock, lvmwire.EX, lvmlock.LockOptions{})
	wantResult(t, "the global lock that stock holds", err, lvmwire.Again)
	theirs.want(t, lvmwire.OK, "lock_gl", "mode", "un", "opts", "none", "vg_lock_type", "none")
	if v := mustLock(t, s, globalLock, lvmwire.EX); !v.Set || v.Version == 0 {
		t.Errorf("value %+v of the global lock that stock had", v)
	}
	if err := s.Leave(ctx, false); err != nil {
		t.Error(err)
	}
}

// sharedLVs lets both hosts allocate, lock and free LVs.
func sharedLVs(t *testing.T, ours *host, s *space, theirs *stock) {
	t.Helper()
	ctx := t.Context()
	ours.initLV(t, s, 1, 67)
	theirs.want(t, lvmwire.OK, "find_free_lock", "vg_name", "vg")
	args := theirs.want(t, lvmwire.OK, "init_lv", "vg_name", "vg", "vg_lock_type", "sanlock",
		"vg_lock_args", "1.0.0:lvmlock", "lv_name", "lv", "lv_uuid", uuid(2))
	if args != at(68) {
		t.Errorf("stock put LV 2 at %s", args)
	}
	ours.initLV(t, s, 3, 69)
	for i, slot := range map[int]int64{1: 67, 2: 68} {
		lv := lvAt(i, slot)
		mustLock(t, s, lv, lvmwire.EX)
		theirs.lockLV(t, lvmwire.Again, "vg", lv, "ex")
		if err := s.Convert(ctx, lv, lvmwire.EX, lvmwire.SH, nil); err != nil {
			t.Error(err)
		}
		theirs.lockLV(t, lvmwire.OK, "vg", lv, "sh")
		wantResult(t, "convert what both share", s.Convert(ctx, lv, lvmwire.SH, lvmwire.EX, nil), lvmwire.Again)
		mustUnlock(t, s, lv, lvmwire.SH, nil)
		theirs.lockLV(t, lvmwire.OK, "vg", lv, "ex")
		_, err := s.Lock(ctx, lv, lvmwire.SH, lvmlock.LockOptions{})
		wantResult(t, "an LV that stock holds", err, lvmwire.Again)
		theirs.lockLV(t, lvmwire.OK, "vg", lv, "un")
	}
	theirs.want(t, lvmwire.OK, "free_lv", "vg_name", "vg", "vg_lock_type", "sanlock", "vg_lock_args", "1.0.0:lvmlock",
		"lv_name", "lv", "lv_uuid", uuid(2), "lv_lock_args", at(68))
	if err := s.FreeLV(ctx, lvAt(1, 67)); err != nil {
		t.Error(err)
	}
	ours.initLV(t, s, 4, 67)
}
