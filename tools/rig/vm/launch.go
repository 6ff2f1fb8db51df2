package vm

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// launcher starts processes that die with this one. The kernel sends the death signal when the thread that
// started a process ends, so one thread starts them all and lives as long as the rig.
type launcher struct {
	orders chan order
	done   chan struct{}
	ended  sync.Once
}

type order struct {
	program *exec.Cmd
	answer  chan error
}

func newLauncher() *launcher {
	l := &launcher{orders: make(chan order), done: make(chan struct{})}
	go l.serve()
	return l
}

func (l *launcher) serve() {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	for {
		select {
		case o := <-l.orders:
			o.program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
			o.answer <- o.program.Start()
		case <-l.done:
			return
		}
	}
}

func (l *launcher) start(program *exec.Cmd) error {
	o := order{program, make(chan error, 1)}
	l.orders <- o
	return <-o.answer
}

func (l *launcher) close() { l.ended.Do(func() { close(l.done) }) }
