package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// The size of the vglocks section: a VG whose locks fill their LV but for the last slot.
const (
	vgName   = "tenurebench"
	vgLVs    = 1000
	firstLV  = 67 // slots before it are the lockspace's and the VG's own
	lvRounds = 5  // each a lock and unlock of every tenth LV
	lvStep   = 10
	searches = 5
	mapper   = "/dev/mapper" // where Debian's lvmlockd looks for a VG's lock LV
)

// vglocksSection measures lvmlockd through its socket, over the sanlock of the same make: lock and unlock of LVs, and
// the search for the only free slot of a thousand.
func (b *bench) vglocksSection() (err error) {
	disk, err := b.newLoop("vglocks", (firstLV+vgLVs)*mib)
	if err != nil {
		return err
	}
	defer disk.close(&err)
	link := filepath.Join(mapper, vgName+"-lvmlock")
	if err := os.MkdirAll(mapper, 0o755); err != nil { //nolint:gosec // as udev makes it
		return err
	}
	if err := os.Symlink(disk.path, link); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	defer os.Remove(link)
	cycle, search := map[string]float64{}, map[string]float64{}
	for _, who := range []string{theirs, ours} {
		if cycle[who], search[who], err = b.vglocks(who); err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
	}
	b.report.atMost("vglocks", "lock and unlock of an LV over Debian's", cycle[ours]/cycle[theirs], limitLVLock)
	b.report.atLeast("vglocks", "Debian's search for a slot over ours", search[theirs]/search[ours], limitSearch)
	return err
}

// vglocks returns the medians of a lock and unlock, and of a search, in microseconds.
func (b *bench) vglocks(who string) (cycle, search float64, err error) {
	d, err := b.start(who, 1)
	if err != nil {
		return 0, 0, err
	}
	defer d.stop()
	l, err := b.startLockd(d)
	if err != nil {
		return 0, 0, err
	}
	defer l.stop()
	b.say("%s: a VG with %d LVs", who, vgLVs)
	args, err := l.fill()
	if err != nil {
		return 0, 0, err
	}
	b.say("%s: lock and unlock", who)
	var cycles, looks []float64
	for range lvRounds {
		for i := 0; i < vgLVs; i += lvStep {
			began := time.Now()
			for _, m := range []lvmwire.Mode{lvmwire.EX, lvmwire.UN} {
				if _, err := l.ask("lock_lv", i, args[i], m); err != nil {
					return 0, 0, err
				}
			}
			cycles = append(cycles, float64(time.Since(began).Microseconds()))
		}
	}
	// Debian's search begins at the slot that it found last, so one before that is found last of all.
	for i := vgLVs - 2; i >= vgLVs-1-searches; i-- {
		for _, q := range []struct {
			name string
			mode lvmwire.Mode
		}{{"lock_lv", lvmwire.EX}, {"lock_lv", lvmwire.UN}, {"free_lv", lvmwire.Invalid}} { // as lvremove does
			if _, err := l.ask(q.name, i, args[i], q.mode); err != nil {
				return 0, 0, err
			}
		}
		began := time.Now()
		if _, err := l.ask("find_free_lock", 0, "", lvmwire.Invalid); err != nil {
			return 0, 0, err
		}
		looks = append(looks, float64(time.Since(began).Microseconds()))
		a, err := l.ask("init_lv", i, "", lvmwire.Invalid)
		if err != nil {
			return 0, 0, err
		}
		if a.LVArgs != args[i] {
			return 0, 0, fmt.Errorf("the free slot is %s, found was %s", args[i], a.LVArgs)
		}
	}
	const s = "vglocks"
	cycle = b.report.add(s, "lock and unlock of an LV", who, "us", cycles)
	search = b.report.add(s, "search for the free slot of 1000", who, "us", looks)
	return cycle, search, nil
}

// lockd is a running lvmlockd and a connection to it.
type lockd struct {
	cmd      *exec.Cmd
	log      string
	conn     net.Conn
	messages *lvmwire.Reader
}

// startLockd runs the lvmlockd of a sanlock's make over it.
func (b *bench) startLockd(d *daemon) (*lockd, error) {
	dir := filepath.Dir(d.runDir)
	l := &lockd{log: filepath.Join(dir, "lvmlockd.log")}
	out, err := os.Create(l.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	l.cmd = exec.Command(filepath.Join(filepath.Dir(b.stock), "lvmlockd"))
	if d.who == ours {
		l.cmd = exec.Command(b.tenure)
	}
	socket := filepath.Join(dir, "lvmlockd.socket")
	l.cmd.Args = []string{
		"lvmlockd", "-f", "-s", socket, "-p", filepath.Join(dir, "lvmlockd.pid"),
		"--adopt-file", filepath.Join(dir, "adopt"), "-o", fmt.Sprint(ioTimeout), "--host-id=1",
	}
	l.cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+d.runDir)
	l.cmd.Stdout, l.cmd.Stderr = out, out
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startWait); ; time.Sleep(20 * time.Millisecond) {
		if l.conn, err = net.Dial("unix", socket); err == nil {
			l.messages = lvmwire.NewReader(l.conn)
			_, err = l.do(lvmwire.Request{Name: "hello"})
			return l, err
		}
		if time.Now().After(deadline) {
			l.stop()
			return nil, fmt.Errorf("lvmlockd of %s does not listen: %w", d.who, err)
		}
	}
}

func (l *lockd) stop() {
	if l.conn != nil {
		l.conn.Close()
	}
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait() // killed
}

// fill makes a VG whose LVs take all slots, and returns their lock args.
func (l *lockd) fill() ([]string, error) {
	for _, name := range []string{"init_vg", "start_vg", "start_wait", "find_free_lock"} {
		if _, err := l.ask(name, 0, "", lvmwire.Invalid); err != nil {
			return nil, err
		}
	}
	args := make([]string, vgLVs)
	for i := range args {
		for _, name := range []string{"find_free_lock", "init_lv"} {
			a, err := l.ask(name, i, "", lvmwire.Invalid)
			if err != nil {
				return nil, err
			}
			args[i] = a.LVArgs
		}
	}
	return args, nil
}

// ask sends a request about the VG or its i-th LV, and wants it to succeed.
func (l *lockd) ask(name string, i int, args string, m lvmwire.Mode) (lvmwire.Reply, error) {
	r := lvmwire.Request{
		Name: name, Cmd: "bench", PID: os.Getpid(), Mode: m, VGName: vgName, Type: lvmwire.Sanlock,
		VGArgs: "1.0.0:lvmlock", HostID: 1, Version: 1,
		LVName: fmt.Sprintf("lv%d", i), LVUUID: fmt.Sprintf("7zJGMR-N9Wv-U6Ck-ov39-xyPq-a1fu-%06d", i), LVArgs: args,
	}
	if name == "init_vg" {
		r.VGArgs = "lvmlock"
	}
	a, err := l.do(r)
	if err == nil && a.Result != lvmwire.OK {
		err = fmt.Errorf("%s %d: result %d", name, i, a.Result)
	}
	return a, err
}

func (l *lockd) do(r lvmwire.Request) (lvmwire.Reply, error) {
	if err := l.conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return lvmwire.Reply{}, err
	}
	if _, err := l.conn.Write(r.Append(nil, lvmwire.Dialect16)); err != nil {
		return lvmwire.Reply{}, err
	}
	body, err := l.messages.Next()
	if err != nil {
		return lvmwire.Reply{}, err
	}
	return lvmwire.DecodeReply(body)
}
