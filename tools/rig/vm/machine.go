package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Machine is one virtual machine. Its methods may be called concurrently.
type Machine struct {
	rig *Rig
	id  int

	mu     sync.Mutex
	power  *power // nil when it is off
	resets []Line
}

// power is one run of QEMU.
type power struct {
	program *exec.Cmd
	qmp     *qmp
	agent   *agent
	gone    chan struct{} // closed when QEMU has ended and its connections were read to their end
}

// ID is the machine's number, from 1: its host name is vmID.
func (m *Machine) ID() int { return m.id }

var errOff = errors.New("the machine is off")

func (m *Machine) running() (*power, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.power == nil {
		return nil, fmt.Errorf("vm%d: %w", m.id, errOff)
	}
	return m.power, nil
}

func (m *Machine) note(text string) { m.rig.log.add(m.id, SourceRig, text) }

// Boot switches the machine on and returns when it takes commands.
func (m *Machine) Boot(ctx context.Context) error {
	m.mu.Lock()
	if m.power != nil {
		m.mu.Unlock()
		return fmt.Errorf("vm%d is on already", m.id)
	}
	p, err := m.launch()
	m.power = p
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("vm%d: start QEMU: %w", m.id, err)
	}
	if _, err := p.qmp.ask(ctx, "qmp_capabilities", nil); err != nil {
		return fmt.Errorf("vm%d: %w", m.id, err)
	}
	return m.ready(ctx, p)
}

// ready waits until a machine takes commands, or is off again.
func (m *Machine) ready(ctx context.Context, p *power) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	up := make(chan error, 1)
	go func() { up <- p.agent.waitReady(ctx) }()
	select {
	case err := <-up:
		return err
	case <-p.gone:
		return fmt.Errorf("vm%d: does not boot: %w", m.id, errOff)
	}
}

// WaitReady returns when the machine takes commands, after a reset for example.
func (m *Machine) WaitReady(ctx context.Context) error {
	p, err := m.running()
	if err != nil {
		return err
	}
	return m.ready(ctx, p)
}

// launch starts QEMU with three connections: its monitor, the guest's console and the agent's port.
func (m *Machine) launch() (*power, error) {
	var ours []net.Conn
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	for range 3 {
		conn, file, err := socketPair()
		if err != nil {
			return nil, err
		}
		ours, theirs = append(ours, conn), append(theirs, file)
	}
	arguments, err := m.rig.options.arguments(m.id)
	if err != nil {
		return nil, err
	}
	if m.rig.group != "" {
		arguments = append(arguments, network(m.rig.group, m.id)...)
	}
	program := exec.Command("nice", append([]string{"-n", strconv.Itoa(m.rig.options.Nice), m.rig.qemu}, arguments...)...)
	program.ExtraFiles = theirs
	words := &lineWriter{say: func(text string) { m.rig.log.add(m.id, SourceQEMU, text) }}
	program.Stdout, program.Stderr = words, words
	if err := m.rig.launcher.start(program); err != nil {
		return nil, err
	}
	m.note(fmt.Sprintf("power on, process %d", program.Process.Pid))
	p := &power{program: program, gone: make(chan struct{})}
	p.agent = newAgent(m.id, ours[2], func(text string) { m.rig.log.add(m.id, SourceGuest, text) })
	p.qmp = &qmp{conn: ours[0], pending: map[uint64]chan qmpMessage{}}
	p.qmp.event = func(name string, data json.RawMessage) { m.event(p, name, data) }
	console := &lineWriter{say: func(text string) { m.rig.log.add(m.id, SourceConsole, text) }}
	var readers sync.WaitGroup
	readers.Go(p.qmp.serve)
	readers.Go(p.agent.serve)
	readers.Go(func() {
		if _, err := io.Copy(console, ours[1]); err != nil {
			console.say("console: " + err.Error())
		}
		console.flush()
	})
	go func() {
		err := program.Wait()
		readers.Wait()
		for _, c := range ours {
			c.Close()
		}
		m.mu.Lock()
		m.power = nil
		m.mu.Unlock()
		m.note(fmt.Sprintf("off (%v)", err))
		close(p.gone)
	}()
	return p, nil
}

// socketPair returns two ends of a connection: one for us, one to be inherited.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "rig"), os.NewFile(uintptr(fds[1]), "qemu")
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// event keeps what QEMU tells. A reset ends the commands of the guest that was.
func (m *Machine) event(p *power, name string, data json.RawMessage) {
	text := name
	if len(data) > 0 {
		text += " " + string(data)
	}
	m.rig.log.add(m.id, SourceQMP, text)
	if name != "RESET" && name != "SHUTDOWN" {
		return
	}
	m.mu.Lock()
	m.resets = append(m.resets, Line{At: time.Now(), Machine: m.id, Source: SourceQMP, Text: text})
	m.mu.Unlock()
	p.agent.lose(name)
}

// Resets returns the resets and switchings-off that QEMU reported, oldest first.
func (m *Machine) Resets() []Line {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Line(nil), m.resets...)
}

// Run runs a shell command to its end and returns what it wrote to either output, and its exit code. The error
// is a *Died when the machine died meanwhile. A process that it leaves behind loses its output: use Spawn.
func (m *Machine) Run(ctx context.Context, command string) (output string, code int, err error) {
	p, err := m.running()
	if err != nil {
		return "", -1, err
	}
	return p.agent.run(ctx, command)
}

// Do is Run of a command that must succeed.
func (m *Machine) Do(ctx context.Context, command string) (string, error) {
	out, code, err := m.Run(ctx, command)
	if err == nil && code != 0 {
		err = fmt.Errorf("vm%d: %.80q: exit code %d: %.600s", m.id, command, code, out)
	}
	return out, err
}

// Spawn starts a shell command whose lines of output, and its end, go to the log under the name of source.
func (m *Machine) Spawn(source, command string) (*Command, error) {
	p, err := m.running()
	if err != nil {
		return nil, err
	}
	return p.agent.start(command, &lineWriter{say: func(text string) { m.rig.log.add(m.id, source, text) }})
}
