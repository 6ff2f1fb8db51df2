package sanlockcli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// show runs the actions that print what the daemon or a device knows.
func (a *asker) show() (int, bool) {
	switch a.Action {
	case "status":
		return a.status(), true
	case "gets":
		return a.gets(), true
	case "host_status":
		return a.hostStatus(), true
	case "renewal":
		return a.renewal(), true
	case "log_dump":
		return a.logDump(), true
	case "version":
		return a.version(), true
	case "read":
		return a.read(), true
	}
	return 0, false
}

// maxSorted is how many records status can sort, as in stock.
const maxSorted = 1024

func (a *asker) status() int {
	var all []sanlockwire.State
	sorted := a.Sort == "p" || a.Sort == "s"
	err := a.once(func(c *client.Conn) error {
		return c.Status(a.ctx, sanlockwire.StatusAll, func(s sanlockwire.State) error {
			switch {
			case !sorted:
				a.record(s)
			case len(all) == maxSorted:
				return errManyRecords
			default:
				all = append(all, s)
			}
			return nil
		})
	})
	if errors.Is(err, errManyRecords) {
		fmt.Fprintf(a.out, "cannot sort over %d\n", maxSorted)
		return 1
	}
	if err != nil {
		return 1
	}
	if sorted {
		a.sorted(all)
	}
	return 0
}

var errManyRecords = errors.New("more records than can be sorted")

// sorted prints the records with each resource below its process (p) or its lockspace (s).
func (a *asker) sorted(all []sanlockwire.State) {
	printed := make([]bool, len(all))
	printIf := func(want func(s sanlockwire.State) bool) {
		for i, s := range all {
			if !printed[i] && want(s) {
				printed[i] = true
				a.record(s)
			}
		}
	}
	ofType := func(t uint32) func(sanlockwire.State) bool {
		return func(s sanlockwire.State) bool { return s.Type == t }
	}
	printIf(ofType(sanlockwire.StateDaemon))
	printIf(func(s sanlockwire.State) bool { return s.Type == sanlockwire.StateClient && int32(s.Data32) == -1 })
	parent := sanlockwire.StateClient
	if a.Sort == "s" {
		parent = sanlockwire.StateLockspace
		printIf(ofType(sanlockwire.StateClient))
	} else {
		printIf(ofType(sanlockwire.StateLockspace))
	}
	for i, p := range all {
		if printed[i] || p.Type != parent {
			continue
		}
		printed[i] = true
		a.record(p)
		printIf(func(s sanlockwire.State) bool {
			if s.Type != sanlockwire.StateResource {
				return false
			}
			if a.Sort == "s" {
				return s.Resource.Space.Equal(p.Name)
			}
			return s.Data32 == p.Data32
		})
	}
	if slices.Contains(printed, false) {
		fmt.Fprintln(a.out, "-")
	}
	printIf(func(sanlockwire.State) bool { return true })
}

// record prints one record of status.
func (a *asker) record(s sanlockwire.State) {
	switch s.Type {
	case sanlockwire.StateDaemon:
		fmt.Fprintf(a.out, "daemon %s\n", s.Name)
	case sanlockwire.StateClient:
		fmt.Fprintf(a.out, "p %d %s\n", int32(s.Data32), s.Name)
	case sanlockwire.StateLockspace:
		fmt.Fprintf(a.out, "s %s%s\n", sanlockwire.FormatLockspace(s.Space), mark(s.Text))
	case sanlockwire.StateResource:
		r := s.Resource
		r.LVer = s.Data64
		fmt.Fprintf(a.out, "r %s p %d%s\n", sanlockwire.FormatResource(r), int32(s.Data32), mark(s.Text))
	case sanlockwire.StateHost:
		fmt.Fprintf(a.out, "%d timestamp %d\n", s.Data32, s.Data64)
	case sanlockwire.StateRenewal:
		fmt.Fprintln(a.out, s.Text)
		return
	}
	if a.Debug {
		for word := range strings.SplitSeq(s.Text, " ") {
			fmt.Fprintf(a.out, "    %s\n", word)
		}
	}
}

