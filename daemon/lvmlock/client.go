package lvmlock

import (
	"context"
	"sync"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// Client is one connection. What it holds for itself is given back when it is closed.
type Client struct {
	engine  *Engine
	id      ClientID
	pid, fd int
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	mu      sync.Mutex
	name    string // of the command, from its first request
	locked  bool   // it may hold something
	refused bool   // there were too many clients when it came
	failed  lvmwire.Result
	last    *grant // the LV lock that the last reply told of
}

// grant is an LV lock that was taken for a request.
type grant struct {
	space  *space
	lane   *lane
	answer Answer
}

// Connect makes a Client of a process. fd is only shown by Info.
func (e *Engine) Connect(pid, fd int) *Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastClient++
	c := &Client{engine: e, id: e.lastClient, pid: pid, fd: fd}
	c.ctx, c.cancel = context.WithCancel(e.ctx)
	if e.closed || len(e.clients) >= maxClients {
		c.refused = true
		return c
	}
	e.clients[c.id] = c
	return c
}

// Do carries a request out and returns the reply, which may take as long as another client keeps a lock. Only
// one Do of a Client may be under way. If ctx ends first the client counts as closed: nobody would hear the
// reply.
func (c *Client) Do(ctx context.Context, req lvmwire.Request) lvmwire.Reply {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	c.mu.Lock()
	if c.name == "" {
		c.name = req.Cmd
	}
	if req.Op == lvmwire.OpLock && req.Mode != lvmwire.UN {
		c.locked = true
	}
	c.last = nil
	refused := c.refused
	c.mu.Unlock()
	v := verdict{result: lvmwire.NoMemory, typ: req.Type}
	switch {
	case refused:
	case ctx.Err() != nil:
		v.result = lvmwire.Canceled
	default:
		v = c.engine.dispatch(ctx, c, req)
	}
	if ctx.Err() != nil {
		c.Close()
	}
	return c.engine.reply(ctx, req, v)
}

// Undelivered says that the last reply could not be written. If it told of an LV lock, that is given back,
// unless another client asked for the LV since (spec lvmlockd 3.6.2). Close must still be called.
func (c *Client) Undelivered() {
	c.mu.Lock()
	g := c.last
	c.last = nil
	c.mu.Unlock()
	if g != nil {
		g.space.post(func() {
			g.lane.locks.Undelivered(g.answer)
			g.space.pump(g.lane)
		})
	}
}

// Close gives back what the client holds for itself and withdraws what it asked for. It may be called more
// than once and while Do is under way.
func (c *Client) Close() {
	c.cancel()
	e := c.engine
	e.mu.Lock()
	_, known := e.clients[c.id]
	delete(e.clients, c.id)
	spaces := e.listSpaces()
	e.mu.Unlock()
	c.mu.Lock()
	locked := c.locked
	c.mu.Unlock()
	if !known || !locked {
		return
	}
	for _, s := range spaces {
		s.post(func() { s.closeClient(c.id) })
	}
}

// granted remembers what the reply to be written tells of.
func (c *Client) granted(g *grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = g
}

// fail remembers that a lockspace that this client started could not be joined.
func (c *Client) fail(r lvmwire.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == lvmwire.OK {
		c.failed = r
	}
}

// takeFailure returns what fail remembered, once.
func (c *Client) takeFailure() lvmwire.Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.failed
	c.failed = lvmwire.OK
	return r
}

// named returns the command's name for logs and dumps.
func (c *Client) named() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name
}
