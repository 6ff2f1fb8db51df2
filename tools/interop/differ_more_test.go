package interop

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// prepare formats the twins' disks and joins the lockspaces: the comparison begins with the first byte.
func (w *world) prepare() {
	g := w.gen
	for i, p := range plates[:len(spaces)] {
		l := spaceOn(i)
		l.flags = sizes(p)
		m := g.order(cmdWriteSpace)
		m.data2, m.body = differIO, l.bytes()
		w.play(g.say(-1, m, "%s", l))
	}
	for _, s := range append(append([]spot(nil), spots...), scratch[0]) {
		r := g.args(s)
		r.flags = sizes(plates[s.plate])
		m := g.order(cmdWriteResource)
		m.body = r.bytes(true)
		w.play(g.say(-1, m, "%s", r))
	}
	w.play(g.formatIndex())
	if w.t.Failed() {
		return
	}
	w.neighbour(liveHost, 1)
	w.neighbour(deadHost, 1000)
	w.neighbour(freeHost, 0)
	w.beaten = time.Now()
	for i := range spaces { // one after the other: status shows the order
		w.join(i)
	}
}

// sizes are the flags that state a plate's sizes.
func sizes(p plate) uint32 {
	flags := uint32(0x100)
	if p.sector == 4096 {
		flags = 0x200
	}
	return flags | uint32(p.align>>20)<<4
}

// join adds a lockspace and waits until its hosts are known.
func (w *world) join(i int) {
	g := w.gen
	add := g.order(cmdAddLockspace)
	add.flags, add.data, add.body = 1, differIO, spaceOn(i).bytes()
	wait := g.order(cmdInqLockspace)
	wait.flags, wait.body = 1, spaceOn(i).bytes()
	hosts := g.order(cmdGetHosts)
	hosts.closes, hosts.body = true, spaceOn(i).bytes()
	s := g.say(-1, add, "%s, and wait", spaces[i])
	s.after = func() {
		w.until(g.say(-1, wait, "%s", spaces[i]), func(a answer) bool { return a.Data == 0 })
		w.until(g.say(-1, hosts, "%s", spaces[i]), func(a answer) bool { return a.Data == 0 })
		w.joined[i] = time.Now()
	}
	w.play(s)
}

// until asks both until both answer as wanted.
func (w *world) until(s step, good func(answer) bool) {
	for deadline := time.Now().Add(settleWait); ; time.Sleep(50 * time.Millisecond) {
		a := w.ask(s)
		if good(a[debian]) && good(a[tenure]) {
			return
		}
		if time.Now().After(deadline) {
			w.fail(fmt.Sprintf("%s: debian %s; tenure %s", s.text,
				a[debian].spell(s.m.cmd, nil), a[tenure].spell(s.m.cmd, nil)))
			return
		}
		w.beat()
	}
}

// lookedAt draws a resource to look at: a lease, or what may be one.
func (g *generator) lookedAt() resourceArgs {
	r := g.args(g.spot())
	if g.chance(25) {
		r.spot = pick(g, scratch...)
	}
	if g.chance(25) {
		g.spoil(&r)
	}
	if g.chance(30) {
		r.flags = pick(g, sizes(plates[0]), sizes(plates[1]), sizes(plates[2]), 0x100, 0x200, 0x10, resShared)
	}
	return r
}

func (g *generator) readResource() (step, bool) {
	r := g.lookedAt()
	if g.chance(30) {
		r.name = ""
		if g.chance(50) {
			r.space = ""
		}
	}
	s := g.about(r, g.order(cmdReadResource), "%s", r)
	s.question, s.row = true, r.withinSector
	return s, true
}

func (g *generator) readOwners() (step, bool) {
	r := g.lookedAt()
	s := g.about(r, g.order(cmdReadOwners), "%s", r)
	s.question, s.row = true, r.withinSector
	return s, true
}

func (g *generator) someSpace() spaceArgs {
	l := spaceOn(g.rng.IntN(len(spaces)))
	switch g.rng.IntN(12) {
	case 0:
		l.name = pick(g, "LSX", "LSA", "")
	case 1:
		l.path = pick(g, "nope", "", "f", "/")
	case 2:
		l.offset = pick[uint64](g, 1<<20, 512, 1<<30)
	case 3:
		l.host = pick[uint64](g, 0, 2, 3, 4, 5, 250)
	case 4:
		l.flags = pick(g, sizes(plates[0]), sizes(plates[1]), sizes(plates[2]), 0x100, 0x200)
	}
	return l
}

