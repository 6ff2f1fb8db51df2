package sanlockcli

import (
	"fmt"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// index runs the actions on a resource index.
func (a *asker) index() (int, bool) {
	x := a.Rindex
	ask := a.once
	if x.Disk.Path == "" {
		ask = func(func(*client.Conn) error) error { return errMissing }
	}
	var found sanlockwire.REntry
	switch a.Action {
	case "format":
		x.Flags = a.SizeFlags()
		return a.done("format", ask(func(c *client.Conn) error { return c.FormatRindex(a.ctx, x) })), true
	case "rebuild":
		return a.done("rebuild", ask(func(c *client.Conn) error { return c.RebuildRindex(a.ctx, x, 0) })), true
	case "delete":
		return a.done("delete_resource", ask(func(c *client.Conn) error {
			return c.DeleteResource(a.ctx, x, a.Entry)
		})), true
	case "create":
		err := ask(func(c *client.Conn) (err error) {
			found, err = c.CreateResource(a.ctx, x, a.Entry, 0, 0)
			return err
		})
		code := a.done("create_resource", err)
		if err == nil {
			fmt.Fprintf(a.out, "offset %d\n", found.Offset)
		}
		return code, true
	case "lookup":
		err := ask(func(c *client.Conn) (err error) {
			found, err = c.LookupRindex(a.ctx, x, a.Entry, 0)
			return err
		})
		code := a.done("lookup", err)
		if err == nil {
			a.found(found)
		}
		return code, true
	case "update":
		flags := uint32(sanlockwire.IndexAdd)
		if a.Clear {
			flags = sanlockwire.IndexRemove
		}
		return a.done("update", ask(func(c *client.Conn) error {
			_, err := c.UpdateRindex(a.ctx, x, a.Entry, flags)
			return err
		})), true
	}
	return 0, false
}

func (a *asker) found(e sanlockwire.REntry) {
	name := e.Name.String()
	if name == "" {
		name = "-"
	}
	fmt.Fprintf(a.out, "name %s offset %d\n", name, e.Offset)
}
