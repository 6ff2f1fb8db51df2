package interop

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
)

// scene plays named steps to the twins of TestDiffer: after each, answers, status and all sectors agree.
type scene struct {
	*world
	spot
}

// connect registers a new client.
func (s scene) connect() int {
	s.t.Helper()
	step, ok := s.gen.connect()
	if !ok {
		s.t.Fatal("no room for another client")
	}
	s.play(step)
	for i := len(s.parties) - 1; ; i-- {
		if strings.HasPrefix(step.text, fmt.Sprintf("client %d ", i)) {
			return i
		}
	}
}

// end closes a client's connection.
func (s scene) end(c int) {
	s.play(step{text: fmt.Sprintf("client %d ends", c), act: func() string {
		s.drop(c)
		return ""
	}})
}

// tell plays a message and wants a result.
func (s scene) tell(c int, want int32, m order, text string) {
	s.t.Helper()
	m.data2 = 0xFFFFFFFF
	if m.cmd == cmdGetLVB {
		m.data2 = 0
	}
	answer := fmt.Sprintf("%s %d", commandName(m), want)
	before := s.count[answer]
	s.play(s.gen.say(c, m, "%s", text))
	if s.count[answer] != before+1 {
		s.fail(fmt.Sprintf("both answer otherwise than %d", want))
	}
}

func (s scene) order(cmd, flags, data uint32, body []byte) order {
	m := s.gen.order(cmd)
	m.flags, m.data, m.body = flags, data, body
	return m
}

func (s scene) args(flags uint32) resourceArgs {
	r := s.gen.args(s.spot)
	r.flags = flags
	return r
}

// acquire wants the scene's lease. res are flags of the resource, flags those of the command.
func (s scene) acquire(c int, want int32, flags, res uint32) {
	s.t.Helper()
	s.acquireAs(c, want, flags, s.args(res))
}

func (s scene) acquireAs(c int, want int32, flags uint32, r resourceArgs) {
	s.t.Helper()
	m := s.order(cmdAcquire, flags|acquireNoWait, 1, append(r.bytes(true), make([]byte, 56)...))
	s.tell(c, want, m, fmt.Sprintf("flags %x of %s", flags, r))
}

func (s scene) release(c int, want int32) {
	s.t.Helper()
	s.tell(c, want, s.order(cmdRelease, 0, 1, s.args(0).bytes(false)), s.name)
}

func (s scene) releaseOrphans(c int, want int32, name string) {
	s.t.Helper()
	r := s.args(0)
	r.name = name
	s.tell(c, want, s.order(cmdRelease, releaseOrphan, 1, r.bytes(false)), "orphans "+s.space+":"+name)
}

func (s scene) rename(c int, want int32, name string) {
	s.t.Helper()
	to := s.args(0)
	to.name = name
	body := append(s.args(0).bytes(false), to.bytes(false)...)
	s.tell(c, want, s.order(cmdRelease, releaseRename, 2, body), s.name+" as "+name)
}

func (s scene) convert(c int, want int32, res uint32) {
	s.t.Helper()
	s.tell(c, want, s.order(cmdConvert, acquireNoWait, 0, s.args(res).bytes(false)), fmt.Sprintf("%s flags %x", s.name, res))
}

func (s scene) setLVB(c int, want int32, value string) {
	s.t.Helper()
	s.tell(c, want, s.order(cmdSetLVB, 0, 0, append(s.args(0).bytes(false), value...)), fmt.Sprintf("%s %q", s.name, value))
}

func (s scene) getLVB(c int, want int32) {
	s.t.Helper()
	s.tell(c, want, s.order(cmdGetLVB, 0, 0, s.args(0).bytes(false)), s.name)
}

// version is that of the scene's lease on disk.
func (s scene) version() uint64 {
	return binary.LittleEndian.Uint64(s.twins[debian].images[s.plate][int64(s.area)*plates[s.plate].align+48:])
}

