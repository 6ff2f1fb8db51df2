package client

import (
	"context"
	"strings"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// Register makes this connection the holder of leases. The daemon takes the process from the socket: the one
// that dialled. There is no answer.
func (c *Conn) Register(ctx context.Context) error {
	_, err := c.exchange(ctx, request{cmd: sanlockwire.CmdRegister})
	return err
}

// Restrict limits what may happen to this connection: sanlockwire.RestrictAll closes it to further requests,
// RestrictSigkill and RestrictSigterm keep those signals from its process. It replaces earlier limits.
func (c *Conn) Restrict(ctx context.Context, flags uint32) error {
	_, err := c.result(ctx, request{cmd: sanlockwire.CmdRestrict, flags: flags, data2: Self})
	return err
}

// Killpath names the program that is run in place of SIGTERM when the process of this connection must let go.
// flags is 0 or sanlockwire.KillpathPID, which adds the pid to the arguments.
func (c *Conn) Killpath(ctx context.Context, path, args string, flags uint32) error {
	if len(path) > sanlockwire.MaxKillpath || len(args) > sanlockwire.MaxKillpath {
		return &leases.Error{Op: "killpath", Kind: leases.TooBig, Err: errLongPath}
	}
	k := sanlockwire.Killpath{Path: path, Args: args}
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdKillpath, flags: flags, data2: Self, body: k.Append(nil),
	})
	return err
}

// Acquire takes leases, all of them or none, for a process: Self or a registered pid. flags are
// sanlockwire.Acquire…; owner is shown in status. It may take minutes when an owner must be found dead.
func (c *Conn) Acquire(
	ctx context.Context, pid, flags uint32, owner string, rs ...sanlockwire.Resource,
) error {
	if err := fits("acquire", rs); err != nil {
		return err
	}
	var body []byte
	for _, r := range rs {
		body = r.AppendWithDisks(body)
	}
	body = sanlockwire.Options{OwnerName: leases.NameOf(owner)}.Append(body)
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdAcquire, flags: flags, data: uint32(len(rs)), data2: pid, body: body,
	})
	return err
}

// Release gives leases back. flags are sanlockwire.Release…: with ReleaseAll no resource is named; with
// ReleaseRename the second is the first's new name; with ReleaseOrphan the answer is how many orphans are
// being released.
func (c *Conn) Release(ctx context.Context, pid, flags uint32, rs ...sanlockwire.Resource) (int, error) {
	if err := fits("release", rs); err != nil {
		return 0, err
	}
	var body []byte
	for _, r := range rs {
		body = r.Append(body)
	}
	return c.result(ctx, request{
		cmd: sanlockwire.CmdRelease, flags: flags, data: uint32(len(rs)), data2: pid, body: body,
	})
}

func fits(op string, rs []sanlockwire.Resource) error {
	if len(rs) > sanlockwire.MaxResources {
		return &leases.Error{Op: op, Kind: leases.TooBig, Err: errManyResources}
	}
	for _, r := range rs {
		if len(r.Disks) > sanlockwire.MaxDisks {
			return &leases.Error{
				Op: op, Space: r.Space.String(), Resource: r.Name.String(),
				Kind: leases.TooBig, Err: errManyDisks,
			}
		}
	}
	return nil
}

// Convert changes the mode of a held lease to what r's flag ResShared says. flags is 0 or
// sanlockwire.ConvertOwnerNoWait.
func (c *Conn) Convert(ctx context.Context, pid, flags uint32, r sanlockwire.Resource) error {
	_, err := c.result(ctx, request{cmd: sanlockwire.CmdConvert, flags: flags, data2: pid, body: r.Append(nil)})
	return err
}

// maxInquire bounds the text of what a process holds.
const maxInquire = 1 << 20

// Inquire returns what a process holds, with the versions of the leases.
func (c *Conn) Inquire(ctx context.Context, pid uint32) ([]sanlockwire.Resource, error) {
	text, _, err := c.InquireText(ctx, pid)
	if err != nil {
		return nil, err
	}
	return sanlockwire.ParseInquire(text)
}

