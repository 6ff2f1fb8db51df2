package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tenurelock/tenure/tools/rig/wire"
)

// portWait is how long the agent looks for its port: the driver's probe is not finished when modprobe is.
const portWait = 20 * time.Second

// agent runs the host's commands, any number at once.
type agent struct {
	boot string

	mu   sync.Mutex
	port *os.File // written under mu, a whole message at a time

	muRunning sync.Mutex
	running   map[uint64]int // process group of each command
}

func serve() error {
	port, err := openPort()
	if err != nil {
		return err
	}
	a := &agent{boot: rand.Text(), port: port, running: map[uint64]int{}}
	watchDisks(func(text string) { a.report(wire.Report{Kind: wire.Note, Text: text}) })
	a.report(wire.Report{Kind: wire.Ready})
	for {
		err := wire.Read(port, func(r wire.Request) {
			if r.Boot == a.boot {
				a.take(r)
			}
		})
		if err != nil {
			return fmt.Errorf("agent: read requests: %w", err)
		}
		time.Sleep(100 * time.Millisecond) // the host's end is closed; it may come back
	}
}

func openPort() (*os.File, error) {
	for end := time.Now().Add(portWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if name, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(name)) == wire.Port {
				return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(n))), os.O_RDWR, 0)
			}
		}
	}
	return nil, fmt.Errorf("agent: no virtio port %s within %v", wire.Port, portWait)
}

func (a *agent) report(r wire.Report) {
	r.Boot = a.boot
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := wire.Write(a.port, r); err != nil {
		fmt.Fprintln(os.Stderr, "agent: report:", err)
	}
}

func (a *agent) take(r wire.Request) {
	switch r.Op {
	case wire.Run:
		go a.run(r)
	case wire.Signal:
		a.muRunning.Lock()
		group, ok := a.running[r.ID]
		a.muRunning.Unlock()
		if ok {
			if err := syscall.Kill(-group, syscall.Signal(r.Signal)); err != nil {
				fmt.Fprintln(os.Stderr, "agent: signal:", err)
			}
		}
	}
}

// run runs one command to its end. Its output goes to the host as it is written; the end is told when the
// shell is gone, even if a process that it left behind still has the pipe.
func (a *agent) run(r wire.Request) {
	fromCommand, toAgent, err := os.Pipe()
	if err != nil {
		a.report(wire.Report{Kind: wire.Exit, ID: r.ID, Code: 126, Data: []byte(err.Error())})
		return
	}
	defer fromCommand.Close()
	shell := exec.Command("/bin/sh", "-c", r.Command)
	shell.Env, shell.Stdout, shell.Stderr = environment, toAgent, toAgent
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = shell.Start()
	toAgent.Close()
	if err != nil {
		a.report(wire.Report{Kind: wire.Exit, ID: r.ID, Code: 126, Data: []byte(err.Error())})
		return
	}
	a.muRunning.Lock()
	a.running[r.ID] = shell.Process.Pid
	a.muRunning.Unlock()
	copied := make(chan struct{})
	go func() { a.copy(r.ID, fromCommand); close(copied) }()
	err = shell.Wait()
	// What the shell wrote is in the pipe by now; a process it left in the background must not delay its end.
	select {
	case <-copied:
	case <-time.After(200 * time.Millisecond):
	}
	a.muRunning.Lock()
	delete(a.running, r.ID)
	a.muRunning.Unlock()
	a.report(wire.Report{Kind: wire.Exit, ID: r.ID, Code: exitCode(shell, err)})
}

func (a *agent) copy(id uint64, from *os.File) {
	buf := make([]byte, wire.OutputMax)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			a.report(wire.Report{Kind: wire.Output, ID: id, Data: buf[:n]})
		}
		if err != nil {
			return
		}
	}
}

func exitCode(c *exec.Cmd, err error) int {
	status, ok := c.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled():
		return 128 + int(status.Signal())
	case err == nil:
		return 0
	}
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return ended.ExitCode()
	}
	return 126
}
