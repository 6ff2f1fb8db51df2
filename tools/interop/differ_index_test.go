package interop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// The resource index of the twins lies at the beginning of plate d, with room for so many resources behind it
// and its lease.
const (
	indexPlate   = 4
	indexEntries = 6
	indexName    = "d"
)

// formatIndex makes the index, or makes it anew.
func (g *generator) formatIndex() step {
	return g.askIndex(indexAsk{cmd: cmdFormatRindex, sizes: sizes(plates[indexPlate]), max: indexEntries})
}

// askIndex is a request about the index. After it nothing is sent on its connection: the length of LOOKUP is not
// that of its body.
func (g *generator) askIndex(a indexAsk) step {
	if a.space == "" {
		a.space = "LSA"
	}
	m := g.order(a.cmd)
	m.flags, m.data, m.data2, m.last = a.flags, a.data, a.data2, true
	m.body = a.body(&twin{disk: disk{path: indexName}})
	if m.length = 32 + len(m.body); a.cmd == cmdLookupRindex {
		m.length += 64 // as the library says
	}
	return g.say(-1, m, "%s", a)
}

// index draws a request about the index. Offsets that have no entry are left out: stock reads beyond its buffer.
func (g *generator) index() (step, bool) {
	p := plates[indexPlate]
	a := indexAsk{
		cmd: pick[uint32](g, cmdUpdateRindex, cmdLookupRindex, cmdLookupRindex, cmdCreateResource, cmdCreateResource,
			cmdDeleteResource, cmdDeleteResource, cmdRebuildRindex),
		name: pick(g, "i1", "i2", "i3", "i4", "i5", "i6", "i7", ""),
	}
	if index := g.w.twins[debian].images[indexPlate][:p.align]; a.cmd == cmdCreateResource && a.name != "" &&
		bytes.Contains(index, []byte(a.name+"\x00")) {
		a.cmd = cmdLookupRindex // stock makes a second entry of the name
	}
	entry := p.align * int64(2+g.rng.IntN(indexEntries))
	switch a.cmd {
	case cmdUpdateRindex:
		a.flags, a.offset = pick[uint32](g, rxAdd, rxAdd, rxRemove, rxRemove, 0, rxAdd|rxRemove), entry
	case cmdLookupRindex, cmdDeleteResource:
		if g.chance(30) {
			a.offset = entry
		}
	case cmdCreateResource:
		a.data, a.data2 = pick[uint32](g, 0, 0, 7, 250), pick[uint32](g, 0, 0, 16, 3000)
	}
	switch {
	case g.chance(2):
		return g.formatIndex(), true
	case g.chance(3):
		a.space = pick(g, "LSX", "LSB")
	case g.chance(3):
		a.path = pick(g, "nope", "-", "/")
	case g.chance(3):
		a.at = pick(g, 512, p.align, p.align*p.areas)
	case g.chance(10) && a.cmd != cmdCreateResource && a.cmd != cmdDeleteResource:
		a.flags |= rxNoLockspace
	}
	return g.askIndex(a), true
}

// examine lets the holder of a lease, or of all leases of a lockspace, see whether it is asked for. Who has to go
// then goes after the answer.
func (g *generator) examine() (step, bool) {
	m := g.order(sanlockwire.CmdExamineResource)
	r := g.someLease()
	m.body = r.bytes(false)
	s := g.say(g.speaker(), m, "%s:%s", r.space, r.name)
	if g.chance(40) {
		m.cmd = sanlockwire.CmdExamineLockspace
		r.space, r.name = pick(g, "LSA", "LSB", "LSC", "LSX", ""), ""
		m.body = spaceArgs{name: r.space}.bytes()
		s = g.say(s.from, m, "%s", r.space)
	}
	s.after = g.w.letGo
	return s, !g.endsDaemon(r.space, r.name)
}

// endsDaemon reports whether stock would send a signal to its own process group: a lease, or with no name one of the
// lockspace, that was shared here is asked for (COMPATIBILITY.md).
func (g *generator) endsDaemon(space, name string) bool {
	return g.asked(func(lease [2]string) bool {
		return lease[0] == space && (name == "" || lease[1] == name) && g.w.model.nameless[lease]
	})
}

// asked reports whether somebody wants one of the leases, by space and name, for which of says yes.
func (g *generator) asked(of func(lease [2]string) bool) bool {
	return slices.ContainsFunc(spots, func(s spot) bool {
		p := plates[s.plate]
		request := g.w.twins[debian].images[s.plate][int64(s.area)*p.align+p.sector:]
		return word(request, 16) != 0 && of([2]string{s.space, g.name(s)})
	})
}

