package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// AddLockspace joins a lockspace with l's host id, which takes seconds to minutes. ioTimeout is in seconds, 0
// the daemon's default. flags is 0 or sanlockwire.AddAsync: then the answer comes at once, and InqLockspace
// tells how it went.
func (c *Conn) AddLockspace(ctx context.Context, l sanlockwire.Lockspace, ioTimeout, flags uint32) error {
	return c.lockspace(ctx, sanlockwire.CmdAddLockspace, l, flags, ioTimeout, 0)
}

// RemLockspace leaves a lockspace. Processes that hold leases in it are killed, unless flags has
// sanlockwire.RemoveIdle: then they are a reason to refuse (EBUSY).
func (c *Conn) RemLockspace(ctx context.Context, l sanlockwire.Lockspace, flags uint32) error {
	return c.lockspace(ctx, sanlockwire.CmdRemLockspace, l, flags, 0, 0)
}

// InqLockspace returns nil when the lockspace is joined, ENOENT when it is unknown, EINPROGRESS while it is
// being added or removed; sanlockwire.InquireWait in flags waits for the end of that.
func (c *Conn) InqLockspace(ctx context.Context, l sanlockwire.Lockspace, flags uint32) error {
	return c.lockspace(ctx, sanlockwire.CmdInqLockspace, l, flags, 0, 0)
}

// WriteLockspace formats a lockspace. ioTimeout is what is written into every slot, in seconds, 0 the
// daemon's default; maxHosts is ignored by stock.
func (c *Conn) WriteLockspace(
	ctx context.Context, l sanlockwire.Lockspace, maxHosts, ioTimeout uint32,
) error {
	return c.lockspace(ctx, sanlockwire.CmdWriteLockspace, l, 0, maxHosts, ioTimeout)
}

// SetConfig marks a joined lockspace as used or unused; config is one of sanlockwire.Config….
func (c *Conn) SetConfig(ctx context.Context, space sanlockwire.Lockspace, config uint32) error {
	return c.lockspace(ctx, sanlockwire.CmdSetConfig, space, 0, config, 0)
}

// ExamineLockspace lets the daemon look for requests of other hosts for every lease held in the lockspace.
func (c *Conn) ExamineLockspace(ctx context.Context, space sanlockwire.Lockspace) error {
	return c.lockspace(ctx, sanlockwire.CmdExamineLockspace, space, 0, 0, 0)
}

// EndEvent tells the daemon that the events of a lockspace are no longer waited for; see RegEvent.
func (c *Conn) EndEvent(ctx context.Context, space sanlockwire.Lockspace) error {
	return c.lockspace(ctx, sanlockwire.CmdEndEvent, space, 0, 0, 0)
}

func (c *Conn) lockspace(
	ctx context.Context, cmd uint32, l sanlockwire.Lockspace, flags, data, data2 uint32,
) error {
	_, err := c.result(ctx, request{cmd: cmd, flags: flags, data: data, data2: data2, body: l.Append(nil)})
	return err
}

// ReadLockspace reads a slot of a lockspace from its disk and returns the lockspace with what was found
// there, and the io_timeout of that slot in seconds. Host id 0 reads slot 1, an empty name matches any.
func (c *Conn) ReadLockspace(
	ctx context.Context, l sanlockwire.Lockspace,
) (sanlockwire.Lockspace, uint32, error) {
	var found sanlockwire.Lockspace
	var ioTimeout uint32
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdReadLockspace, body: l.Append(nil),
		answer: func(h sanlockwire.Header) error {
			ioTimeout = h.Data2
			if h.Length < sanlockwire.HeaderSize+sanlockwire.LockspaceSize {
				return nil
			}
			p, err := c.read(sanlockwire.LockspaceSize)
			if err != nil {
				return err
			}
			return found.Decode(p)
		},
	})
	return found, ioTimeout, err
}

// maxList bounds the lockspaces and hosts of one answer.
const maxList = 1 << 16

// GetLockspaces returns the lockspaces that are joined, being removed or being added, as their flags tell.
// The daemon closes the connection.
func (c *Conn) GetLockspaces(ctx context.Context) ([]sanlockwire.Lockspace, error) {
	var all []sanlockwire.Lockspace
	_, err := c.result(ctx, request{cmd: sanlockwire.CmdGetLockspaces, answer: func(h sanlockwire.Header) error {
		if h.Result() < 0 {
			return nil
		}
		return c.list(h.Data2, sanlockwire.LockspaceSize, func(p []byte) error {
			all = append(all, sanlockwire.Lockspace{})
			return all[len(all)-1].Decode(p)
		})
	}})
	return all, err
}

// GetHosts returns the hosts of a joined lockspace: all that were ever seen, or the one that hostID names.
// The error is EAGAIN until the first renewal. The daemon closes the connection.
func (c *Conn) GetHosts(
	ctx context.Context, space sanlockwire.Lockspace, flags uint32,
) ([]sanlockwire.Host, error) {
	var hosts []sanlockwire.Host
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdGetHosts, flags: flags, body: space.Append(nil),
		answer: func(h sanlockwire.Header) error {
			if h.Result() < 0 {
				return nil
			}
			return c.hosts(h.Data2, &hosts)
		},
	})
	return hosts, err
}

func (c *Conn) hosts(n uint32, hosts *[]sanlockwire.Host) error {
	return c.list(n, sanlockwire.HostSize, func(p []byte) error {
		var h sanlockwire.Host
		err := h.Decode(p)
		*hosts = append(*hosts, h)
		return err
	})
}

// list reads n structures of the given size.
func (c *Conn) list(n uint32, size int, add func(p []byte) error) error {
	if n > maxList {
		return fmt.Errorf("an answer of %d entries; at most %d are possible", n, maxList)
	}
	for range n {
		p, err := c.read(size)
		if err != nil {
			return err
		}
		if err := add(p); err != nil {
			return err
		}
	}
	return nil
}

// Status calls each with the daemon's records, in order: itself, its clients, lockspaces and resources;
// filter is one of sanlockwire.Status…. An error of each ends it. The daemon closes the connection.
func (c *Conn) Status(ctx context.Context, filter uint32, each func(sanlockwire.State) error) error {
	return c.states(ctx, request{cmd: sanlockwire.CmdStatus, data: filter}, each)
}

// HostStatus calls each with what the daemon knows of the hosts of a lockspace. The daemon closes the
// connection.
func (c *Conn) HostStatus(
	ctx context.Context, space sanlockwire.Lockspace, each func(sanlockwire.State) error,
) error {
	r := request{cmd: sanlockwire.CmdHostStatus, body: space.Append(nil), understate: true}
	return c.states(ctx, r, each)
}

// Renewals calls each with the renewals of a lockspace, oldest first. The daemon closes the connection.
func (c *Conn) Renewals(
	ctx context.Context, space sanlockwire.Lockspace, each func(sanlockwire.State) error,
) error {
	r := request{cmd: sanlockwire.CmdRenewal, body: space.Append(nil), understate: true}
	return c.states(ctx, r, each)
}

func (c *Conn) states(ctx context.Context, r request, each func(sanlockwire.State) error) error {
	r.answer = func(h sanlockwire.Header) error {
		if h.Result() < 0 {
			return nil
		}
		for {
			s, err := sanlockwire.ReadState(c.c)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := each(s); err != nil {
				return err
			}
		}
	}
	_, err := c.result(ctx, r)
	return err
}