// mark says in which of the daemon's lists a lockspace or resource is.
func mark(text string) string {
	switch list, _ := sanlockwire.Word(text, "list"); list {
	case "add":
		return " ADD"
	case "rem":
		return " REM"
	case "orphan":
		return " ORPHAN"
	}
	return ""
}

func (a *asker) gets() int {
	var spaces []sanlockwire.Lockspace
	err := a.once(func(c *client.Conn) (err error) {
		spaces, err = c.GetLockspaces(a.ctx)
		return err
	})
	if err != nil {
		fmt.Fprintf(a.out, "gets error %d\n", number(err))
		return 1
	}
	for _, l := range spaces {
		word := ""
		switch {
		case l.Flags&sanlockwire.SpaceAdding != 0:
			word = "ADD "
		case l.Flags&sanlockwire.SpaceRemoving != 0:
			word = "REM "
		}
		fmt.Fprintf(a.out, "s %s %s\n", plain(l), word)
		if a.ShowHosts {
			a.hosts(l)
		}
	}
	return 0
}

func (a *asker) hosts(l sanlockwire.Lockspace) {
	var hosts []sanlockwire.Host
	err := a.once(func(c *client.Conn) (err error) {
		hosts, err = c.GetHosts(a.ctx, sanlockwire.Lockspace{Name: l.Name}, 0)
		return err
	})
	switch rv := number(err); {
	case err == nil:
	case rv == hostsNotReady:
		fmt.Fprintln(a.out, "hosts not ready")
	default:
		fmt.Fprintf(a.out, "hosts error %d\n", rv)
	}
	for _, h := range hosts {
		fmt.Fprintf(a.out, "h %d gen %d timestamp %d %s\n", h.HostID, h.Generation, h.Timestamp, h.Verdict())
	}
}

// plain writes a lockspace as gets and read do, without backslashes in the path.
func plain(l sanlockwire.Lockspace) string {
	return fmt.Sprintf("%s:%d:%s:%d", l.Name, l.HostID, l.Disk.Path, l.Disk.Offset)
}

// hostsNotReady is EAGAIN: the first renewal is still to come.
const hostsNotReady = -11

// hostStatus prints the hosts of -s, or of every lockspace.
func (a *asker) hostStatus() int {
	if !a.Lockspace.Name.IsEmpty() {
		return exit(number(a.hostsOf(a.Lockspace)))
	}
	var spaces []sanlockwire.Lockspace
	err := a.once(func(c *client.Conn) error {
		return c.Status(a.ctx, sanlockwire.StatusLockspaces, func(s sanlockwire.State) error {
			if s.Type == sanlockwire.StateLockspace {
				spaces = append(spaces, s.Space)
			}
			return nil
		})
	})
	if err != nil {
		return 1
	}
	for _, l := range spaces {
		fmt.Fprintf(a.out, "lockspace %s\n", l.Name)
		if err := a.hostsOf(l); err != nil {
			return 1
		}
	}
	return 0
}

func (a *asker) hostsOf(l sanlockwire.Lockspace) error {
	return a.once(func(c *client.Conn) error {
		return c.HostStatus(a.ctx, sanlockwire.Lockspace{Name: l.Name}, func(s sanlockwire.State) error {
			a.record(s)
			return nil
		})
	})
}

func (a *asker) renewal() int {
	if a.Lockspace.Name.IsEmpty() {
		return 1
	}
	return exit(number(a.once(func(c *client.Conn) error {
		return c.Renewals(a.ctx, sanlockwire.Lockspace{Name: a.Lockspace.Name}, func(s sanlockwire.State) error {
			a.record(s)
			return nil
		})
	})))
}

