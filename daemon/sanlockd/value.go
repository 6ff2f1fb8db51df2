package sanlockd

import (
	"context"
	"errors"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

var errNoValueBlock = errors.New("it was acquired without its value block")

// withValue calls do with a lease that is held here, by whomever, while nobody else works on it.
func (s *Server) withValue(ctx context.Context, r sanlockwire.Resource, do func(h *holding) error) error {
	refuse := func(k leases.Kind, why error) error {
		return &leases.Error{
			Op: "use the value block of", Space: r.Space.String(), Resource: r.Name.String(), Kind: k, Err: why,
		}
	}
	var result error
	err := s.await(ctx, func() bool {
		h := s.holdings[keyOf(r)]
		switch {
		case h == nil || h.list != held:
			result = refuse(leases.NotFound, errNotHeld)
		case h.busy:
			return false
		case h.grant.LVB() == nil:
			result = refuse(leases.Invalid, errNoValueBlock)
		default:
			result = do(h)
		}
		return true
	})
	if err != nil {
		return refuse(leases.Aborted, err)
	}
	return result
}

// doSetLVB changes the value block in memory; it is written when an exclusive hold ends.
func (s *Server) doSetLVB(c *client, r request) {
	var res sanlockwire.Resource
	err := res.Decode(r.body)
	if err == nil {
		value := r.body[sanlockwire.ResourceSize:]
		err = s.withValue(c.ctx, res, func(h *holding) error {
			if err := h.grant.SetLVB(value); err != nil {
				return err
			}
			h.valueSet = true
			return nil
		})
	}
	s.debugCmd(r.Cmd, "cmd_set_lvb %d,%d %s:%s done %d", c.slot, c.fd, res.Space, res.Name, resultOf(err))
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

// doGetLVB answers with the value block, or as much of it as was asked for.
func (s *Server) doGetLVB(c *client, r request) {
	var res sanlockwire.Resource
	var value []byte
	err := res.Decode(r.body)
	if err == nil {
		err = s.withValue(c.ctx, res, func(h *holding) error {
			value = h.grant.LVB()
			return nil
		})
	}
	if n := int(r.Data2); n > 0 && n < len(value) {
		value = value[:n]
	}
	s.debugCmd(r.Cmd, "cmd_get_lvb %d,%d %s:%s done %d", c.slot, c.fd, res.Space, res.Name, resultOf(err))
	s.reply(c, r.Header, resultOf(err), 0, value)
}
