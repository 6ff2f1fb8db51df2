package interop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// More of the protocol's numbers (spec sanlock-daemon 1.5 and 1.7).
const (
	cmdShutdown      = 4
	cmdRequest       = 11
	cmdAlign         = 12
	cmdWriteSpace    = 18
	cmdWriteResource = 19
	cmdReadSpace     = 20
	cmdReadResource  = 21
	cmdGetSpaces     = 22
	cmdVersion       = 28
	cmdShutdownWait  = 29
	cmdSetConfig     = 33
	cmdRenewal       = 34
	acquireOrphan    = 2
	acquireOnly      = 4
	releaseAll       = 1
	releaseRename    = 2
	releaseOrphan    = 4
	resLVer          = 1
	resNumHosts      = 2
	resPersistent    = 8
	resultTooShort   = -90
	resultBlockRead  = -210
	resultLeaderRead = -220
	resultBadMagic   = -223
	resultChecksum   = -229
	maxClients       = 5
	maxTokens        = 7 // a RELEASE_ALL of more than 8 overflows an array in stock
)

const severalDisks = "a transfer that fails on most of several disks"

// step is one operation on both sides.
type step struct {
	text     string
	from     int // the client that says it; -1: a connection of its own
	target   int // the client whose pid goes into data2; -1: none
	m        order
	act      func() string // in place of a message; returns a complaint
	after    func()
	question bool // it changes nothing and may be asked again
	thorough bool // compare bitmaps too: waits for renewals
	// row returns the row of COMPATIBILITY.md that allows these two results to differ.
	row func(stock, ours int32) string
}

func (s step) explained(a [2]answer) string {
	if s.row == nil || a[debian].err != "" || a[tenure].err != "" {
		return ""
	}
	if s.m.cmd == cmdReadOwners && onlyMarksMore(a[debian].body, a[tenure].body) {
		return "the mark of a sharer that is gone stays"
	}
	return s.row(int32(a[debian].Data), int32(a[tenure].Data))
}

// onlyMarksMore reports whether two lists of owners differ in nothing but other hosts' marks that ours still has on
// its disk. What lies on the disks is compared after every step: sameForeign allows the same.
func onlyMarksMore(stock, ours []byte) bool {
	const about, each = 128, 32
	if len(stock) < about || len(ours) <= len(stock) || !bytes.Equal(stock[:about], ours[:about]) {
		return false
	}
	stock, ours = stock[about:], ours[about:]
	for ; len(ours) >= each; ours = ours[each:] {
		switch {
		case len(stock) >= each && quad(stock, 0) == quad(ours, 0) && quad(stock, 8) == quad(ours, 8):
			stock = stock[each:]
		case quad(ours, 0) == differID:
			return false
		}
	}
	return len(stock) == 0
}

func commandName(m order) string {
	c, ok := sanlockwire.CommandOf(m.cmd)
	if !ok || m.unanswered && m.cmd != cmdRegister && m.cmd != cmdShutdown {
		return "dropped"
	}
	return c.Name
}

// spot is a lease's place; its second and later disks, if it has any, lie on plate f.
type spot struct {
	space, name string
	plate, area int
	mirrors     int
}

// spots are the leases that the twins begin with.
var spots = []spot{
	{"LSA", "RA1", 0, 1, 0},
	{"LSA", "RA2", 0, 2, 0},
	{"LSA", "RA3", 0, 3, 0},
	{"LSA", "RA4", 0, 4, 0},
	{"LSA", "RA5", 0, 5, 2},
	{"LSB", "RB1", 1, 1, 0},
	{"LSB", "RB2", 1, 2, 0},
	{"LSC", "RC1", 2, 1, 0},
	{"LSC", "RC2", 2, 2, 0},
	{"LSC", "RC3", 2, 3, 0},
	{"LSC", "RC4", 2, 4, 0},
}

// scratch are areas that no lease is in use on.
var scratch = []spot{
	{"LSA", "SA1", 0, 6, 0},
	{"SPARE", "SA2", 0, 7, 0},
	{"SPARE", "SB", 1, 3, 0},
	{"LSC", "SC", 2, 5, 0},
	{"LSA", "SF", 3, 2, 0},
}

