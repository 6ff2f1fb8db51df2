package lvmlockctl

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

const (
	// dumpSocket is the abstract name that the daemon sends to.
	dumpSocket = "lvmlockd-dump.sock"
	// dumpWait is how long the daemon may take from one datagram to the next.
	dumpWait = 10 * time.Second
	// maxDump is more than any daemon sends, bytes.
	maxDump = 16 << 20
	// receiveBuffer lets a dump arrive that is longer than the kernel's default, bytes.
	receiveBuffer = 4 << 20
)

// dump asks for "info" or "dump" and returns the text, which comes over a socket of its own.
func (c *client) dump(name, socket string) ([]byte, error) {
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@" + socket, Net: "unixgram"})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("another lvmlockctl is printing: %w", err)
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if err := l.SetReadBuffer(receiveBuffer); err != nil {
		return nil, err
	}
	rep, err := c.ask(lvmwire.Request{Name: name})
	switch {
	case err != nil:
		return nil, err
	case rep.Result != lvmwire.OK:
		return nil, fmt.Errorf("lvmlockd answers %s with %v", name, rep.Result)
	case rep.DumpLen < 0 || rep.DumpLen > maxDump:
		return nil, fmt.Errorf("lvmlockd answers %s with a text of %d bytes", name, rep.DumpLen)
	}
	text := make([]byte, 0, rep.DumpLen)
	for len(text) < rep.DumpLen {
		if err := l.SetReadDeadline(time.Now().Add(dumpWait)); err != nil {
			return nil, err
		}
		n, err := l.Read(text[len(text):cap(text)])
		if err != nil {
			return nil, fmt.Errorf("%d of %d bytes came: %w", len(text), rep.DumpLen, err)
		}
		text = text[:len(text)+n]
	}
	return text, nil
}