// letGo gives the daemons time to look at a request, and the processes that they signal to end.
func (w *world) letGo() { time.Sleep(300 * time.Millisecond) }

// event announces something to a host. The daemons show it with their next renewals, which are waited for: until
// then the next announcement may be refused.
func (g *generator) event() (step, bool) {
	m := g.order(cmdSetEvent)
	i := g.rng.IntN(len(spaces))
	space := pick(g, spaces[i], spaces[i], spaces[i], spaces[i], "LSX", "")
	m.flags = pick[uint32](g, 0, eventReplace, eventReplace|eventCurrent, eventReplace|eventAllHosts, eventClear,
		eventClearHost, eventClear|eventClearHost)
	host := pick[uint64](g, 1, liveHost, liveHost, deadHost, freeHost, 9, 0, 2000, 2001)
	generation, event := pick[uint64](g, 0, 5, 9), pick[uint64](g, 0, 1, 2, 3)
	m.body = eventBody(space, host, generation, event, event+100)
	s := g.say(-1, m, "%s host %d generation %d event %d flags %x", space, host, generation, event, m.flags)
	s.after = func() { g.w.renewed(i, 2) }
	return s, true
}

// renewed waits until both daemons have renewed a lockspace so many times more.
func (w *world) renewed(i, times int) {
	stamp := func(k kind) uint64 { return quad(w.twins[k].images[i], 152) }
	for range times {
		before := [2]uint64{stamp(debian), stamp(tenure)}
		deadline := time.Now().Add(settleWait)
		for (stamp(debian) == before[debian] || stamp(tenure) == before[tenure]) && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
			w.beat()
		}
	}
}

// hear lets a connection listen to a lockspace, and the living neighbour announce an event there: both daemons
// must tell the same of it, and hang up on a listener that wants no more.
func (g *generator) hear() (step, bool) {
	held := map[[2]string]bool{}
	for _, h := range g.w.model.leases {
		held[[2]string{h.space, h.name}] = true
	}
	if g.asked(func(lease [2]string) bool { return held[lease] }) {
		return step{}, false // the announcement also calls for a look at requests, unless there was one a short time ago
	}
	i := g.rng.IntN(len(spaces))
	number := 1 + g.rng.Uint64N(1<<40)
	return step{text: fmt.Sprintf("host %d announces %x in %s", liveHost, number, spaces[i]), act: func() string {
		var heard [2]string
		told := make(chan struct{})
		go func() {
			g.w.both(func(k kind) { heard[k] = g.w.hear(k, spaces[i]) })
			close(told)
		}()
		for waiting := true; waiting; {
			g.w.neighbour(liveHost, uint64(time.Now().Unix()), differID)
			g.w.announced(number)
			select {
			case <-told:
				waiting = false
			case <-time.After(beatEvery):
			}
		}
		g.w.neighbour(liveHost, uint64(time.Now().Unix()))
		g.w.letGo()
		if heard[debian] != heard[tenure] {
			return "the events:\n" + difference(heard[debian], heard[tenure])
		}
		g.w.count["event"]++
		return ""
	}}, true
}

// announced puts an event into the living neighbour's sectors. Their checksums do not cover it.
func (w *world) announced(number uint64) {
	for _, tw := range w.twins {
		for i, p := range plates {
			if p.file {
				continue
			}
			for k, v := range []uint64{5, number, number + 1} { // generation, event, data
				binary.LittleEndian.PutUint64(tw.images[i][int64(liveHost-1)*p.sector+176+int64(8*k):], v)
			}
		}
	}
}

// hear registers a listener and returns what it hears first, and how it ends.
func (w *world) hear(k kind, space string) string {
	c, err := dial(w.twins[k].runDir)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.c.SetDeadline(time.Now().Add(settleWait))
	rv, err := c.result(cmdRegEvent, 0, 0, eventBody(space, 0, 0, 0, 0))
	if err != nil || rv != 0 {
		return fmt.Sprintf("reg_event: %d, %v", rv, err)
	}
	p := make([]byte, eventMessageSize)
	if _, err := io.ReadFull(c.c, p); err != nil {
		return fmt.Sprintf("event: %v", err)
	}
	if _, err := c.c.Write([]byte{1, 0, 0, 0}); err != nil {
		return err.Error()
	}
	err = once(w.twins[k].runDir, func(c *conn) (err error) {
		rv, err = c.result(cmdEndEvent, 0, 0, lockspace{name: space}.body())
		return err
	})
	if err != nil {
		return err.Error()
	}
	rest, err := io.ReadAll(c.c)
	return fmt.Sprintf("%x\nend_event %d\nwhole messages to the end: %v, %v", p, rv, len(rest)%eventMessageSize == 0, err)
}