var spaces = []string{"LSA", "LSB", "LSC"}

// generator draws the steps. What it draws depends on the seed and on the model alone.
type generator struct {
	w     *world
	rng   *rand.Rand
	queue []step // what must come next
}

func (g *generator) chance(percent int) bool { return g.rng.IntN(100) < percent }

func pick[T any](g *generator, of ...T) T { return of[g.rng.IntN(len(of))] }

func (g *generator) order(cmd uint32) order {
	return order{cmd: cmd, magic: wireMagic, version: 1}
}

// name is what an area's leader says now, so that a renamed lease is not lost for the sequence.
func (g *generator) name(s spot) string {
	at := int64(s.area) * plates[s.plate].align
	leader := g.w.twins[debian].images[s.plate][at:]
	if word(leader, 0) == paxosMagic && text48(leader, 104) != "" {
		return text48(leader, 104)
	}
	return s.name
}

func (g *generator) spot() spot {
	s := pick(g, spots...)
	s.name = g.name(s)
	return s
}

// resource builds a sanlk_resource with its disks.
type resourceArgs struct {
	spot
	flags, data32 uint32
	lver          uint64
	disks         int // -1: as the spot has
	path          string
	shift         uint64
}

func (g *generator) args(s spot) resourceArgs { return resourceArgs{spot: s, disks: -1} }

func (r resourceArgs) bytes(disks bool) []byte {
	p := make([]byte, 128)
	copy(p[0:48], r.space)
	copy(p[48:96], r.name)
	n := 1 + r.mirrors
	if r.disks >= 0 {
		n = r.disks
	}
	binary.LittleEndian.PutUint64(p[96:], r.lver)
	binary.LittleEndian.PutUint32(p[112:], r.data32)
	binary.LittleEndian.PutUint32(p[120:], r.flags)
	binary.LittleEndian.PutUint32(p[124:], uint32(n))
	for i := 0; disks && i < n; i++ {
		path, offset := plates[r.plate].name, uint64(int64(r.area)*plates[r.plate].align)
		if i > 0 {
			path, offset = "f", uint64(i-1)<<20
		}
		if r.path != "" {
			path = r.path
		}
		p = appendDisk(p, strings.TrimPrefix(path, "-"), int64(offset+r.shift))
	}
	return p
}

func (r resourceArgs) String() string {
	s := fmt.Sprintf("%s:%s:%s:%d", r.space, r.name, plates[r.plate].name, r.area)
	if r.flags != 0 {
		s += fmt.Sprintf(" flags %x", r.flags)
	}
	if r.lver != 0 {
		s += fmt.Sprintf(" lver %d", r.lver)
	}
	if r.data32 != 0 {
		s += fmt.Sprintf(" data32 %d", r.data32)
	}
	if r.disks >= 0 {
		s += fmt.Sprintf(" disks %d", r.disks)
	}
	if r.path != "" || r.shift != 0 {
		s += fmt.Sprintf(" path %q shift %d", r.path, r.shift)
	}
	return s
}

// spaceArgs builds a sanlk_lockspace.
type spaceArgs struct {
	name   string
	host   uint64
	flags  uint32
	path   string
	offset uint64
}

func (l spaceArgs) bytes() []byte {
	p := make([]byte, 64)
	copy(p[:48], l.name)
	binary.LittleEndian.PutUint64(p[48:], l.host)
	binary.LittleEndian.PutUint32(p[56:], l.flags)
	return appendDisk(p, l.path, int64(l.offset))
}

func (l spaceArgs) String() string {
	return fmt.Sprintf("%s:%d:%s:%d flags %x", l.name, l.host, l.path, l.offset, l.flags)
}

func spaceOn(i int) spaceArgs {
	return spaceArgs{name: spaces[i], host: differID, path: plates[i].name}
}

// say is a step that is a message from a client, or from nobody.
func (g *generator) say(from int, m order, format string, args ...any) step {
	text := commandName(m) + " " + fmt.Sprintf(format, args...)
	if from >= 0 {
		text = fmt.Sprintf("client %d: %s", from, text)
	}
	return step{text: text, from: from, target: -1, m: m}
}