func (g *generator) readSpace() (step, bool) {
	l := g.someSpace()
	m := g.order(cmdReadSpace)
	m.body = l.bytes()
	s := g.say(g.speaker(), m, "%s", l)
	s.question = true
	return s, true
}

// writeResource formats or clears an area: one without a lease in use.
func (g *generator) writeResource() (step, bool) {
	s := pick(g, scratch...)
	if g.chance(50) {
		s = pick(g, spots...)
		if g.w.model.tokens(s.space, g.name(s)) > 0 || g.w.model.tokens(s.space, s.name) > 0 {
			return step{}, false
		}
	}
	r := g.args(s)
	r.flags = sizes(plates[s.plate])
	m := g.order(cmdWriteResource)
	if g.chance(15) {
		m.flags = 1
	}
	m.data, m.data2 = pick[uint32](g, 0, 0, 0, 0, 5, 200, 5000), pick[uint32](g, 0, 0, 3)
	if g.chance(15) {
		r.flags = pick[uint32](g, 0, 0x100, 0x10, 0x120, 0x300, 0x230)
		// The default of plate c's sectors is larger than its areas, and a lease of other sizes than its
		// lockspace's stock reads at the wrong ones first.
		if r.flags == 0 && s.plate == 2 || r.flags == 0x230 && s.plate < len(spaces) {
			return step{}, false
		}
	}
	if g.chance(5) {
		r.path = pick(g, "nope", "-")
	}
	if g.chance(3) {
		r.disks = pick(g, 0, 5)
	}
	return g.about(r, m, "%s flags %x num_hosts %d", r, m.flags, m.data), true
}

func (g *generator) writeSpace() (step, bool) {
	s := pick(g, scratch...)
	l := spaceArgs{
		name: s.space, host: 1, path: plates[s.plate].name, offset: uint64(int64(s.area) * plates[s.plate].align),
		flags: sizes(plates[s.plate]),
	}
	switch g.rng.IntN(8) {
	case 0:
		l.flags = pick[uint32](g, 0x100, 0x10, 0x120, 0x230)
	case 1:
		l.path = pick(g, "", "nope")
	case 2:
		l.name = strings.Repeat("l", 48)
	}
	m := g.order(cmdWriteSpace)
	m.data, m.data2 = pick[uint32](g, 0, 7), pick[uint32](g, 0, 1, 10, 255)
	m.body = l.bytes()
	return g.say(g.speaker(), m, "%s io_timeout %d", l, m.data2), true
}

func (g *generator) align() (step, bool) {
	path := pick(g, "a", "b", "c", "f", "nope", "", "/", "/dev/null")
	m := g.order(cmdAlign)
	m.body = appendDisk(nil, path, 0)
	return g.say(g.speaker(), m, "%q", path), true
}

func (g *generator) getHosts() (step, bool) {
	l := spaceArgs{name: pick(g, "LSA", "LSB", "LSC", "LSX", "")}
	l.host = pick[uint64](g, 0, 0, 1, 2, 3, 4, 5, 250, 251, 2000, 2001, 1<<40)
	m := g.order(cmdGetHosts)
	m.closes, m.body = true, l.bytes()
	s := g.say(-1, m, "%s", l)
	s.question = true
	return s, true
}

func (g *generator) getSpaces() (step, bool) {
	m := g.order(cmdGetSpaces)
	m.closes = true
	s := g.say(-1, m, "")
	s.question = true
	return s, true
}

func (g *generator) hostStatus() (step, bool) {
	m := g.order(cmdHostStatus)
	l := spaceArgs{name: pick(g, "LSA", "LSB", "LSC", "LSX", "")}
	m.closes, m.length, m.body = true, 32, l.bytes()
	s := g.say(-1, m, "%s", l)
	s.question = true
	return s, true
}

func (g *generator) renewal() (step, bool) {
	m := g.order(cmdRenewal)
	l := spaceArgs{name: pick(g, "LSA", "LSB", "LSC", "LSX", "")}
	m.closes, m.length, m.body = true, 32, l.bytes()
	s := g.say(-1, m, "%s", l)
	s.question = true
	return s, true
}

func (g *generator) status() (step, bool) {
	m := g.order(cmdStatus)
	m.closes, m.data = true, pick[uint32](g, 0, 1, 2, 3, 4)
	s := g.say(-1, m, "%d", m.data)
	s.question = true
	return s, true
}

