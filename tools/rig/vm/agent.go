package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"

	"github.com/tenurelock/tenure/tools/rig/wire"
)

// Died says that a machine was reset, lost its power or ended while a command ran in it.
type Died struct {
	Machine int
	How     string
}

// Error implements error.
func (d *Died) Error() string { return fmt.Sprintf("vm%d died: %s", d.Machine, d.How) }

// agent is the host's end of the port to the agent in the guest.
type agent struct {
	machine int
	conn    net.Conn
	note    func(text string)

	muWrite sync.Mutex // held while a request is written

	mu       sync.Mutex
	boot     string
	ready    chan struct{} // closed when the guest has booted
	next     uint64
	commands map[uint64]*Command
}

func newAgent(machine int, conn net.Conn, note func(string)) *agent {
	return &agent{
		machine: machine, conn: conn, note: note, ready: make(chan struct{}), commands: map[uint64]*Command{},
	}
}

// serve reads until QEMU is gone.
func (a *agent) serve() {
	err := wire.Read(a.conn, a.take)
	a.lose(fmt.Sprintf("QEMU is gone (%v)", err))
}

func (a *agent) take(r wire.Report) {
	switch r.Kind {
	case wire.Ready:
		a.lose("it booted anew")
		a.mu.Lock()
		a.boot = r.Boot
		close(a.ready)
		a.mu.Unlock()
		a.note("ready")
	case wire.Note:
		a.note(r.Text)
	case wire.Output, wire.Exit:
		a.mu.Lock()
		c := a.commands[r.ID]
		if r.Boot != a.boot {
			c = nil
		}
		if c != nil && r.Kind == wire.Exit {
			delete(a.commands, r.ID)
		}
		a.mu.Unlock()
		if c == nil {
			return
		}
		if _, err := c.out.Write(r.Data); err != nil {
			a.note("output lost: " + err.Error())
		}
		if r.Kind == wire.Exit {
			if lines, ok := c.out.(*lineWriter); ok {
				lines.flush()
				lines.say(fmt.Sprintf("(ended with code %d)", r.Code))
			}
			c.finish(r.Code, nil)
		}
	}
}

// lose ends every running command with Died, and makes the agent not ready.
func (a *agent) lose(how string) {
	a.mu.Lock()
	commands := a.commands
	a.commands = map[uint64]*Command{}
	select {
	case <-a.ready:
		a.ready = make(chan struct{})
	default:
	}
	a.boot = ""
	a.mu.Unlock()
	for _, c := range commands {
		c.finish(-1, &Died{a.machine, how})
	}
}

func (a *agent) waitReady(ctx context.Context) error {
	a.mu.Lock()
	ready := a.ready
	a.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("vm%d does not come up: %w", a.machine, ctx.Err())
	}
}

// Command is a program that runs in a machine.
type Command struct {
	agent *agent
	id    uint64
	boot  string
	out   io.Writer // written by the agent's reader only

	done chan struct{}
	code int
	err  error
}

func (c *Command) finish(code int, err error) {
	c.code, c.err = code, err
	close(c.done)
}

// Wait returns the exit code of the command, or a *Died.
func (c *Command) Wait(ctx context.Context) (int, error) {
	select {
	case <-c.done:
		return c.code, c.err
	case <-ctx.Done():
		return -1, fmt.Errorf("vm%d: a command still runs: %w", c.agent.machine, ctx.Err())
	}
}

// Ended reports whether the command has ended, or its machine.
func (c *Command) Ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the command's process group.
func (c *Command) Signal(s syscall.Signal) error {
	return c.agent.send(wire.Request{Boot: c.boot, ID: c.id, Op: wire.Signal, Signal: int(s)})
}

func (a *agent) send(r wire.Request) error {
	a.muWrite.Lock()
	defer a.muWrite.Unlock()
	return wire.Write(a.conn, r)
}

var errNotReady = errors.New("the guest is not up")

func (a *agent) start(command string, out io.Writer) (*Command, error) {
	a.mu.Lock()
	if a.boot == "" {
		a.mu.Unlock()
		return nil, fmt.Errorf("vm%d: %.60q: %w", a.machine, command, errNotReady)
	}
	a.next++
	c := &Command{agent: a, id: a.next, boot: a.boot, out: out, done: make(chan struct{})}
	a.commands[c.id] = c
	a.mu.Unlock()
	if err := a.send(wire.Request{Boot: c.boot, ID: c.id, Op: wire.Run, Command: command}); err != nil {
		return nil, &Died{a.machine, err.Error()}
	}
	return c, nil
}

// outputMax bounds what Run returns, in bytes; a guest has less memory than that.
const outputMax = 64 << 20

var errTooMuch = errors.New("the command writes too much")

// output is what a command wrote, up to outputMax.
type output struct{ text strings.Builder }

func (o *output) Write(p []byte) (int, error) {
	if o.text.Len()+len(p) > outputMax {
		return 0, errTooMuch
	}
	return o.text.Write(p)
}

// run is start, and wait for the end.
func (a *agent) run(ctx context.Context, command string) (string, int, error) {
	out := &output{}
	c, err := a.start(command, out)
	if err != nil {
		return "", -1, err
	}
	code, err := c.Wait(ctx)
	if err != nil && ctx.Err() != nil {
		// Not an answer that anybody waits for: the command may be stuck in its disk.
		if errSignal := c.Signal(syscall.SIGKILL); errSignal != nil {
			err = errors.Join(err, errSignal)
		}
		return "", -1, err
	}
	return out.text.String(), code, err
}