// someone picks a client that can speak for itself; -1 if there is none.
func (g *generator) someone() int {
	var can []int
	for i, p := range g.w.parties {
		if p != nil && !p.silenced {
			can = append(can, i)
		}
	}
	if len(can) == 0 {
		return -1
	}
	return pick(g, can...)
}

// address makes a command about a client: on its own connection, or by its pid on another.
func (g *generator) address(about int, m order, format string, args ...any) step {
	if g.w.parties[about].silenced || g.chance(12) {
		s := g.say(-1, m, format, args...)
		s.target, s.text = about, s.text+fmt.Sprintf(" (for client %d)", about)
		return s
	}
	if g.chance(4) { // for nobody
		m.data2 = 0x7FFFFFF0
		return g.say(about, m, format+" (for nobody)", args...)
	}
	m.data2 = sanlockwire.Self
	return g.say(about, m, format, args...)
}

// anyone picks a client, also one that is not heard any more.
func (g *generator) anyone() int {
	var can []int
	for i, p := range g.w.parties {
		if p != nil {
			can = append(can, i)
		}
	}
	if len(can) == 0 {
		return -1
	}
	return pick(g, can...)
}

// next draws a step.
func (g *generator) next() step {
	for {
		if len(g.queue) > 0 {
			s := g.queue[0]
			g.queue = g.queue[1:]
			return s
		}
		total := 0
		for _, d := range draws {
			total += d.weight
		}
		n := g.rng.IntN(total)
		for _, d := range draws {
			if n -= d.weight; n < 0 {
				if s, ok := d.draw(g); ok {
					return s
				}
				break
			}
		}
	}
}

// draws are the kinds of steps; one that makes no sense now says so.
var draws = []struct {
	weight int
	draw   func(g *generator) (step, bool)
}{
	{60, (*generator).connect},
	{18, (*generator).disconnect},
	{260, (*generator).acquire},
	{200, (*generator).release},
	{70, (*generator).convert},
	{50, (*generator).inquire},
	{50, (*generator).setLVB},
	{50, (*generator).getLVB},
	{40, (*generator).request},
	{15, (*generator).killpath},
	{15, (*generator).restrict},
	{15, (*generator).setConfig},
	{40, (*generator).readResource},
	{40, (*generator).readOwners},
	{20, (*generator).readSpace},
	{45, (*generator).writeResource},
	{10, (*generator).writeSpace},
	{10, (*generator).align},
	{25, (*generator).getHosts},
	{10, (*generator).getSpaces},
	{10, (*generator).hostStatus},
	{5, (*generator).renewal},
	{10, (*generator).status},
	{10, (*generator).inqSpace},
	{6, (*generator).badAdd},
	{6, (*generator).badRem},
	{2, (*generator).rejoin},
	{6, (*generator).dropped},
	{6, (*generator).version},
	{4, (*generator).shutdown},
	{30, (*generator).foreign},
	{20, (*generator).damage},
	{1, (*generator).quiet},
	{60, (*generator).index},
	{25, (*generator).examine},
	{4, (*generator).event},
	{3, (*generator).hear},
}

func (g *generator) connect() (step, bool) {
	slot := -1
	for i := range maxClients {
		if i >= len(g.w.parties) {
			g.w.parties = append(g.w.parties, nil)
		}
		if slot < 0 && g.w.parties[i] == nil {
			slot = i
		}
	}
	if slot < 0 {
		return step{}, false
	}
	register := g.order(cmdRegister)
	register.unanswered = true
	s := g.say(slot, register, "")
	return step{text: fmt.Sprintf("client %d connects", slot), act: func() string {
		p, complaint := &party{}, [2]string{}
		g.w.both(func(k kind) {
			q, err := spawn(g.w.twins[k].runDir)
			if err != nil {
				complaint[k] = err.Error()
			}
			p.procs[k] = q
		})
		if c := complaint[0] + complaint[1]; c != "" {
			return c
		}
		g.w.parties[slot] = p
		a := g.w.ask(s)
		return a[debian].err + a[tenure].err
	}}, true
}

func (g *generator) disconnect() (step, bool) {
	c := g.anyone()
	if c < 0 {
		return step{}, false
	}
	return step{text: fmt.Sprintf("client %d ends", c), act: func() string {
		g.w.drop(c)
		return ""
	}}, true
}