func (g *generator) inqSpace() (step, bool) {
	l := g.someSpace()
	m := g.order(cmdInqLockspace)
	m.flags, m.body = pick[uint32](g, 0, 1), l.bytes()
	s := g.say(g.speaker(), m, "%s flags %x", l, m.flags)
	s.question = true
	return s, true
}

// badAdd tries to add a lockspace that is there already, or cannot be there.
func (g *generator) badAdd() (step, bool) {
	i := g.rng.IntN(len(spaces))
	l := spaceOn(i)
	switch g.rng.IntN(9) {
	case 0:
		l.host = 2
	case 1:
		l.offset = 1 << 20
	case 2:
		l.name = "OTHER"
	case 3:
		l.name = ""
	case 4:
		l.host = 0
	case 5:
		l.path = ""
	case 6:
		l.name, l.path = "OTHER", "nope"
	case 7:
		l.name, l.offset = "OTHER", 2*uint64(plates[i].align) // a lease, not a lockspace
	}
	m := g.order(cmdAddLockspace)
	m.data, m.body = differIO, l.bytes()
	return g.say(g.speaker(), m, "%s", l), true
}

// badRem tries to remove a lockspace that is not there, or that is in use.
func (g *generator) badRem() (step, bool) {
	m := g.order(cmdRemLockspace)
	l := spaceOn(g.rng.IntN(len(spaces)))
	for _, h := range g.w.model.leases {
		if h.space == l.name && g.chance(50) {
			m.flags, m.body = 2, l.bytes()
			return g.say(g.speaker(), m, "%s unused", l), true
		}
	}
	switch g.rng.IntN(4) {
	case 0:
		l.name = pick(g, "LSX", "")
	case 1:
		l.path = "nope"
	case 2:
		l.offset = 512
	case 3:
		l.host = 2
	}
	m.flags, m.body = pick[uint32](g, 0, 1, 2), l.bytes()
	return g.say(g.speaker(), m, "%s flags %x", l, m.flags), true
}

// rejoin leaves a lockspace, which kills its users, and joins it again.
func (g *generator) rejoin() (step, bool) {
	i := g.rng.IntN(len(spaces))
	g.w.joined[i] = time.Time{}
	m := g.order(cmdRemLockspace)
	m.flags, m.body = pick[uint32](g, 0, 1), spaceOn(i).bytes()
	s := g.say(-1, m, "%s flags %x", spaces[i], m.flags)
	s.after = g.w.leaveBehind
	if m.flags == 1 {
		wait := g.order(cmdInqLockspace)
		wait.flags, wait.body = 1, spaceOn(i).bytes()
		gone := g.say(-1, wait, "%s wait", spaces[i])
		s.after = func() {
			g.w.until(gone, func(a answer) bool { return int32(a.Data) == -2 })
			g.w.leaveBehind()
		}
	}
	unused := g.say(-1, g.order(cmdVersion), "between")
	join := step{text: "join " + spaces[i], act: func() string {
		g.w.join(i)
		return ""
	}}
	g.queue = append(g.queue, unused, join)
	return s, true
}

// dropped is a header that is none: no answer, and the connection goes on.
func (g *generator) dropped() (step, bool) {
	m := g.order(pick[uint32](g, 0, 41, 999, 0xFFFFFFFF, cmdInquire))
	if m.cmd == cmdInquire {
		if m.magic = 0x04282011; g.chance(50) {
			m.magic, m.version = wireMagic, 0x00020001
		}
	}
	m.unanswered = true
	return g.say(g.speaker(), m, "cmd %d version %x", m.cmd, m.version), true
}

func (g *generator) version() (step, bool) {
	m := g.order(cmdVersion)
	m.seq, m.flags, m.data = 7, 3, 9
	m.version = pick[uint32](g, 0, 1, 2, 0x00050000)
	return g.say(g.speaker(), m, "version %x", m.version), true
}

// shutdown is refused as long as there are lockspaces.
func (g *generator) shutdown() (step, bool) {
	if len(g.w.model.spaces) == 0 {
		return step{}, false
	}
	m := g.order(pick[uint32](g, cmdShutdown, cmdShutdownWait))
	m.unanswered = m.cmd == cmdShutdown
	m.last = m.unanswered
	return g.say(-1, m, ""), true
}

