package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	ioTimeout = 2 // seconds
	startWait = 10 * time.Second
	stopWait  = 5 * time.Second
	mib       = 1 << 20
)

// daemon is a running sanlock, ours or Debian's.
type daemon struct {
	who    string
	host   uint64
	runDir string
	log    string
	cmd    *exec.Cmd
	done   chan struct{}
}

// who names the two programs in tables.
const (
	ours   = "tenure"
	theirs = "debian"
	bare   = "bare I/O"
)

// start runs a daemon without watchdog and waits for its socket.
func (b *bench) start(who string, host uint64) (*daemon, error) {
	dir, err := os.MkdirTemp(b.dir, who)
	if err != nil {
		return nil, err
	}
	d := &daemon{
		who: who, host: host, runDir: filepath.Join(dir, "run"), log: filepath.Join(dir, "log"),
		done: make(chan struct{}),
	}
	out, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	d.cmd = exec.Command(b.stock)
	if who == ours {
		d.cmd = exec.Command(b.tenure)
	}
	d.cmd.Args = []string{
		"sanlock", "daemon", "-D", "-w", "0", "-h", "0", "-l", "0",
		"-e", fmt.Sprintf("host%d", host),
	}
	d.cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+d.runDir, "SANLOCK_PRIVILEGED=0")
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // should we be interrupted
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", d.cmd.Path, err)
	}
	go func() {
		_ = d.cmd.Wait() // seen by the socket that does not answer
		close(d.done)
	}()
	for deadline := time.Now().Add(startWait); ; time.Sleep(20 * time.Millisecond) {
		c, err := dial(d.runDir)
		if err == nil {
			return d, c.Close()
		}
		if time.Now().After(deadline) {
			d.stop()
			return nil, fmt.Errorf("%s does not listen: %w\n%s", who, err, d.tail())
		}
	}
}

func (d *daemon) tail() string {
	p, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(p)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-d.done:
	case <-time.After(stopWait):
		_ = d.cmd.Process.Kill() // a lockspace that is still joined keeps it from ending
		<-d.done
	}
}

// join adds lockspace LS at the start of a device.
func (d *daemon) join(path string) error {
	return d.add(lockspace{"LS", d.host, path, 0})
}

func (d *daemon) add(l lockspace) error {
	if rv, err := addLockspace(d.runDir, l, ioTimeout); err != nil || rv != 0 {
		return fmt.Errorf("%s: add_lockspace %s: %d, %w\n%s", d.who, l.name, rv, err, d.tail())
	}
	return nil
}

// usage is what a process takes of the machine.
type usage struct {
	rssMB, threads float64
	cpu            time.Duration
}

// usage reads /proc. The helper process of Debian's daemon is not counted.
func (d *daemon) usage() (usage, error) {
	var u usage
	proc := filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseFloat(f[1], 64) // other lines have words there
		switch f[0] {
		case "VmRSS:":
			u.rssMB = n / 1024
		case "Threads:":
			u.threads = n
		}
	}
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return u, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	const utime, stime, ticksPerSecond = 11, 12, 100
	user, err1 := strconv.Atoi(f[utime])
	system, err2 := strconv.Atoi(f[stime])
	u.cpu = time.Duration(user+system) * time.Second / ticksPerSecond
	return u, errors.Join(err1, err2)
}