// TestResources plays every way to take, keep and give back a lease to both daemons: on sectors of 512 and of
// 4096 bytes, on one disk and on three.
func TestResources(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	working(t, 60)
	var trials []trial
	for _, i := range []int{0, 4, 5, 7} {
		at := spots[i]
		trials = append(trials, trial{at.name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.prepare()
			s := scene{w, at}
			s.persistent()
			s.orphans()
			s.sharing()
			s.versions()
			s.renamed()
			if at.space != "LSC" { // its areas have no room for a value block: COMPATIBILITY.md
				s.values()
				s.orphanValues()
			}
			w.settle(true)
		}})
	}
	together(t, trials...)
}

// persistent: a lease that outlives its client is taken on in the same mode only, and by who wants that.
func (s scene) persistent() {
	for _, mode := range []uint32{0, resShared} {
		a := s.connect()
		s.acquire(a, 0, 0, mode|resPersistent)
		s.end(a)
		b := s.connect()
		s.acquire(b, -117, 0, mode)
		s.acquire(b, -117, acquireOrphan, mode^resShared)
		s.acquire(b, -117, acquireOnly|acquireLVB, mode^resShared)
		s.acquire(b, 0, acquireOrphan, mode|resPersistent)
		s.end(b)
		c := s.connect()
		s.acquire(c, 0, acquireOnly|acquireLVB, mode)
		s.acquire(c, map[bool]int32{true: 0, false: resultExists}[mode == resShared], 0, mode)
		s.release(c, 0)
		s.release(c, map[bool]int32{true: 0, false: -1}[mode == resShared])
		s.acquire(c, -2, acquireOnly|acquireLVB, mode)
		s.acquire(c, 0, acquireOrphan, mode) // there is none, so it is a new one
		s.release(c, 0)
		s.end(c)
	}
}

// orphans: they are given back by name or all at once, also those that are shared; what is held is left alone.
func (s scene) orphans() {
	a := s.connect()
	s.acquire(a, 0, 0, resPersistent)
	b := s.connect()
	s.releaseOrphans(b, 0, s.name)
	s.end(a)
	s.releaseOrphans(b, 0, "NOPE")
	s.releaseOrphans(b, 1, s.name)
	s.releaseOrphans(b, 0, "")
	s.acquire(b, 0, 0, resShared|resPersistent)
	s.end(b)
	c := s.connect()
	s.releaseOrphans(c, 1, "")
	s.acquire(c, 0, 0, 0)
	s.release(c, 0)
	s.end(c)
}

// sharing: the last of those who share decides whether an orphan is left.
func (s scene) sharing() {
	for _, lastPersists := range []bool{false, true} {
		a, b := s.connect(), s.connect()
		s.acquire(a, 0, 0, resShared)
		s.acquire(b, 0, 0, resShared|resPersistent)
		s.acquire(b, 0, 0, resShared|resPersistent)
		first, last := b, a
		if lastPersists {
			first, last = a, b
		}
		s.end(first)
		s.end(last)
		c := s.connect()
		s.releaseOrphans(c, map[bool]int32{false: 0, true: 1}[lastPersists], s.name)
		s.acquire(c, 0, 0, resShared)
		s.convert(c, -114, resShared)
		s.convert(c, 0, 0)
		s.convert(c, -114, 0)
		s.convert(c, 0, resShared)
		s.release(c, 0)
		s.convert(c, -2, 0)
		s.end(c)
	}
}

// versions: a lease is taken at the version that is wanted or not at all, and for as many hosts as are wanted.
func (s scene) versions() {
	a := s.connect()
	wrong, right := s.args(resLVer), s.args(resLVer)
	right.lver = s.version()
	wrong.lver = right.lver + 1
	s.acquireAs(a, -240, 0, wrong)
	s.acquireAs(a, 0, 0, right)
	s.release(a, 0)
	s.acquireAs(a, -240, 0, right)
	for _, hosts := range []uint32{5, 250} {
		few := s.args(resNumHosts)
		few.data32 = hosts
		s.acquireAs(a, 0, 0, few)
		s.release(a, 0)
	}
	s.end(a)
}

