package client

import (
	"context"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// FormatRindex writes an empty resource index.
func (c *Conn) FormatRindex(ctx context.Context, x sanlockwire.Rindex) error {
	_, err := c.result(ctx, request{cmd: sanlockwire.CmdFormatRindex, body: x.Append(nil)})
	return err
}

// RebuildRindex writes a resource index anew from the leases that are found. flags is 0 or
// sanlockwire.IndexNoLockspace.
func (c *Conn) RebuildRindex(ctx context.Context, x sanlockwire.Rindex, flags uint32) error {
	_, err := c.result(ctx, request{cmd: sanlockwire.CmdRebuildRindex, flags: flags, body: x.Append(nil)})
	return err
}

// UpdateRindex adds or removes an entry: flags has sanlockwire.IndexAdd or IndexRemove, and may have
// IndexNoLockspace.
func (c *Conn) UpdateRindex(
	ctx context.Context, x sanlockwire.Rindex, e sanlockwire.REntry, flags uint32,
) (sanlockwire.REntry, error) {
	return c.entry(ctx, request{cmd: sanlockwire.CmdUpdateRindex, flags: flags}, x, e)
}

// LookupRindex finds the offset of a name, the name at an offset, or, with neither, a free offset.
func (c *Conn) LookupRindex(
	ctx context.Context, x sanlockwire.Rindex, e sanlockwire.REntry, flags uint32,
) (sanlockwire.REntry, error) {
	r := request{cmd: sanlockwire.CmdLookupRindex, flags: flags, overstate: sanlockwire.REntrySize}
	return c.entry(ctx, r, x, e)
}

// CreateResource formats a lease at a free offset and enters it into the index. numHosts 0 means as many as
// fit.
func (c *Conn) CreateResource(
	ctx context.Context, x sanlockwire.Rindex, e sanlockwire.REntry, maxHosts, numHosts uint32,
) (sanlockwire.REntry, error) {
	return c.entry(ctx, request{cmd: sanlockwire.CmdCreateResource, data: maxHosts, data2: numHosts}, x, e)
}

// DeleteResource makes a lease unusable and takes it out of the index.
func (c *Conn) DeleteResource(ctx context.Context, x sanlockwire.Rindex, e sanlockwire.REntry) error {
	_, err := c.entry(ctx, request{cmd: sanlockwire.CmdDeleteResource}, x, e)
	return err
}

func (c *Conn) entry(
	ctx context.Context, r request, x sanlockwire.Rindex, e sanlockwire.REntry,
) (sanlockwire.REntry, error) {
	var found sanlockwire.REntry
	r.body = e.Append(x.Append(nil))
	r.answer = func(h sanlockwire.Header) error {
		if h.Length < sanlockwire.HeaderSize+sanlockwire.REntrySize {
			return nil
		}
		p, err := c.read(sanlockwire.REntrySize)
		if err != nil {
			return err
		}
		return found.Decode(p)
	}
	_, err := c.result(ctx, r)
	return found, err
}