// acquire asks for one or more leases, most of them possible.
func (g *generator) acquire() (step, bool) {
	c := g.anyone()
	if c < 0 || len(g.w.model.of(c)) >= maxTokens {
		return step{}, false
	}
	m := g.order(cmdAcquire)
	m.flags = acquireNoWait
	if g.chance(12) {
		m.flags |= acquireOrphan
	}
	n := pick(g, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3)
	switch {
	case g.chance(1):
		n = 0
	case g.chance(1):
		n = 9
	}
	value := g.chance(35)
	var body []byte
	var texts []string
	var asked []spot
	for range n {
		r := g.wanted()
		asked = append(asked, r.spot)
		value = value && r.space != "LSC" // its areas have no room: COMPATIBILITY.md, value block
		body = append(body, r.bytes(true)...)
		texts = append(texts, r.String())
	}
	if value {
		m.flags |= acquireLVB
		if g.chance(6) {
			m.flags |= acquireOnly // alone it does not mean what it says in stock: spec 2.3
		}
	}
	m.data = uint32(n)
	options := make([]byte, 56)
	if g.chance(20) {
		copy(options, pick(g, "lvmlockd", "a name", strings.Repeat("o", 48)))
	}
	m.body = append(body, options...)
	s := g.address(c, m, "flags %x of %s", m.flags, strings.Join(texts, ", "))
	s.after = func() { g.w.level(asked) }
	s.row = func(stock, ours int32) string {
		if stock == resultHeld && ours == resultOwnedRetry || stock == resultOwnedRetry && ours == resultHeld {
			return "after our own join every owner looks alive for one renewal"
		}
		if (stock == resultBlockRead || stock == resultLeaderRead) && ours < 0 && ours > resultTooShort-1 {
			return severalDisks
		}
		record := ours <= resultLeaderRead && ours >= resultChecksum
		if (stock == resultTooShort || stock == resultBlockRead) && record {
			return "the first look of an acquire reads a whole area"
		}
		return ""
	}
	return s, true
}

// wanted draws a lease to ask for.
func (g *generator) wanted() resourceArgs {
	s := g.spot()
	for range 3 { // rather one that is free
		if g.w.model.tokens(s.space, s.name) == 0 {
			break
		}
		s = g.spot()
	}
	r := g.args(s)
	if g.chance(40) {
		r.flags |= resShared
	}
	if g.chance(15) {
		r.flags |= resPersistent
	}
	if g.chance(8) {
		r.flags |= resLVer
		r.lver = uint64(g.rng.IntN(8))
	}
	if g.chance(3) {
		r.flags |= resNumHosts
		r.data32 = pick[uint32](g, 8, 100, 250) // not fewer than share it: COMPATIBILITY.md, num_hosts
	}
	if g.chance(5) {
		r.flags |= pick[uint32](g, 0x10, 0x80, 0x100, 0x200, 0x210, 0x400, 0x80000000)
	}
	if g.chance(10) {
		g.spoil(&r)
	}
	return r
}

// spoil makes one thing of a resource wrong.
func (g *generator) spoil(r *resourceArgs) {
	switch g.rng.IntN(8) {
	case 0:
		// With fewer disks than the request of a lease shared here, stock's INQUIRE shows what memory holds.
		if r.name = pick(g, "NOPE", "", "RA1", "ra1"); r.name == "RA1" {
			r.mirrors = 0
		}
	case 1:
		r.space = pick(g, "LSX", "", "LSA", "LSB")
	case 2:
		r.path = pick(g, "nope", "-", "nope/a", "/")
	case 3:
		r.shift = 1 << 30
	case 4:
		r.shift = pick[uint64](g, 512, 4096, 100)
	case 5:
		r.disks = pick(g, 0, 5)
	case 6:
		if r.mirrors == 0 { // else the other disks decide, and the lockspace is written over
			r.area = 0
		}
	case 7:
		s := pick(g, scratch...)
		r.plate, r.area, r.mirrors = s.plate, s.area, 0
	}
}

