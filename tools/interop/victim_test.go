package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// holderEnv makes the test program a client of a daemon that takes a lease and lives on, whatever it is told.
const holderEnv = "INTEROP_HOLDER"

// lateTries is how often a holder asks again where the storage took longer than an io_timeout: holders come many at a
// time, and an area of 8 MB is read for each.
const lateTries = 3

// errand is what a holder is to do.
type errand struct {
	RunDir, Space, Name, Path string
	Offset                    int64
	Killpath                  string // a program that gets the pid, "" for none
	KillArgs                  string // and what it gets before that
	Restrict                  uint32
	Patience                  int // how often it asks again for a lease that others have
}

// victim is such a process, and what befell it, in seconds of the monotonic clock.
type victim struct {
	cmd *exec.Cmd

	mu    sync.Mutex
	terms []float64
	ended float64
	by    syscall.Signal
	done  chan struct{}
}

// holderOf starts a process that holds r, and returns when it does.
func holderOf(t testing.TB, n *node, r lease, change func(*errand)) *victim {
	t.Helper()
	e := errand{RunDir: n.runDir, Space: r.space, Name: r.name, Path: r.path, Offset: r.offset}
	if change != nil {
		change(&e)
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	h := &victim{cmd: exec.Command("/proc/self/exe"), done: make(chan struct{})}
	h.cmd.Env = append(os.Environ(), holderEnv+"="+string(text))
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := h.cmd.StdoutPipe()
	if err == nil {
		err = h.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill() // most were killed by a daemon
		<-h.done
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "held" {
		t.Errorf("%s: holder of %s: %q", n, r.name, lines.Text())
	}
	go h.listen(lines)
	return h
}

// listen notes what the process says until its end.
func (h *victim) listen(lines *bufio.Scanner) {
	defer close(h.done)
	for lines.Scan() {
		if at, ok := strings.CutPrefix(lines.Text(), "term "); ok {
			s, _ := strconv.ParseFloat(at, 64) // 0 is no time that a test expects
			h.mu.Lock()
			h.terms = append(h.terms, s)
			h.mu.Unlock()
		}
	}
	_ = h.cmd.Wait() // the signal says it
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = seconds()
	h.by = h.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

func (h *victim) pid() int { return h.cmd.Process.Pid }

// fate returns what has befallen the process.
func (h *victim) fate() (terms []float64, ended float64, by syscall.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]float64(nil), h.terms...), h.ended, h.by
}

// hold is the holder's program.
func hold(text string) int {
	var e errand
	err := json.Unmarshal([]byte(text), &e)
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGTERM)
	var c *conn
	if err == nil {
		c, err = dial(e.RunDir)
	}
	if err == nil {
		err = c.send(cmdRegister, 0, 0, 0, 0, nil)
	}
	if err == nil && e.Restrict != 0 {
		err = expectZero(c.result(cmdRestrict, e.Restrict, 0, nil))
	}
	if err == nil && e.Killpath != "" {
		body := make([]byte, 256)
		copy(body, e.Killpath)
		copy(body[128:], e.KillArgs)
		err = expectZero(c.result(cmdKillpath, 1, 0, body))
	}
	if err == nil {
		err = e.acquire(c)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("held")
	for range signals {
		fmt.Printf("term %.3f\n", seconds())
	}
	return 0
}

// acquire asks for the lease, and again while that may help.
func (e errand) acquire(c *conn) error {
	r := lease{space: e.Space, name: e.Name, path: e.Path, offset: e.Offset}
	for late := 0; ; {
		rv, err := c.acquire(r, 0)
		switch {
		case err != nil || rv == 0:
			return err
		case rv == resultIOTimeout && late < lateTries:
			late++
		case e.Patience > 0:
			e.Patience--
		default:
			return fmt.Errorf("result %d", rv)
		}
		time.Sleep(pollPause)
	}
}

func expectZero(rv int32, err error) error {
	if err == nil && rv != 0 {
		err = fmt.Errorf("result %d", rv)
	}
	return err
}

func seconds() float64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return float64(ts.Sec) + float64(ts.Nsec)/1e9
}

// latencies are the times that a command took again and again while other things went on.
type latencies struct {
	stop chan struct{}
	done sync.WaitGroup
	took []time.Duration
	errs []error
}

// every asks for the status of a daemon again and again, on a connection each.
func (n *node) every(pause time.Duration) *latencies {
	l := &latencies{stop: make(chan struct{})}
	l.done.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			begin := time.Now()
			if _, err := status(n.runDir); err != nil {
				l.errs = append(l.errs, err)
			}
			l.took = append(l.took, time.Since(begin))
			select {
			case <-tick.C:
			case <-l.stop:
				return
			}
		}
	})
	return l
}

// end ends the asking and returns the time that 99 of 100 answers took at most.
func (l *latencies) end(t *testing.T) (p99 time.Duration) {
	t.Helper()
	close(l.stop)
	l.done.Wait()
	for _, err := range l.errs {
		t.Errorf("status: %v", err)
	}
	return percentile(l.took, 99)
}