// renamed: the new name is the one that counts from then on.
func (s scene) renamed() {
	a := s.connect()
	s.rename(a, -1, "NEW")
	for _, mode := range []uint32{0, resPersistent} {
		s.acquire(a, 0, 0, mode)
		s.rename(a, 0, "NEW")
		if s.mirrors == 0 { // with several disks stock says -210: COMPATIBILITY.md
			s.acquire(a, -227, 0, 0)
		}
		other := s
		other.name = "NEW"
		other.acquire(a, 0, 0, 0)
		other.rename(a, 0, s.name)
	}
	s.acquire(a, 0, 0, 0)
	s.release(a, 0)
	s.end(a)
}

// values: a value block is written when an exclusive hold ends.
func (s scene) values() {
	a := s.connect()
	s.setLVB(a, -2, "nobody holds it")
	s.getLVB(a, -2)
	s.acquire(a, 0, 0, 0)
	s.setLVB(a, -22, "acquired without")
	s.getLVB(a, -22)
	s.release(a, 0)
	s.acquire(a, 0, acquireLVB, 0)
	s.setLVB(a, 0, "released")
	s.getLVB(a, 0)
	s.release(a, 0)
	s.acquire(a, 0, acquireLVB, 0)
	s.getLVB(a, 0)
	s.setLVB(a, 0, "conv")
	s.convert(a, 0, resShared)
	s.setLVB(a, 0, "set while shared")
	s.getLVB(a, 0)
	s.release(a, 0)
	s.acquire(a, 0, acquireLVB, resShared)
	s.getLVB(a, 0)
	s.convert(a, 0, 0)
	s.setLVB(a, 0, "its holder ends")
	s.end(a)
	b := s.connect()
	s.acquire(b, 0, acquireLVB, 0)
	s.getLVB(b, 0)
	s.end(b)
}

// orphanValues: an orphan keeps the value that was not written yet.
func (s scene) orphanValues() {
	for _, adopt := range []bool{true, false} {
		a := s.connect()
		s.acquire(a, 0, acquireLVB, resPersistent)
		s.setLVB(a, 0, fmt.Sprint("of an orphan ", adopt, time.Now().Unix()))
		s.end(a)
		b := s.connect()
		s.getLVB(b, -2)
		if adopt {
			s.acquire(b, 0, acquireOrphan|acquireLVB, resPersistent)
			s.getLVB(b, 0)
			s.release(b, 0)
		} else {
			s.releaseOrphans(b, 1, s.name)
		}
		s.acquire(b, 0, acquireLVB, resShared)
		s.getLVB(b, 0)
		s.end(b)
	}
}

// TestResourcesSafer: where stock gives a client what it did not ask for, or what another one has, ours
// refuses (COMPATIBILITY.md).
func TestResourcesSafer(t *testing.T) {
	waiting(t, 20)
	want := map[kind]struct{ only, convert, hosts int32 }{debian: {0, 0, 0}, tenure: {-2, resultAgain, -22}}
	for _, k := range []kind{debian, tenure} {
		d := newDisk(t, 512, 3)
		n := start(t, k, 1)
		n.join(t, d.path)
		a, b := n.client(t), n.client(t)

		before := string(d.sectorAt(t, d.lease(1).offset, 0))
		must(t, n, "acquire an orphan that is not there", want[k].only)(a.acquire(d.lease(1), acquireOnly|acquireNoWait))
		if after := string(d.sectorAt(t, d.lease(1).offset, 0)); (after != before) != (want[k].only == 0) {
			t.Errorf("%s: the lease has changed: %v", n, after != before)
		}
		shared := d.lease(2).asShared()
		must(t, n, "a shares", 0)(a.acquire(shared, 0))
		must(t, n, "b shares", 0)(b.acquire(shared, 0))
		must(t, n, "a converts while b shares", want[k].convert)(a.convert(d.lease(2)))
		if k == tenure {
			must(t, n, "b releases", 0)(b.release(shared))
			must(t, n, "a converts", 0)(a.convert(d.lease(2)))
		}
		many := d.lease(3).append(nil, true)
		binary.LittleEndian.PutUint32(many[112:], 2001)
		binary.LittleEndian.PutUint32(many[120:], resNumHosts)
		must(t, n, "acquire for 2001 hosts", want[k].hosts)(a.result(cmdAcquire, acquireNoWait, 1,
			append(many, make([]byte, 56)...)))
		for _, c := range []*conn{a, b} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		n.leave(t)
	}
}
