package sanlockcli

import (
	"fmt"
	"os"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// lease runs the actions on resources.
func (a *asker) lease() (int, bool) {
	switch a.Action {
	case "acquire":
		fmt.Fprintf(a.out, "acquire pid %d\n", a.PID)
		return a.done("acquire", a.once(func(c *client.Conn) error { return a.acquire(c, a.target()) })), true
	case "convert":
		return a.convert(), true
	case "release":
		return a.release(), true
	case "inquire":
		return a.inquire(), true
	case "request":
		return a.request(), true
	case "examine":
		return a.examine(), true
	case "command":
		return a.command(), true
	}
	return 0, false
}

// acquire takes the leases of -r with the flags of -n, -P and -O.
func (a *asker) acquire(c *client.Conn, pid uint32) error {
	rs := make([]sanlockwire.Resource, 0, len(a.Resources))
	for _, r := range a.Resources {
		if a.NumHosts != 0 {
			r.Flags |= sanlockwire.ResNumHosts
			r.Data32 = uint32(int32(a.NumHosts))
		}
		if a.Persistent {
			r.Flags |= sanlockwire.ResPersistent
		}
		rs = append(rs, r)
	}
	var flags uint32
	if a.Orphan == On {
		flags = sanlockwire.AcquireOrphan
	}
	return c.Acquire(a.ctx, pid, flags, "", rs...)
}

func (a *asker) convert() int {
	fmt.Fprintf(a.out, "convert pid %d\n", a.PID)
	if len(a.Resources) == 0 {
		return a.done("convert", errMissing)
	}
	return a.done("convert", a.once(func(c *client.Conn) error {
		return c.Convert(a.ctx, a.target(), 0, a.Resources[0])
	}))
}

func (a *asker) release() int {
	fmt.Fprintf(a.out, "release pid %d\n", a.PID)
	var flags uint32
	rs := a.Resources
	if a.All {
		flags |= sanlockwire.ReleaseAll
	}
	if a.Orphan == On {
		flags |= sanlockwire.ReleaseOrphan
		if len(rs) == 0 && a.Lockspace.Name.IsEmpty() {
			return a.done("release", errMissing)
		}
		if len(rs) == 0 {
			rs = []sanlockwire.Resource{{Space: a.Lockspace.Name}}
		}
	}
	var count int
	err := a.once(func(c *client.Conn) (err error) {
		count, err = c.Release(a.ctx, a.target(), flags, rs...)
		return err
	})
	if err != nil {
		return a.done("release", err)
	}
	return a.doneWith("release", int32(count))
}

func (a *asker) inquire() int {
	var text string
	var count int
	err := a.once(func(c *client.Conn) (err error) {
		text, count, err = c.InquireText(a.ctx, a.target())
		return err
	})
	fmt.Fprintf(a.out, "inquire pid %d\n", a.PID)
	fmt.Fprintf(a.out, "inquire done %d res_count %d\n", number(err), count)
	if err != nil {
		return 1
	}
	if text == "" {
		fmt.Fprintln(a.out, `"(null)"`)
		return 0
	}
	fmt.Fprintf(a.out, "\"%s\"\n", text)
	if a.Debug {
		a.inquired(text)
	}
	return 0
}

// inquired takes the answer of inquire apart and puts it together again, as stock does to check its library.
func (a *asker) inquired(text string) {
	rs, err := sanlockwire.ParseInquire(text)
	fmt.Fprintf(a.out, "\nstate_to_args done %d res_count %d\n", number(err), len(rs))
	if err != nil {
		return
	}
	for _, r := range rs {
		var d sanlockwire.Disk // stock shows the first only, and the version of a shared one, too
		if len(r.Disks) > 0 {
			d = r.Disks[0]
		}
		fmt.Fprintf(a.out, "\"%s:%s:%s:%d:%d\"\n", r.Space, r.Name, d.Path, d.Offset, r.LVer)
	}
	fmt.Fprintf(a.out, "\nargs_to_state done 0\n\"%s\"\n", sanlockwire.FormatInquire(rs))
}

func (a *asker) request() int {
	fmt.Fprintln(a.out, "request")
	if len(a.Resources) == 0 {
		return a.done("request", errMissing)
	}
	return a.done("request", a.once(func(c *client.Conn) error {
		return c.Request(a.ctx, 0, uint32(int32(a.Force)), a.Resources[0])
	}))
}

// examine goes by -s if only a name is given, too: the manual says so, though stock refuses.
func (a *asker) examine() int {
	fmt.Fprintln(a.out, "examine")
	switch {
	case a.Lockspace.Disk.Path != "" || len(a.Resources) == 0 && !a.Lockspace.Name.IsEmpty():
		return a.done("examine", a.once(func(c *client.Conn) error {
			return c.ExamineLockspace(a.ctx, a.Lockspace)
		}))
	case len(a.Resources) > 0:
		return a.done("examine", a.once(func(c *client.Conn) error {
			return c.ExamineResource(a.ctx, a.Resources[0])
		}))
	}
	return a.done("examine", errMissing)
}

// command registers, acquires and becomes the program of -c, which inherits the connection and with it the
// leases. Without -c it holds the leases until it is killed.
func (a *asker) command() int {
	fmt.Fprintln(a.out, "register")
	c, fd, err := a.register()
	if err != nil {
		return a.done("register", err)
	}
	fmt.Fprintf(a.out, "register done %d\n", fd)
	fmt.Fprintf(a.out, "acquire fd %d\n", fd)
	if code := a.done("acquire", a.acquire(c, client.Self)); code != 0 {
		return code
	}
	if len(a.Command) == 0 {
		<-a.ctx.Done()
		return 0
	}
	err = a.exec(a.Command[0], a.Command, os.Environ())
	fmt.Fprintf(a.out, "command %s: %v\n", a.Command[0], err)
	return 1
}

// register returns a registered connection and the descriptor of a copy of it that is inherited across exec.
func (a *asker) register() (*client.Conn, int, error) {
	c, err := client.Dial(a.ctx, a.runDir)
	if err != nil {
		return nil, 0, err
	}
	if err := c.Register(a.ctx); err != nil {
		return nil, 0, err
	}
	raw, err := c.Inherit()
	return c, raw, err
}
