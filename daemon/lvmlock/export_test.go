package lvmlock

import "github.com/tenurelock/tenure/daemon/lvmwire"

// DoUnheard carries out a request whose client goes away just before the answer comes, unnoticed until then.
func (c *Client) DoUnheard(vg string, req lvmwire.Request) {
	p := newPending(c, req)
	p.taken.Store(true)
	s := c.engine.lookup(spaceName(vg))
	s.do(func() { s.serve(p) })
}
