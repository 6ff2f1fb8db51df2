package helper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/monotime"
)

// Process is whom a signal is for. Signal must not block and must never reach another process.
type Process interface {
	PID() int
	Signal(sig syscall.Signal) error
}

// holder is a Process that is held by a pidfd, which can be handed to the helper.
type holder interface {
	Hold(use func(pidfd int) error) error
}

// Status is what the daemon's status shows of the helper (spec sanlock-daemon 1.9).
type Status struct {
	PID, FD int              // -1 once it has ended
	Full    int              // orders that found no room in its socket
	Last    monotime.Seconds // its last sign of life
}

// Helper is the daemon's end. Its methods never block.
type Helper struct {
	log    zerolog.Logger
	clock  monotime.Clock
	cmd    *exec.Cmd
	socket *os.File
	raw    syscall.RawConn
	fd     int
	reader sync.WaitGroup

	mu      sync.Mutex
	status  Status
	closing bool
	seq     uint64
	waiting map[uint64]*waiting
}

// waiting is an order that was sent and not confirmed.
type waiting struct {
	timer   *time.Timer
	instead func(why error) // does it without the helper
}

// Start starts the helper process. The program must call Main when it is called by Name.
func Start(log zerolog.Logger, clock monotime.Clock) (*Helper, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("helper: socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "helper's orders")
	defer theirs.Close()
	// Non-blocking before it becomes a File, so that waiting for reports takes no thread.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, errors.Join(fmt.Errorf("helper: %w", err), unix.Close(pair[0]))
	}
	h := &Helper{
		log: log, clock: clock, fd: pair[0], socket: os.NewFile(uintptr(pair[0]), "helper"),
		waiting: map[uint64]*waiting{},
	}
	h.cmd = exec.Command("/proc/self/exe")
	h.cmd.Args = []string{Name, serveArg}
	h.cmd.Dir = "/"
	h.cmd.ExtraFiles = []*os.File{theirs} // ordersFD
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if h.raw, err = h.socket.SyscallConn(); err == nil {
		err = h.cmd.Start()
	}
	if err != nil {
		h.socket.Close()
		return nil, fmt.Errorf("helper: %w", err)
	}
	h.status = Status{PID: h.cmd.Process.Pid, FD: h.fd}
	h.reader.Go(h.reading)
	return h, nil
}

// Status returns what is known of the helper.
func (h *Helper) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status
}

// Close ends the helper and waits for it. Programs that it started go on.
func (h *Helper) Close() error {
	h.mu.Lock()
	h.closing = true
	h.mu.Unlock()
	// The helper ends by itself at the end of its orders; one that is stopped does not.
	err := errors.Join(h.cmd.Process.Kill(), h.socket.Close())
	h.reader.Wait()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Signal sends a signal through the helper, or directly if it is not confirmed in 0.3 s.
// A process that has ended needs none.
func (h *Helper) Signal(p Process, sig syscall.Signal) {
	instead := func(why error) {
		err := p.Signal(sig)
		if errors.Is(err, unix.ESRCH) {
			return
		}
		h.log.Error().Err(why).Msgf("helper cannot send signal %d to %d, it is sent directly", sig, p.PID())
		if err != nil {
			h.log.Error().Err(err).Msgf("send signal %d to %d", sig, p.PID())
		}
	}
	held, ok := p.(holder)
	if !ok {
		instead(errNotHeld)
		return
	}
	err := held.Hold(func(pidfd int) error {
		h.order(message{kind: orderSignal, code: int32(sig)}, unix.UnixRights(pidfd), instead)
		return nil
	})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		instead(err)
	}
}

// Run starts a program through the helper, or directly if that is not confirmed in a second. It waits for
// nothing.
func (h *Helper) Run(path string, args []string) {
	words := append([]string{path}, args...)
	h.order(message{kind: orderRun, words: words}, nil, func(why error) { h.runDirectly(words, why) })
}

func (h *Helper) runDirectly(words []string, why error) {
	h.log.Error().Err(why).Msgf("helper cannot run %s, it is run directly", words[0])
	if err := Command(words[0], words[1:]).Run(); err != nil {
		h.log.Error().Msgf("%s: %v", words[0], err)
	}
}