// logDump exits with 1, as stock's: its result is the number of bytes.
func (a *asker) logDump() int {
	var log []byte
	err := a.once(func(c *client.Conn) (err error) {
		log, err = c.LogDump(a.ctx)
		return err
	})
	if err == nil && len(log) > 0 {
		fmt.Fprintf(a.out, "%s\n", strings.TrimRight(string(log), "\x00"))
	}
	return 1
}

func (a *asker) version() int {
	var version, protocol uint32
	err := a.once(func(c *client.Conn) (err error) {
		version, protocol, err = c.Version(a.ctx)
		return err
	})
	if err != nil {
		fmt.Fprintf(a.out, "daemon version error %d\n", number(err))
	}
	const ours = sanlockwire.DaemonVersion
	fmt.Fprintf(a.out, "client version %s (0x%08x)\n", dotted(ours), ours)
	fmt.Fprintf(a.out, "daemon version %s (0x%08x)\n", dotted(version), version)
	fmt.Fprintf(a.out, "client socket protocol %d.%d\n", sanlockwire.Protocol>>16, sanlockwire.Protocol&0xFFFF)
	fmt.Fprintf(a.out, "daemon socket protocol %d.%d\n", protocol>>16, protocol&0xFFFF)
	return 0
}

// dotted writes a version of one byte each from the top.
func dotted(v uint32) string { return fmt.Sprintf("%d.%d.%d", v>>24, v>>16&0xFF, v>>8&0xFF) }

// read prints what lies on a device.
func (a *asker) read() int {
	if l, ok := a.storage(); ok {
		return a.readSpace(l)
	}
	if r, ok := a.resource(); ok {
		return a.readResource(r)
	}
	return a.readError(errMissing)
}

func (a *asker) readError(err error) int {
	fmt.Fprintf(a.out, "read error %d\n", number(err))
	return 1
}

func (a *asker) readSpace(l sanlockwire.Lockspace) int {
	var ioTimeout uint32
	err := a.once(func(c *client.Conn) (err error) {
		l, ioTimeout, err = c.ReadLockspace(a.ctx, l)
		return err
	})
	if err != nil {
		return a.readError(err)
	}
	fmt.Fprintf(a.out, "s %s\n", plain(l))
	if a.Debug {
		fmt.Fprintf(a.out, "io_timeout %d\n", ioTimeout)
		a.sizesOf(l.Flags)
	}
	return 0
}

func (a *asker) readResource(r sanlockwire.Resource) int {
	var hosts []sanlockwire.Host
	err := a.once(func(c *client.Conn) (err error) {
		if a.ShowHosts {
			r, hosts, err = c.ReadResourceOwners(a.ctx, r)
		} else {
			r, err = c.ReadResource(a.ctx, r)
		}
		return err
	})
	if err != nil {
		return a.readError(err)
	}
	fmt.Fprintf(a.out, "r %s\n", sanlockwire.FormatResource(r))
	if a.Debug {
		a.sizesOf(r.Flags)
	}
	for _, h := range hosts {
		if h.Timestamp != 0 {
			fmt.Fprintf(a.out, "h %d gen %d timestamp %d\n", h.HostID, h.Generation, h.Timestamp)
		} else {
			fmt.Fprintf(a.out, "h %d gen %d\n", h.HostID, h.Generation)
		}
	}
	return 0
}

// sizesOf prints the sizes that a lease was found to have.
func (a *asker) sizesOf(flags uint32) {
	sector, align := 0, 0
	switch {
	case flags&sanlockwire.Sector512 != 0:
		sector = 512
	case flags&sanlockwire.Sector4K != 0:
		sector = 4096
	}
	for i, f := range []uint32{
		sanlockwire.Align1M, sanlockwire.Align2M, sanlockwire.Align4M, sanlockwire.Align8M,
	} {
		if flags&f != 0 {
			align = 1 << (20 + i)
		}
	}
	fmt.Fprintf(a.out, "sector_size %d\nalign_size %d\n", sector, align)
}