// InquireText returns what a process holds as the daemon writes it, and how many leases that are.
func (c *Conn) InquireText(ctx context.Context, pid uint32) (text string, count int, err error) {
	_, err = c.result(ctx, request{
		cmd: sanlockwire.CmdInquire, data2: pid,
		answer: func(h sanlockwire.Header) error {
			count = int(h.Data2)
			p, err := c.tail(h, maxInquire)
			text, _, _ = strings.Cut(string(p), "\x00")
			return err
		},
	})
	return text, count, err
}

// SetLVB puts the value block of a lease that this host holds, at most sanlockwire.MaxValue bytes. It is
// written to the disk when the lease is released or made shared.
func (c *Conn) SetLVB(ctx context.Context, r sanlockwire.Resource, value []byte) error {
	if len(value) > sanlockwire.MaxValue {
		return &leases.Error{
			Op: "set_lvb", Space: r.Space.String(), Resource: r.Name.String(),
			Kind: leases.TooBig, Err: errLongValue,
		}
	}
	_, err := c.result(ctx, request{cmd: sanlockwire.CmdSetLVB, body: append(r.Append(nil), value...)})
	return err
}

// GetLVB returns the value block of a lease that this host holds: a whole sector.
func (c *Conn) GetLVB(ctx context.Context, r sanlockwire.Resource) ([]byte, error) {
	var value []byte
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdGetLVB, body: r.Append(nil),
		answer: func(h sanlockwire.Header) (err error) {
			value, err = c.tail(h, sanlockwire.MaxValue)
			return err
		},
	})
	return value, err
}

// Request asks the owner of a lease, through the disk, to do something: force is sanlockwire.RequestForce or
// RequestGraceful, flags is 0 or RequestNextLVer.
func (c *Conn) Request(ctx context.Context, flags, force uint32, r sanlockwire.Resource) error {
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdRequest, flags: flags, data: force, body: r.AppendWithDisks(nil),
	})
	return err
}

// ExamineResource lets the daemon look for requests of other hosts for a held lease.
func (c *Conn) ExamineResource(ctx context.Context, r sanlockwire.Resource) error {
	_, err := c.result(ctx, request{cmd: sanlockwire.CmdExamineResource, body: r.Append(nil)})
	return err
}

// WriteResource formats a lease, or with sanlockwire.WriteClear in flags makes it unusable. Stock takes the
// number of hosts from maxHosts and ignores numHosts; 0 means as many as fit.
func (c *Conn) WriteResource(
	ctx context.Context, r sanlockwire.Resource, flags, maxHosts, numHosts uint32,
) error {
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdWriteResource, flags: flags, data: maxHosts, data2: numHosts,
		body: r.AppendWithDisks(nil),
	})
	return err
}

// ReadResource reads a lease's names, version and sizes from its disks. Empty names match any.
func (c *Conn) ReadResource(ctx context.Context, r sanlockwire.Resource) (sanlockwire.Resource, error) {
	found := r
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdReadResource, body: r.AppendWithDisks(nil), answer: c.found(&found),
	})
	return found, err
}

// ReadResourceOwners reads a lease and who holds it from its disks: the owner first, then those who share it.
func (c *Conn) ReadResourceOwners(
	ctx context.Context, r sanlockwire.Resource,
) (sanlockwire.Resource, []sanlockwire.Host, error) {
	found := r
	var hosts []sanlockwire.Host
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdReadResourceOwners, body: r.AppendWithDisks(nil),
		answer: func(h sanlockwire.Header) error {
			if err := c.found(&found)(h); err != nil || h.Result() < 0 {
				return err
			}
			return c.hosts(h.Data2, &hosts)
		},
	})
	return found, hosts, err
}

// found reads a resource without disks into r, whose disks stay.
func (c *Conn) found(r *sanlockwire.Resource) func(sanlockwire.Header) error {
	return func(h sanlockwire.Header) error {
		if h.Length < sanlockwire.HeaderSize+sanlockwire.ResourceSize {
			return nil
		}
		p, err := c.read(sanlockwire.ResourceSize)
		if err != nil {
			return err
		}
		disks := r.Disks
		err = r.Decode(p)
		r.Disks = disks
		return err
	}
}
