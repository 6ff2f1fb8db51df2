package sim

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockd"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// Bounds of a socket.
const (
	backlog  = 128  // connections that were not accepted yet
	buffered = 1024 // messages that were not read yet, in each direction
)

// ear is a process's listening socket.
type ear struct {
	owner  *process
	calls  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func listen(owner *process) *ear {
	e := &ear{owner: owner, calls: make(chan net.Conn, backlog), closed: make(chan struct{})}
	owner.owns(e)
	return e
}

// Accept implements net.Listener.
func (e *ear) Accept() (net.Conn, error) {
	select {
	case c := <-e.calls:
		if err := e.owner.wait(); err != nil {
			return nil, net.ErrClosed
		}
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

// call connects a process to the owner; who is what the owner learns of it. As with a unix socket, what was
// sent before an end closed is read before that is learned, and a process that is stopped neither sends nor
// reads, which its peer does not notice.
func (e *ear) call(from *process, who sanlockd.Process) (net.Conn, error) {
	near, there := net.Pipe()
	here, far := net.Pipe()
	select {
	case <-e.closed:
		return nil, net.ErrClosed
	default:
	}
	from.owns(near)
	e.owner.owns(far)
	e.calls <- &caller{far, who}
	go carry(here, there, from, e.owner)
	go carry(there, here, e.owner, from)
	return near, nil
}

// carry brings what one process sends to another, and then the end.
func carry(dst, src net.Conn, from, to *process) {
	queue := make(chan []byte, buffered)
	go func() {
		defer dst.Close()
		for p := range queue {
			time.Sleep(to.lateness())
			if to.wait() == nil {
				_, _ = dst.Write(p) // nobody reads any more if that fails
			}
		}
	}()
	defer close(queue)
	for {
		p := make([]byte, 1<<12)
		n, err := src.Read(p)
		if from.wait() == nil && n > 0 {
			queue <- p[:n]
		}
		if err != nil {
			return
		}
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
