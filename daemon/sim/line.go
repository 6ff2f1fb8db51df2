package sim

import (
	"errors"
	"io"
	"net"
	"sync"

	"github.com/tenurelock/tenure/daemon/sanlockd"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// ear is a listener in memory.
type ear struct {
	calls  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newEar() *ear { return &ear{calls: make(chan net.Conn), closed: make(chan struct{})} }

// Accept implements net.Listener.
func (e *ear) Accept() (net.Conn, error) {
	select {
	case c := <-e.calls:
		return c, nil
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (e *ear) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

// Addr implements net.Listener.
func (e *ear) Addr() net.Addr { return &net.UnixAddr{Name: "sim", Net: "unix"} }

// call connects to whoever accepts; who is what the other end learns of the caller.
func (e *ear) call(who sanlockd.Process) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case e.calls <- &caller{far, who}:
		return near, nil
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

// caller is the accepting end of a connection, with the process at the other one.
type caller struct {
	net.Conn
	who sanlockd.Process
}

var errNobody = errors.New("nobody")

// peer is sanlockd.Config.Peer.
func peer(c net.Conn) (sanlockd.Process, error) {
	if p, ok := c.(*caller); ok && p.who != nil {
		return p.who, nil
	}
	return nil, errNobody
}

// line is a connection to a lease daemon.
type line struct{ net.Conn }

func (h *Host) dial(who sanlockd.Process) (*line, error) {
	c, err := h.ear.call(who)
	return &line{c}, err
}

func (l *line) send(cmd, flags, data uint32, body []byte) error {
	h := sanlockwire.NewHeader(cmd, flags, len(body), data, sanlockwire.Self)
	_, err := l.Write(append(h.Append(nil), body...))
	return err
}

// ask does one exchange whose answer is a header.
func (l *line) ask(cmd, flags, data uint32, body []byte) (int32, error) {
	if err := l.send(cmd, flags, data, body); err != nil {
		return 0, err
	}
	var raw [sanlockwire.HeaderSize]byte
	if _, err := io.ReadFull(l, raw[:]); err != nil {
		return 0, err
	}
	var h sanlockwire.Header
	if err := h.Decode(raw[:]); err != nil {
		return 0, err
	}
	return h.Result(), nil
}
