package sanlockcli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// asker runs one action of `sanlock client`.
type asker struct {
	*Options
	ctx    context.Context
	runDir string
	out    io.Writer
	exec   func(path string, argv, env []string) error
}

// errMissing: an option is missing, or names no storage. Its number is EINVAL's.
var errMissing = &leases.Error{Op: "ask", Kind: leases.Invalid, Err: errors.New("an option is missing")}

// run runs the action and returns the exit code.
func (a *asker) run() int {
	for _, group := range []func() (code int, ok bool){a.show, a.space, a.lease, a.index} {
		if code, ok := group(); ok {
			return code
		}
	}
	return 1
}

// once asks on a connection of its own.
func (a *asker) once(f func(c *client.Conn) error) error { return client.Do(a.ctx, a.runDir, f) }

// number is what stock's library returns where err came.
func number(err error) int32 {
	var text *sanlockwire.TextError
	switch {
	case errors.As(err, &text):
		return text.Number
	case errors.Is(err, client.ErrHungUp):
		return -1
	}
	return sanlockwire.ResultOf(err)
}

// done prints how an action went and returns the exit code.
func (a *asker) done(action string, err error) int { return a.doneWith(action, number(err)) }

func (a *asker) doneWith(action string, rv int32) int {
	fmt.Fprintf(a.out, "%s done %d\n", action, rv)
	return exit(rv)
}

// exit is stock's rule: only the result 0 is a success, so that answers that are counts exit with 1.
func exit(rv int32) int {
	if rv == 0 {
		return 0
	}
	return 1
}

// target is the process that a lease action is about.
func (a *asker) target() uint32 { return uint32(int32(a.PID)) }

// space runs the actions on a lockspace.
func (a *asker) space() (int, bool) {
	switch a.Action {
	case "add_lockspace":
		return a.addLockspace(), true
	case "inq_lockspace":
		return a.onSpace(func(c *client.Conn) error { return c.InqLockspace(a.ctx, a.Lockspace, 0) }), true
	case "rem_lockspace":
		return a.onSpace(func(c *client.Conn) error { return c.RemLockspace(a.ctx, a.Lockspace, 0) }), true
	case "set_event":
		return a.setEvent(), true
	case "set_config":
		return a.setConfig(), true
	case "shutdown":
		return a.shutdown(), true
	case "init", "write":
		fmt.Fprintln(a.out, "init")
		return a.done("init", a.format()), true
	case "align":
		return a.align(), true
	}
	return 0, false
}

func (a *asker) onSpace(f func(c *client.Conn) error) int {
	fmt.Fprintln(a.out, a.Action)
	return a.done(a.Action, a.once(f))
}

// stockIO is the io_timeout in seconds with which add_lockspace needs no word about it.
const stockIO = 10

func (a *asker) addLockspace() int {
	ioTimeout := a.IOTimeout()
	if ioTimeout == stockIO {
		return a.onSpace(func(c *client.Conn) error { return c.AddLockspace(a.ctx, a.Lockspace, 0, 0) })
	}
	fmt.Fprintf(a.out, "add_lockspace_timeout %d\n", ioTimeout)
	return a.done("add_lockspace_timeout", a.once(func(c *client.Conn) error {
		return c.AddLockspace(a.ctx, a.Lockspace, ioTimeout, 0)
	}))
}

func (a *asker) setEvent() int {
	e := sanlockwire.HostEvent{HostID: a.HostID, Generation: a.Generation, Event: a.Event, Data: a.EventData}
	fmt.Fprintf(a.out, "set_event %d %d event 0x%x data 0x%x\n", e.HostID, e.Generation, e.Event, e.Data)
	return a.done("set_event", a.once(func(c *client.Conn) error {
		return c.SetEvent(a.ctx, sanlockwire.Lockspace{Name: a.Lockspace.Name}, e, 0)
	}))
}

func (a *asker) setConfig() int {
	var config uint32
	switch {
	case a.Orphan == On:
		config = sanlockwire.ConfigUsedByOrphans
	case a.Orphan == Off:
		config = sanlockwire.ConfigUnusedByOrphans
	case a.Used == On:
		config = sanlockwire.ConfigUsed
	case a.Used == Off:
		config = sanlockwire.ConfigUnused
	}
	fmt.Fprintf(a.out, "set_config %s %d\n", a.Lockspace.Name, config)
	return a.done("set_config", a.once(func(c *client.Conn) error {
		return c.SetConfig(a.ctx, sanlockwire.Lockspace{Name: a.Lockspace.Name}, config)
	}))
}

func (a *asker) shutdown() int {
	fmt.Fprintf(a.out, "shutdown force %d wait %d\n", a.Force, a.WaitNumber)
	return a.done("shutdown", a.once(func(c *client.Conn) error {
		if a.Wait {
			return c.ShutdownWait(a.ctx, uint32(int32(a.Force)))
		}
		return c.Shutdown(a.ctx, uint32(int32(a.Force)))
	}))
}

// resource returns the first -r that names storage.
func (a *asker) resource() (sanlockwire.Resource, bool) {
	if len(a.Resources) == 0 || len(a.Resources[0].Disks) == 0 {
		return sanlockwire.Resource{}, false
	}
	r := a.Resources[0]
	r.Flags |= a.SizeFlags()
	return r, true
}

// storage returns -s with the sizes, if it names storage.
func (a *asker) storage() (sanlockwire.Lockspace, bool) {
	l := a.Lockspace
	l.Flags |= a.SizeFlags()
	return l, l.Disk.Path != ""
}

func (a *asker) format() error {
	return a.onStorage(
		func(c *client.Conn, l sanlockwire.Lockspace) error {
			return c.WriteLockspace(a.ctx, l, uint32(int32(a.MaxHosts)), a.IOTimeout())
		},
		func(c *client.Conn, r sanlockwire.Resource) error {
			var flags uint32
			if a.Clear {
				flags = sanlockwire.WriteClear
			}
			return c.WriteResource(a.ctx, r, flags, uint32(int32(a.MaxHosts)), uint32(int32(a.NumHosts)))
		})
}

// onStorage does one thing to a lockspace and another to a resource, whichever was named.
func (a *asker) onStorage(
	space func(*client.Conn, sanlockwire.Lockspace) error,
	resource func(*client.Conn, sanlockwire.Resource) error,
) error {
	if l, ok := a.storage(); ok {
		return a.once(func(c *client.Conn) error { return space(c, l) })
	}
	if r, ok := a.resource(); ok {
		return a.once(func(c *client.Conn) error { return resource(c, r) })
	}
	return errMissing
}

func (a *asker) align() int {
	fmt.Fprintln(a.out, "align")
	var size int
	err := a.once(func(c *client.Conn) (err error) {
		size, err = c.Align(a.ctx, a.Lockspace.Disk)
		return err
	})
	if err != nil {
		return a.done("align", err)
	}
	return a.doneWith("align", int32(size))
}
