package interop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"
)

const (
	cmdRegEvent      = 30
	cmdEndEvent      = 31
	cmdSetEvent      = 32
	eventCurrent     = 1
	eventClear       = 4
	eventClearHost   = 2
	eventReplace     = 8
	eventAllHosts    = 16
	eventPatience    = 30 * time.Second // for an event to arrive: two renewals and some
	eventMessageSize = 80
)

// eventBody is a lockspace and a host event.
func eventBody(space string, host, generation, event, data uint64) []byte {
	b := lockspace{name: space}.body()
	for _, v := range []uint64{host, generation, event, data} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// listen opens a connection on which events of LS come.
func (n *node) listen(t *testing.T) *conn {
	t.Helper()
	c, err := dial(n.runDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // most tests close it
	must(t, n, "reg_event", 0)(c.result(cmdRegEvent, 0, 0, eventBody("LS", 0, 0, 0, 0)))
	return c
}

func (n *node) setEvent(flags uint32, host, generation, event, data uint64) (rv int32, err error) {
	err = once(n.runDir, func(c *conn) error {
		rv, err = c.result(cmdSetEvent, flags, 0, eventBody("LS", host, generation, event, data))
		return err
	})
	return rv, err
}

// event reads one event message, or nil if none comes in time.
func (c *conn) event(t *testing.T, within time.Duration) []byte {
	t.Helper()
	if err := c.c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, eventMessageSize)
	if _, err := io.ReadFull(c.c, p); err != nil {
		return nil
	}
	return p
}

// TestEvents: an event that one kind of host sets arrives at the other kind, byte for byte as stock's.
func TestEvents(t *testing.T) {
	waiting(t, 50)
	var trials []trial
	for _, sector := range []int64{512, 4096} {
		trials = append(trials, trial{fmt.Sprint(sector), func(t *testing.T) { eventsBothWays(t, sector) }})
	}
	trials = append(trials, trial{"arguments", eventArguments}, trial{"sectors", eventSectors},
		trial{"listeners", manyListeners})
	together(t, trials...)
}

func eventsBothWays(t *testing.T, sector int64) {
	d := newDisk(t, sector, 0)
	nodes := cluster(t, d.path, tenure, debian)
	for i, from := range nodes {
		to := nodes[1-i]
		ear, own := to.listen(t), from.listen(t)
		event, data := uint64(0x30+i), uint64(0x40+i)
		must(t, from, "set_event", 0)(from.setEvent(0, to.id, 5, event, data))
		got := ear.event(t, eventPatience)
		want := binary.LittleEndian.AppendUint32(nil, wireMagic)
		want = append(want, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, eventMessageSize, 0, 0, 0)
		want = append(want, make([]byte, 12)...)
		for _, v := range []uint64{to.id, 5, event, data, from.id, uint64(1 + i)} { // the second has joined twice
			want = binary.LittleEndian.AppendUint64(want, v)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s to %s: got %x, want %x", from, to, got, want)
		}
		if again := ear.event(t, eventPatience); !bytes.Equal(again, want) {
			t.Errorf("%s to %s, next renewal: got %x, want %x", from, to, again, want)
		}
		if echo := own.event(t, time.Millisecond); echo != nil {
			t.Errorf("%s hears itself: %x", from, echo)
		}
		if _, err := ear.c.Write([]byte{1, 0, 0, 0}); err != nil {
			t.Error(err)
		}
		err := once(to.runDir, func(c *conn) error {
			must(t, to, "end_event", 0)(c.result(cmdEndEvent, 0, 0, lockspace{name: "LS"}.body()))
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		for ear.event(t, 5*time.Second) != nil {
			continue // what was on its way
		}
		if _, err := ear.c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s did not hang up on a listener that wants no more: %v", to, err)
		}
		last := to.listen(t)
		to.leave(t)
		for last.event(t, eventPatience) != nil {
			continue
		}
		if _, err := last.c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s left, but its listener was not hung up on: %v", to, err)
		}
		to.join(t, d.path)
		waitFirstLook(t, nodes)
	}
	for _, n := range nodes {
		n.leave(t)
	}
}

// eventArguments: both daemons answer the same.
func eventArguments(t *testing.T) {
	var answers [2][]string
	for i, k := range []kind{debian, tenure} {
		d := newDisk(t, 512, 0)
		n := start(t, k, 1)
		n.join(t, d.path)
		for _, c := range []struct {
			cmd, flags  uint32
			space       string
			host, event uint64
		}{
			{cmdRegEvent, 0, "", 0, 0},
			{cmdRegEvent, 0, "XX", 0, 0},
			{cmdEndEvent, 0, "", 0, 0},
			{cmdEndEvent, 0, "XX", 0, 0},
			{cmdEndEvent, 0, "LS", 0, 0},
			{cmdSetEvent, 0, "", 2, 1},
			{cmdSetEvent, 0, "XX", 2, 1},
			{cmdSetEvent, 0, "XX", 0, 1},
			{cmdSetEvent, 0, "XX", 2001, 1},
			{cmdSetEvent, 0, "LS", 0, 1},
			{cmdSetEvent, 0, "LS", 2001, 1},
			{cmdSetEvent, eventClear, "LS", 0, 1},
			{cmdSetEvent, eventClear, "LS", 2001, 1},
			{cmdSetEvent, 0, "LS", 2, 1},
			{cmdSetEvent, 0, "LS", 2, 1},
			{cmdSetEvent, 0, "LS", 2, 2},
			{cmdSetEvent, eventReplace, "LS", 2, 2},
			{cmdSetEvent, 0, "LS", 3, 2},
			{cmdSetEvent, eventClearHost, "LS", 3, 7},
			{cmdSetEvent, eventAllHosts, "LS", 3, 2},
			{cmdSetEvent, 0, "LS", 1, 2},
			{cmdSetEvent, eventClear, "LS", 3, 0},
			{cmdSetEvent, 0, "LS", 3, 9},
		} {
			err := once(n.runDir, func(conn *conn) error {
				rv, err := conn.result(c.cmd, c.flags, 0, eventBody(c.space, c.host, 0, c.event, 0))
				answers[i] = append(answers[i], fmt.Sprintf("%+v: %d", c, rv))
				return err
			})
			if err != nil {
				t.Errorf("%s: %+v: %v", n, c, err)
			}
		}
		n.leave(t)
	}
	for i, want := range answers[0] {
		if got := answers[1][i]; got != want {
			t.Errorf("ours answers %s; stock %s", got, want)
		}
	}
}

// announcement is a set_event.
type announcement struct {
	name                    string
	flags                   uint32
	host, generation, event uint64
}

var announcements = []announcement{
	{"to one host", 0, 2, 0, 1},
	{"of the generation that it has", eventCurrent | eventReplace, 2, 0, 2},
	{"of a generation that is said", eventCurrent | eventReplace, 2, 9, 3},
	{"to a host that never was", eventCurrent | eventReplace, 7, 0, 3},
	{"lower one bit", eventClearHost, 2, 4, 8},
	{"to ourselves", eventCurrent | eventReplace, 1, 0, 4},
	{"to everybody", eventAllHosts | eventReplace, 3, 5, 5},
	{"lower another bit", eventClearHost, 9, 0, 0},
	{"forget the event", eventClear, 2, 6, 6},
	{"forget it and lower a bit", eventClear | eventClearHost, 11, 0, 0},
	{"number 0", 0, 12, 1, 0},
}

// eventSectors: after each set_event, the next renewal of either daemon shows the same event and raises the
// same bits.
func eventSectors(t *testing.T) {
	var shown [2][]string
	var trials []trial
	for _, k := range []kind{debian, tenure} {
		trials = append(trials, trial{k.String(), func(t *testing.T) { shown[k] = sectorsOf(t, k) }})
	}
	together(t, trials...)
	for i, a := range announcements {
		if t.Failed() {
			break
		}
		if shown[debian][i] != shown[tenure][i] {
			t.Errorf("%s: debian shows %s, ours %s", a.name, shown[debian][i], shown[tenure][i])
		}
	}
}

// sectorsOf makes the announcements on one host and returns what its sector says after each.
func sectorsOf(t *testing.T, k kind) (all []string) {
	d := newDisk(t, 512, 0)
	nodes := cluster(t, d.path, k, debian)
	nodes[1].leave(t) // the generation stays
	for _, a := range announcements {
		must(t, nodes[0], a.name, 0)(nodes[0].setEvent(a.flags, a.host, a.generation, a.event, a.event+100))
		le := binary.LittleEndian
		before := le.Uint64(d.sectorAt(t, 0, 0)[152:])
		sector := d.sectorAt(t, 0, 0)
		for le.Uint64(sector[152:]) == before {
			time.Sleep(pollPause)
			sector = d.sectorAt(t, 0, 0)
		}
		bits, last := 0, 0
		for i := range 2048 {
			if sector[256+i/8]&(1<<(i%8)) != 0 {
				bits, last = bits+1, i+1
			}
		}
		all = append(all, fmt.Sprintf("generation %d event %d data %d, %d bits, the last one for host %d, the first byte %x",
			le.Uint64(sector[176:]), le.Uint64(sector[184:]), le.Uint64(sector[192:]), bits, last, sector[256:258]))
	}
	nodes[0].leave(t)
	return all
}

// manyListeners: either daemon lets 32 connections listen and refuses one more, until one says that it wants
// no more.
func manyListeners(t *testing.T) {
	for _, k := range []kind{debian, tenure} {
		d := newDisk(t, 512, 0)
		n := start(t, k, 1)
		n.join(t, d.path)
		var ears []*conn
		for range 32 {
			ears = append(ears, n.listen(t))
		}
		more := func(want int32) {
			c, err := dial(n.runDir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() }) // the daemon may have gone
			must(t, n, "reg_event", want)(c.result(cmdRegEvent, 0, 0, eventBody("LS", 0, 0, 0, 0)))
		}
		more(-50)
		if _, err := ears[7].c.Write([]byte{1, 0, 0, 0}); err != nil {
			t.Error(err)
		}
		time.Sleep(3 * pollPause)
		more(0)
		more(-50)
		if _, err := ears[8].c.Write([]byte{2, 0, 0, 0}); err != nil { // means nothing
			t.Error(err)
		}
		time.Sleep(3 * pollPause)
		more(-50)
		n.leave(t)
		for _, c := range ears[8:] {
			if rest, err := io.ReadAll(c.c); err != nil || len(rest) > 0 {
				t.Errorf("%s left: a listener hears %x, %v", n, rest, err)
			}
		}
	}
}