// free draws a lease that nobody has here.
func (g *generator) free() (spot, bool) {
	s := g.spot()
	at := int64(s.area) * plates[s.plate].align
	leader := g.w.twins[debian].images[s.plate][at:]
	ok := s.mirrors == 0 && g.w.model.tokens(s.space, s.name) == 0 && word(leader, 0) == paxosMagic &&
		quad(leader, 16) >= freeHost
	return s, ok
}

// foreign makes a neighbour take, share or give back a lease.
func (g *generator) foreign() (step, bool) {
	s, ok := g.free()
	if !ok {
		return step{}, false
	}
	id := pick(g, liveHost, liveHost, deadHost, freeHost)
	n := g.rng.IntN(6)
	if n == 3 && id == freeHost {
		return step{}, false // its mark is left alone by us and cleared by stock, and READ_RESOURCE_OWNERS lists it
	}
	what := [...]string{"owns", "owns", "has given back", "shares", "shares no more", "asks for"}[n]
	return step{text: fmt.Sprintf("host %d %s %s:%s", id, what, s.space, s.name), act: func() string {
		put := binary.LittleEndian.PutUint32
		switch n {
		case 0, 1:
			g.w.own(s.plate, s.area, id, uint64(time.Now().Unix()))
		case 2:
			g.w.own(s.plate, s.area, id, 0)
		case 3, 4:
			g.w.block(s.plate, s.area, id, func(b []byte) {
				put(b[128:], uint32(4-n))
				binary.LittleEndian.PutUint64(b[136:], 5)
			})
		case 5:
			g.w.asks(s, 2)
		}
		return ""
	}}, true
}

// asks writes a request record: the next version but one, by the given force.
func (w *world) asks(s spot, force uint32) {
	for _, tw := range w.twins {
		p := plates[s.plate]
		at := int64(s.area)*p.align + p.sector
		b := tw.images[s.plate][at : at+p.sector]
		lver := quad(tw.images[s.plate][at-p.sector:], 48)
		binary.LittleEndian.PutUint64(b[8:], lver+1)
		binary.LittleEndian.PutUint32(b[16:], force)
	}
}

// damage makes a sector of a free lease wrong, and later right again.
func (g *generator) damage() (step, bool) {
	s, ok := g.free()
	if !ok {
		return step{}, false
	}
	n := g.rng.IntN(7)
	what := [...]string{"checksum", "magic", "version", "space name", "host block", "request", "num_hosts"}[n]
	text := fmt.Sprintf("%s of %s:%s", what, s.space, s.name)
	flip := func() string {
		switch n {
		case 4:
			g.w.block(s.plate, s.area, liveHost, func(b []byte) { b[0] ^= 0x55 })
		case 5:
			g.w.block(s.plate, s.area, 0, func(b []byte) { b[0] ^= 0x55 })
		default:
			at := [...]int{168, 0, 6, 56, 0, 0, 17}[n]
			g.w.leader(s.plate, s.area, func(b []byte) { b[at] ^= 0x55 }, n > 1)
		}
		return ""
	}
	if n == 6 { // fewer hosts than there are: our id is still among them
		flip = func() string {
			g.w.leader(s.plate, s.area, func(b []byte) { binary.LittleEndian.PutUint64(b[16:], 5) }, true)
			return ""
		}
	}
	for range 1 + g.rng.IntN(4) {
		r := g.args(s)
		if g.chance(40) {
			r.flags = resShared
		}
		m := g.order(pick[uint32](g, cmdReadResource, cmdReadOwners, cmdRequest, cmdAcquire, cmdAcquire))
		m.body = r.bytes(true)
		if m.cmd == cmdAcquire {
			c := g.someone()
			if c < 0 || len(g.w.model.of(c)) >= maxTokens {
				continue
			}
			m.data, m.data2, m.flags = 1, sanlockwire.Self, acquireNoWait
			m.body = append(m.body, make([]byte, 56)...)
			g.queue = append(g.queue, g.say(c, m, "%s", r))
			continue
		}
		g.queue = append(g.queue, g.say(-1, m, "%s", r))
	}
	if n != 6 {
		g.queue = append(g.queue, step{text: "mend the " + text, act: flip})
	}
	return step{text: "damage the " + text, act: flip}, true
}

// quiet waits until also the bitmaps agree.
func (g *generator) quiet() (step, bool) {
	return step{text: "wait for renewals", thorough: true, act: func() string { return "" }}, true
}
