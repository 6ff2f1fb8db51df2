package lvmlockctl

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// connectWait bounds how long the daemon may take to say hello. How long it takes for anything else is its business.
const connectWait = 30 * time.Second

// client is a connection to lvmlockd.
type client struct {
	conn   net.Conn
	reader *lvmwire.Reader
}

// connect says hello.
func connect(path string) (*client, error) {
	conn, err := net.DialTimeout("unix", path, connectWait)
	if err != nil {
		return nil, fmt.Errorf("%s: connect failed: %s", path, reason(err))
	}
	c := &client{conn: conn, reader: lvmwire.NewReader(conn)}
	err = conn.SetDeadline(time.Now().Add(connectWait))
	if err == nil {
		_, err = c.ask(lvmwire.Request{Name: "hello"})
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// reason is an errno as strerror words it.
func reason(err error) string {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	text := errno.Error()
	return string(text[0]-'a'+'A') + text[1:]
}

// ask sends a request and waits for the answer.
func (c *client) ask(r lvmwire.Request) (lvmwire.Reply, error) {
	r.PID = os.Getpid()
	r.Cmd = "lvmlockctl"
	if _, err := c.conn.Write(r.Append(nil, lvmwire.Dialect40)); err != nil {
		return lvmwire.Reply{}, fmt.Errorf("send %s: %w", r.Name, err)
	}
	body, err := c.reader.Next()
	if err != nil {
		return lvmwire.Reply{}, fmt.Errorf("answer to %s: %w", r.Name, err)
	}
	return lvmwire.DecodeReply(body)
}

func (c *client) Close() { c.conn.Close() }
