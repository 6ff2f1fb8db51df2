package helper

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Arguments of the program when it is not the daemon.
const (
	serveArg  = "serve"
	becomeArg = "become"
	ordersFD  = 3 // where the helper finds its end of the socket
)

// Main is the program when it was called by Name: the helper, or a process that is about to become a program.
// It returns an exit code.
func Main(args []string) int {
	switch {
	case len(args) == 2 && args[1] == serveArg:
		return serve(ordersFD)
	case len(args) > 2 && args[1] == becomeArg:
		return become(args[2:])
	}
	fmt.Fprintf(os.Stderr, "%s is started by the daemon only\n", Name)
	return 2
}

// server is the helper process.
type server struct {
	fd      int
	running atomic.Int32 // programs
}

// serve carries out orders until the daemon's end is closed, which is its death.
func serve(fd int) int {
	debug.SetGCPercent(50)
	// Whoever stops the daemon's group means the daemon. The signals are caught, not ignored: programs would
	// inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	s := &server{fd: fd}
	unix.CloseOnExec(fd)
	hello := message{kind: reportStatus}
	if err := settleIn(); err != nil {
		hello.words = []string{err.Error()}
	}
	s.report(hello)
	go func() {
		for range time.Tick(statusEvery) {
			s.report(message{kind: reportStatus})
		}
	}()
	p, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, p, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0:
			return 0
		}
		target := received(oob[:oobn])
		if m, err := decode(p[:n]); err == nil {
			s.obey(m, target)
		}
		if target >= 0 {
			_ = unix.Close(target) // of a descriptor that was only looked through
		}
	}
}

// settleIn makes the process independent of storage as far as that is allowed.
func settleIn() error {
	// What ps shows. Without it the process is only harder to recognize.
	_ = os.WriteFile("/proc/self/comm", []byte(Name), 0)
	if err := MayLock(); err != nil {
		return err
	}
	// All of the program now, so that no part of it must be read when it is needed; later only what is used.
	err := unix.Mlockall(unix.MCL_CURRENT)
	if err == nil {
		err = unix.Mlockall(unix.MCL_FUTURE | unix.MCL_ONFAULT)
	}
	if err != nil {
		return fmt.Errorf("mlockall: memory stays unlocked: %w", err)
	}
	return nil
}

// received returns the descriptor that came with a message, or -1.
func received(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1
	}
	return fds[0]
}

// obey carries out one order and confirms it.
func (s *server) obey(m message, target int) {
	done := message{kind: reportDone, seq: m.seq}
	fault := func(err error) {
		done.code = int32(unix.EIO)
		if errno, ok := errors.AsType[unix.Errno](err); ok {
			done.code = int32(errno)
		}
	}
	switch {
	case bootTime() > m.until:
		fault(unix.ETIME)
	case m.kind == orderSignal && target >= 0:
		if err := unix.PidfdSendSignal(target, unix.Signal(m.code), nil, 0); err != nil {
			fault(err)
		}
	case m.kind == orderRun && len(m.words) > 0:
		if s.running.Load() >= maxPrograms {
			fault(unix.EAGAIN)
			break
		}
		s.running.Add(1)
		go s.run(m) // one start may have to wait for others; the order is confirmed at once
	default:
		fault(unix.EINVAL)
	}
	s.report(done)
}

// run starts a program, waits for its end and tells of that.
func (s *server) run(m message) {
	defer s.running.Add(-1)
	p := Command(m.words[0], m.words[1:])
	if err := p.Start(); err != nil {
		s.report(message{kind: reportUnrun, seq: m.seq, words: m.words})
		return
	}
	_ = p.Wait() // the exit status says it
	s.report(message{
		kind: reportEnded, seq: m.seq, code: int32(p.ProcessState.ExitCode()), words: m.words[:1],
	})
}

// report tells the daemon, if it listens: one that does not reads nothing into silence but that it must act
// by itself.
func (s *server) report(m message) {
	_ = unix.Sendto(s.fd, m.append(nil), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
}