var (
	errNotHeld   = errors.New("no descriptor of the process")
	errSilent    = errors.New("it did not answer")
	errUnstarted = errors.New("it could not start it")
	errDead      = errors.New("it has ended")
	errBehind    = errors.New("it has too many orders that it has not confirmed")
)

// order sends a message. If it is not confirmed in time, instead is called, in another goroutine.
func (h *Helper) order(m message, rights []byte, instead func(why error)) {
	h.mu.Lock()
	h.seq++
	m.seq = h.seq
	switch {
	case h.status.PID < 0:
		h.mu.Unlock()
		go instead(errDead)
		return
	case len(h.waiting) >= maxWaiting:
		h.mu.Unlock()
		go instead(errBehind)
		return
	}
	w := &waiting{instead: instead}
	patience := answerWait
	if m.kind == orderRun {
		patience = runWait
	}
	w.timer = time.AfterFunc(patience, func() { h.finish(m.seq, errSilent) })
	h.waiting[m.seq] = w
	h.mu.Unlock()
	m.until = bootTime() + uint64(orderLasts)
	if err := h.send(m.append(make([]byte, 0, maxMessage)), rights); err != nil {
		if errors.Is(err, unix.EAGAIN) {
			h.mu.Lock()
			h.status.Full++
			h.mu.Unlock()
		}
		go h.finish(m.seq, fmt.Errorf("send to it: %w", err))
	}
}

func (h *Helper) send(p, rights []byte) error {
	if len(p) > maxMessage {
		return unix.EMSGSIZE
	}
	var inner error
	err := h.raw.Control(func(fd uintptr) {
		inner = unix.Sendmsg(int(fd), p, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	return errors.Join(err, inner)
}

// finish ends the wait for an order, once; with an error the order is carried out by the caller.
func (h *Helper) finish(seq uint64, err error) {
	h.mu.Lock()
	w := h.waiting[seq]
	delete(h.waiting, seq)
	h.mu.Unlock()
	if w == nil {
		return
	}
	w.timer.Stop()
	if err != nil {
		w.instead(err)
	}
}

// reading hears the helper's reports until its end.
func (h *Helper) reading() {
	p := make([]byte, maxMessage)
	for {
		n, err := h.socket.Read(p)
		if err != nil || n == 0 {
			break
		}
		if m, err := decode(p[:n]); err == nil {
			h.hear(m)
		}
	}
	h.buried(h.cmd.Wait())
}

func (h *Helper) hear(m message) {
	switch m.kind {
	case reportStatus:
		h.mu.Lock()
		h.status.Last = h.clock.Now().Seconds()
		h.mu.Unlock()
		for _, text := range m.words {
			h.log.Warn().Msgf("helper: %s", text)
		}
	case reportDone:
		var err error
		if e := unix.Errno(m.code); e != 0 && e != unix.ESRCH {
			err = e
		}
		// In a goroutine of its own: doing it ourselves must not hold up what others wait for.
		go h.finish(m.seq, err)
	case reportUnrun:
		if len(m.words) > 0 {
			go h.runDirectly(m.words, errUnstarted)
		}
	case reportEnded:
		if m.code != 0 && len(m.words) > 0 {
			h.log.Error().Msgf("%s: exit status %d", m.words[0], m.code)
		}
	}
}

// buried takes note of the helper's end and does what it has left undone.
func (h *Helper) buried(err error) {
	h.mu.Lock()
	pid, closing := h.status.PID, h.closing
	h.status.PID, h.status.FD = -1, -1
	left := make([]uint64, 0, len(h.waiting))
	for seq := range h.waiting {
		left = append(left, seq)
	}
	h.mu.Unlock()
	if !closing {
		h.log.Error().Msgf("helper pid %d %s; signals and programs come from the daemon itself now", pid, how(h.cmd, err))
	}
	for _, seq := range left {
		go h.finish(seq, errDead)
	}
}

// how says how the helper ended, in stock's words.
func how(c *exec.Cmd, err error) string {
	if c.ProcessState == nil {
		return fmt.Sprint(err)
	}
	status, ok := c.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return fmt.Sprintf("term signal %d", status.Signal())
	}
	return fmt.Sprintf("exit status %d", c.ProcessState.ExitCode())
}
