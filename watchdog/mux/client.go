package mux

import (
	"math"
	"time"

	"github.com/tenurelock/tenure/leases/monotime"
)

// ID is the number of a client: the lowest that is free when it connects.
type ID int

// First is the first number given out; those below stand for the daemon's own descriptors, as in stock.
const First ID = 2

// Client is what is known of one client.
type Client struct {
	ID      ID
	Name    string
	PID, FD int
	Dead    bool             // disconnected while something was expected of it: kept for ever
	Ref     bool             // keeps the daemon from ending
	Renewed monotime.Seconds // as the client said
	Expires monotime.Seconds // no pet may come later; 0: nothing is expected
}

// Armed reports whether the client must be heard of again.
func (c *Client) Armed() bool { return c.Expires != 0 }

type client struct {
	Client
	opened bool // it counts on the device
	// due is Expires on a clock that goes on in suspend.
	due monotime.Instant
}

// life is how long the client lives from one renewal.
func (c *client) life() time.Duration { return instant(c.Expires).Sub(instant(c.Renewed)) }

// instant turns what a client said into a time. A time too far away to be counted is as far as can be.
func instant(s monotime.Seconds) monotime.Instant {
	const most = math.MaxInt64 / 4
	if s > monotime.Seconds(most/time.Second) {
		return most
	}
	return monotime.Instant(time.Duration(s) * time.Second)
}