// heldBy draws one of the leases of a client.
func (g *generator) heldBy(c int) (held, bool) {
	hs := g.w.model.of(c)
	if len(hs) == 0 {
		return held{}, false
	}
	return pick(g, hs...), true
}

func (g *generator) release() (step, bool) {
	c := g.anyone()
	if c < 0 {
		return step{}, false
	}
	m := g.order(cmdRelease)
	h, ok := g.heldBy(c)
	switch n := g.rng.IntN(100); {
	case n < 12:
		m.flags = releaseAll
		return g.address(c, m, "all"), true
	case n < 22:
		return g.releaseOrphan(c, m), true
	case n < 28 && ok && !h.shared:
		m.flags, m.data = releaseRename, 2
		r := resourceArgs{spot: spot{space: h.space, name: h.name}}
		to := r
		to.name = pick(g, "renamed", strings.TrimSuffix(h.name, "x")+"x", strings.Repeat("n", 47))
		to.name = to.name[:min(len(to.name), 47)] // with 48 bytes stock's INQUIRE runs on into other memory
		for _, s := range spots {
			if g.name(s) == to.name { // two leases of one name would be one to the daemons
				return step{}, false
			}
		}
		m.body = append(r.bytes(false), to.bytes(false)...)
		return g.address(c, m, "%s:%s as %s", h.space, h.name, to.name), true
	}
	if !ok && g.chance(80) {
		return step{}, false
	}
	var body []byte
	var texts []string
	for m.data = range uint32(1 + g.rng.IntN(3)/2) {
		r := resourceArgs{spot: spot{space: h.space, name: h.name}}
		if !ok || g.chance(8) {
			s := g.spot()
			r.space, r.name = s.space, s.name
		}
		body = append(body, r.bytes(false)...)
		texts = append(texts, r.space+":"+r.name)
		h, ok = g.heldBy(c)
	}
	m.data++
	m.body = body
	return g.address(c, m, "%s", strings.Join(texts, ", ")), true
}

func (g *generator) releaseOrphan(c int, m order) step {
	m.flags, m.data = releaseOrphan, 1
	s := g.spot()
	for _, h := range g.w.model.leases {
		if h.list == "orphan" {
			s.space, s.name = h.space, h.name
		}
	}
	r := resourceArgs{spot: s}
	if g.chance(40) {
		r.name = ""
	}
	m.body = r.bytes(false)
	return g.address(c, m, "orphan %s:%s", r.space, r.name)
}

func (g *generator) convert() (step, bool) {
	c := g.anyone()
	if c < 0 {
		return step{}, false
	}
	h, ok := g.heldBy(c)
	if !ok && g.chance(90) {
		return step{}, false
	}
	r := resourceArgs{spot: spot{space: h.space, name: h.name}}
	if !ok {
		r.spot = g.spot()
	}
	if h.shared == g.chance(15) {
		r.flags = resShared
	}
	if h.shared && r.flags == 0 && g.w.model.tokens(h.space, h.name) > 1 {
		return step{}, false // COMPATIBILITY.md: a conversion does not look at other holders here
	}
	if h.shared && r.flags == 0 && g.sharedElsewhere(h) {
		return step{}, false // refused by both, but only stock has made a version of that: see level
	}
	m := g.order(cmdConvert)
	m.flags = acquireNoWait
	m.body = r.bytes(false)
	return g.address(c, m, "%s:%s flags %x", r.space, r.name, r.flags), true
}

func (g *generator) inquire() (step, bool) {
	c := g.anyone()
	if c < 0 {
		return step{}, false
	}
	s := g.address(c, g.order(cmdInquire), "")
	s.question = true
	return s, true
}

// someLease is the name of a lease, rather of one that is held.
func (g *generator) someLease() resourceArgs {
	s := g.spot()
	r := resourceArgs{spot: s}
	if hs := g.w.model.leases; len(hs) > 0 && g.chance(85) {
		h := pick(g, hs...)
		r.space, r.name = h.space, h.name
	}
	return r
}

