package client

import (
	"context"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// Version returns the daemon's version, one byte each from the top (3.8.5 is 0x03080500), and the version of
// its protocol.
func (c *Conn) Version(ctx context.Context) (version, protocol uint32, err error) {
	h, err := c.exchange(ctx, request{cmd: sanlockwire.CmdVersion})
	if err == nil {
		err = sanlockwire.ErrorOf(h.Result())
	}
	if err != nil {
		return 0, h.Version, err
	}
	return h.Data2, h.Version, nil
}

// maxLog bounds what LogDump returns; stock's log has 1 MiB.
const maxLog = 16 << 20

// LogDump returns the daemon's log of its last deeds. The daemon closes the connection.
func (c *Conn) LogDump(ctx context.Context) ([]byte, error) {
	var log []byte
	_, err := c.result(ctx, request{cmd: sanlockwire.CmdLogDump, answer: func(h sanlockwire.Header) (err error) {
		if h.Result() > 0 {
			h.Length = sanlockwire.HeaderSize + h.Data // the one reply whose length is in data
			log, err = c.tail(h, maxLog)
		}
		return err
	}})
	return log, err
}

// Shutdown asks the daemon to exit and does not wait for an answer: there is none. Without force it is
// ignored while lockspaces are joined; with force, processes that hold leases are killed.
func (c *Conn) Shutdown(ctx context.Context, force uint32) error {
	_, err := c.exchange(ctx, request{cmd: sanlockwire.CmdShutdown, data: force})
	return err
}

// ShutdownWait asks the daemon to exit and waits until it does. Without force it is refused while lockspaces
// are joined (EBUSY).
func (c *Conn) ShutdownWait(ctx context.Context, force uint32) error {
	_, err := c.result(ctx, request{cmd: sanlockwire.CmdShutdownWait, data: force})
	return err
}

// Align returns the align size of a disk in bytes: what a lease on it takes with the default sizes.
func (c *Conn) Align(ctx context.Context, d sanlockwire.Disk) (int, error) {
	return c.result(ctx, request{cmd: sanlockwire.CmdAlign, body: d.Append(nil)})
}
