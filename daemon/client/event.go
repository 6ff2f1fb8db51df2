package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

var (
	errLongPath      = fmt.Errorf("path and arguments have at most %d bytes each", sanlockwire.MaxKillpath)
	errManyResources = fmt.Errorf("at most %d resources in one request", sanlockwire.MaxResources)
	errManyDisks     = fmt.Errorf("a resource has at most %d disks", sanlockwire.MaxDisks)
	errLongValue     = fmt.Errorf("a value has at most %d bytes", sanlockwire.MaxValue)
)

// SetEvent sends an event to another host through our host lease: within two renewals on either side it comes
// to those who registered there. flags are sanlockwire.Event….
func (c *Conn) SetEvent(
	ctx context.Context, space sanlockwire.Lockspace, e sanlockwire.HostEvent, flags uint32,
) error {
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdSetEvent, flags: flags, body: e.Append(space.Append(nil)),
	})
	return err
}

// RegEvent makes this connection one on which events of a joined lockspace come; from then on it takes only
// NextEvent and EndEvents.
func (c *Conn) RegEvent(ctx context.Context, space sanlockwire.Lockspace) error {
	_, err := c.result(ctx, request{
		cmd: sanlockwire.CmdRegEvent, body: sanlockwire.HostEvent{}.Append(space.Append(nil)),
	})
	return err
}

// NextEvent waits for an event; the same one comes again with each renewal of its sender as long as it is
// set. ErrHungUp means that the lockspace is gone.
func (c *Conn) NextEvent(ctx context.Context) (sanlockwire.Event, error) {
	var e sanlockwire.Event
	err := c.during(ctx, "event", func() error {
		p, err := c.read(sanlockwire.EventSize)
		if err != nil {
			return err
		}
		return e.Decode(p)
	})
	return e, err
}

// EndEvents says on the connection of RegEvent that no more events are wanted, and closes it. EndEvent, on a
// connection of its own, then lets the daemon look at it.
func (c *Conn) EndEvents(ctx context.Context) error {
	err := c.during(ctx, "end of events", func() error {
		_, err := c.c.Write(binary.LittleEndian.AppendUint32(nil, sanlockwire.EventEnd))
		return err
	})
	return errors.Join(err, c.Close())
}