func (g *generator) setLVB() (step, bool) {
	r := g.someLease()
	m := g.order(cmdSetLVB)
	n := pick(g, 1, 7, 8, 100, 511, 512, 513, 1000, 4095, 4096, 4097, 5000)
	value := bytes.Repeat([]byte{byte(1 + g.rng.IntN(255))}, n)
	m.body = append(r.bytes(false), value...)
	if n > 4096 { // stock leaves it unread: what follows on the connection is not understood
		m.last = true
		return g.say(-1, m, "%s:%s %d bytes", r.space, r.name, n), true
	}
	return g.say(g.speaker(), m, "%s:%s %d bytes of %x", r.space, r.name, n, value[0]), true
}

// speaker is a client or, more often, nobody in particular.
func (g *generator) speaker() int {
	if g.chance(30) {
		return g.someone()
	}
	return -1
}

// about is a message whose body is one resource with its disks, said by anybody. Stock leaves the disks of a
// resource with a wrong number of them unread, and does not understand what follows on the connection.
func (g *generator) about(r resourceArgs, m order, format string, args ...any) step {
	m.body = r.bytes(true)
	if r.disks >= 0 {
		m.last = true
		return g.say(-1, m, format, args...)
	}
	return g.say(g.speaker(), m, format, args...)
}

func (g *generator) getLVB() (step, bool) {
	r := g.someLease()
	m := g.order(cmdGetLVB)
	m.data2 = pick[uint32](g, 0, 0, 0, 1, 7, 8, 100, 511, 512)
	m.body = r.bytes(false)
	return g.say(g.speaker(), m, "%s:%s %d bytes", r.space, r.name, m.data2), true
}

func (g *generator) request() (step, bool) {
	r := g.args(g.spot())
	r.lver = pick[uint64](g, 0, 0, 1, 2, 5, 10, 100)
	if g.chance(15) {
		g.spoil(&r)
	}
	m := g.order(cmdRequest)
	m.flags = pick[uint32](g, 0, 1)
	m.data = pick[uint32](g, 0, 1, 2, 3)
	s := g.about(r, m, "%s flags %x force %d", r, m.flags, m.data)
	s.row = func(stock, ours int32) string {
		if stock == resultLeaderRead && ours < 0 {
			return severalDisks
		}
		wrong := stock == -22 || stock == -270 || stock == resultTooShort
		if wrong && ours <= resultBadMagic && ours >= resultChecksum {
			return "a request is read and reset at the sizes of the leader"
		}
		return ""
	}
	return s, true
}

func (g *generator) killpath() (step, bool) {
	c := g.someone()
	if c < 0 {
		return step{}, false
	}
	m := g.order(cmdKillpath)
	m.flags, m.data2 = pick[uint32](g, 0, 1), sanlockwire.Self
	m.body = make([]byte, 256)
	copy(m.body, pick(g, "/bin/true", "", strings.Repeat("k", 128)))
	copy(m.body[128:], pick(g, "a b c", "", `one\ two`))
	return g.say(c, m, "flags %x %s", m.flags, shorten(m.body)), true
}

func (g *generator) restrict() (step, bool) {
	c := g.someone()
	if c < 0 {
		return step{}, false
	}
	m := g.order(cmdRestrict)
	m.flags, m.data2 = pick[uint32](g, 0, 2, 4, 6, 2, 4), sanlockwire.Self
	s := g.say(c, m, "")
	if g.chance(10) {
		s.m.flags |= 1
		s.m.last = true
		s.after = func() { g.w.parties[c].silenced = true }
	}
	s.text += fmt.Sprintf("flags %x", s.m.flags)
	return s, true
}

// setConfig leaves no mark behind that would keep a lockspace from being left.
func (g *generator) setConfig() (step, bool) {
	m := g.order(cmdSetConfig)
	m.closes = true
	m.data = pick[uint32](g, 1, 2, 4, 8, 0, 3, 9, 16)
	m.data2 = pick[uint32](g, 0, 0, 77)
	name := pick(g, "LSA", "LSB", "LSC", "LSX", "")
	m.body = spaceArgs{name: name}.bytes()
	s := g.say(-1, m, "%s %d", name, m.data)
	if m.data == 1 || m.data == 4 {
		undo := m
		undo.data *= 2
		g.queue = append(g.queue, g.say(-1, undo, "%s %d", name, undo.data))
	}
	return s, true
}
