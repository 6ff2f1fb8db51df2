package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/leases/ondisk"
)

// Commands and flags of the resource index (spec sanlock-daemon 1.5 and 1.7).
const (
	cmdFormatRindex   = 35
	cmdUpdateRindex   = 36
	cmdLookupRindex   = 37
	cmdCreateResource = 38
	cmdDeleteResource = 39
	cmdRebuildRindex  = 40
	rxNoLockspace     = 1
	rxAdd             = 0x10000
	rxRemove          = 0x20000
)

// indexAsk is one request about a resource index. What is empty means the test's index.
type indexAsk struct {
	cmd, flags  uint32
	name        string
	offset      int64  // of the entry
	data, data2 uint32 // max_hosts and num_hosts of CREATE_RESOURCE
	sizes, max  uint32 // flags and max_resources of the index
	space       string
	path        string // in place of the device; "-" for none
	at          int64  // of the index
}

func (a indexAsk) String() string {
	verb := map[uint32]string{
		cmdFormatRindex: "format", cmdUpdateRindex: "update", cmdLookupRindex: "lookup",
		cmdCreateResource: "create", cmdDeleteResource: "delete", cmdRebuildRindex: "rebuild",
	}[a.cmd]
	return fmt.Sprintf("%s flags %#x %q:%d data %d %d sizes %#x max %d space %q path %q at %d",
		verb, a.flags, a.name, a.offset, a.data, a.data2, a.sizes, a.max, a.space, a.path, a.at)
}

// twin is a daemon with a device of its own.
type twin struct {
	*node
	disk
	index int64 // offset
}

// body is the request's body.
func (a indexAsk) body(w *twin) []byte {
	p := make([]byte, 64)
	binary.LittleEndian.PutUint32(p, a.sizes)
	binary.LittleEndian.PutUint32(p[4:], a.max)
	space, path, at := "LS", w.path, w.index
	switch {
	case a.space == "-":
		space = ""
	case a.space != "":
		space = a.space
	}
	switch {
	case a.path == "-":
		path = ""
	case a.path != "":
		path = a.path
	}
	if a.at > 0 {
		at = a.at
	}
	copy(p[16:64], space)
	p = appendDisk(p, path, at)
	if a.cmd == cmdFormatRindex || a.cmd == cmdRebuildRindex {
		return p
	}
	e := make([]byte, 64)
	copy(e[:48], a.name)
	binary.LittleEndian.PutUint64(e[48:], uint64(a.offset))
	binary.LittleEndian.PutUint32(e[56:], 0x55) // nobody looks at them
	return append(p, e...)
}

// ask returns the whole answer.
func (w *twin) ask(a indexAsk) (answer []byte, err error) {
	err = once(w.runDir, func(c *conn) error {
		if err := c.c.SetDeadline(time.Now().Add(opTimeout)); err != nil {
			return err
		}
		body := a.body(w)
		length := 32 + len(body)
		if a.cmd == cmdLookupRindex {
			length += 64 // as the library says
		}
		if err := c.send(a.cmd, a.flags, a.data, a.data2, length, body); err != nil {
			return err
		}
		answer = make([]byte, 32)
		if _, err := io.ReadFull(c.c, answer); err != nil {
			return err
		}
		rest := make([]byte, max(0, int(binary.LittleEndian.Uint32(answer[16:]))-32))
		_, err := io.ReadFull(c.c, rest)
		answer = append(answer, rest...)
		return err
	})
	return answer, err
}

// told prints an answer.
func told(p []byte) string {
	if len(p) < 32 {
		return hex.EncodeToString(p)
	}
	s := fmt.Sprintf("%d, data2 %d, %d bytes", result(p), binary.LittleEndian.Uint32(p[28:]), len(p))
	if len(p) == 96 {
		s += fmt.Sprintf(", %q at %d, flags %#x", bytes.TrimRight(p[32:80], "\x00"), entryOffset(p), p[88:])
	}
	return s
}

func result(answer []byte) int32 { return int32(binary.LittleEndian.Uint32(answer[24:])) }

func entryOffset(answer []byte) int64 { return int64(binary.LittleEndian.Uint64(answer[80:])) }

// must asks and returns the answer's result and offset.
func (w *twin) must(t *testing.T, a indexAsk) (int32, int64) {
	t.Helper()
	p, err := w.ask(a)
	if err != nil {
		t.Fatalf("%s: %v: %v\n%s", w.node, a, err, w.tail())
	}
	if len(p) < 96 {
		return result(p), 0
	}
	return result(p), entryOffset(p)
}

// expect asks and compares the result.
func (w *twin) expect(t *testing.T, a indexAsk, want int32) int64 {
	t.Helper()
	got, at := w.must(t, a)
	if got != want {
		t.Errorf("%s: %v: %d, want %d\n%s", w.node, a, got, want, w.tail())
	}
	return at
}

// indexAreas is how many areas a test's device has, indexAt where the index begins.
const (
	indexAreas = 24
	indexAt    = 2
)

// indexDisk makes a device, or a file, with lockspace LS in its first area.
func indexDisk(t *testing.T, l layout, file bool, areas int64) disk {
	t.Helper()
	d := disk{layout: l}
	if file {
		d.path = filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(d.path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(d.path, areas*l.align); err != nil {
			t.Fatal(err)
		}
	} else {
		d.path = newLoop(t, int(l.sector), areas*l.align)
	}
	d.init(t, theirs(t), "-s", "LS:0:"+d.path+":0", "-o", fmt.Sprint(ioTimeout))
	return d
}

// twins are a daemon of each kind with the same device. The lockspace is not joined.
func twins(t *testing.T, l layout, file bool) [2]*twin {
	t.Helper()
	var both [2]*twin
	for i, k := range []kind{debian, tenure} {
		both[i] = &twin{
			node: start(t, k, 1), disk: indexDisk(t, l, file, indexAreas), index: indexAt * l.align,
		}
	}
	return both
}

// sameAnswers gives the requests to both and compares what is answered.
func sameAnswers(t *testing.T, both [2]*twin, asks []indexAsk) {
	t.Helper()
	for _, a := range asks {
		var p [2][]byte
		for i, w := range both {
			var err error
			if p[i], err = w.ask(a); err != nil {
				t.Fatalf("%s: %v: %v\n%s", w.node, a, err, w.tail())
			}
		}
		if !bytes.Equal(p[0], p[1]) {
			t.Errorf("%v\nstock %s\nours  %s", a, told(p[0]), told(p[1]))
		}
	}
}

// sameDisks compares the devices of both, without what depends on the clock or is undefined. The leases of
// indexes that lie at loose have been taken more often by ours.
func sameDisks(t *testing.T, both [2]*twin, loose ...int64) {
	t.Helper()
	align := both[0].align
	for at := range int64(indexAreas) {
		var p [2][]byte
		for i, w := range both {
			area, err := w.read(at*align, int(align))
			if err != nil {
				t.Fatal(err)
			}
			p[i] = settled(area, int(w.sector), slices.Contains(loose, at*align))
		}
		if bytes.Equal(p[0], p[1]) {
			continue
		}
		for i := 0; i < len(p[0]); i += 16 {
			if a, b := p[0][i:i+16], p[1][i:i+16]; !bytes.Equal(a, b) {
				t.Errorf("area %d differs from byte %d on\nstock % x\nours  % x", at, i, a, b)
				break
			}
		}
	}
}

// settled takes out of an area what is free: clocks, checksums over them, padding, and in the lease of an
// index how it was given back.
func settled(area []byte, sector int, loose bool) []byte {
	l, err := ondisk.DecodeLeader(area)
	if err != nil {
		panic(err)
	}
	if l.Magic != ondisk.PaxosMagic && l.Magic != ondisk.ClearedMagic && l.Magic != ondisk.DeltaMagic {
		return area
	}
	l.Timestamp, l.WriteTimestamp, l.Checksum = 0, 0, 0
	if l.Magic != ondisk.DeltaMagic {
		clear(area[sector+4+4 : sector+4+8]) // padding of the request record
		clear(area[sector+20 : sector+24])
	}
	if l.ResourceName.String() == ondisk.IndexLeaseName {
		block := area[2*sector : 3*sector]
		clear(block[32:40])   // the time of the ballot
		clear(block[48:128])  // checksum, RELEASED, undefined bytes
		clear(block[132:136]) // undefined
		clear(block[144:])
		if loose {
			l.LVer = 0
			clear(block[:48])
		}
	}
	l.EncodeRaw(area)
	return area
}

// requests about an index at x that need no lockspace: each check of the arguments, and what they do.
func requestsAlone(x, align int64, sizes uint32) []indexAsk {
	const f, u, l = cmdFormatRindex, cmdUpdateRindex, cmdLookupRindex
	const alone = rxNoLockspace
	end := indexAreas * align
	r := func(n int64) int64 { return x + n*align }
	return []indexAsk{
		{cmd: f, sizes: 0x10},
		{cmd: f, sizes: 0x100},
		{cmd: f, sizes: 0x120},
		{cmd: f, sizes: sizes, path: "-"},
		{cmd: f, sizes: 0x10, path: "-"},
		{cmd: f, sizes: 0x10, path: "/nonexistent"},
		{cmd: f, sizes: sizes, path: "/"},
		{cmd: f, sizes: sizes, path: "/dev/null"},
		{cmd: f, sizes: sizes, at: 100},
		{cmd: f, sizes: sizes, at: end},
		{cmd: f, sizes: sizes, space: "-"},
		{cmd: l, flags: alone},
		{cmd: l, flags: alone, space: "-"},
		{cmd: f, sizes: sizes, max: 8, space: "XX"},
		{cmd: f, sizes: sizes, max: 1 << 31},
		{cmd: f, sizes: sizes, max: 1},
		{cmd: l, flags: alone},
		{cmd: u, flags: alone | rxAdd, name: "one", offset: r(2)},
		{cmd: l, flags: alone},
		{cmd: f, max: 8},
		{cmd: u},
		{cmd: l},
		{cmd: cmdCreateResource},
		{cmd: cmdDeleteResource},
		{cmd: cmdRebuildRindex},
		{cmd: l, at: x + align},
		{cmd: l, path: "/"},
		{cmd: u, path: "/"},
		{cmd: cmdCreateResource, path: "/"},
		{cmd: cmdRebuildRindex, path: "/"},
		{cmd: l, flags: alone, path: "-"},
		{cmd: l, flags: alone, path: "/nonexistent"},
		{cmd: l, flags: alone, path: "/dev/null"},
		{cmd: l, flags: alone, path: "/"},
		{cmd: l, flags: alone, space: "XX"},
		{cmd: l, flags: alone, at: 100},
		{cmd: l, flags: alone, at: x + align},
		{cmd: l, flags: alone, at: 512},
		{cmd: l, flags: alone, at: end},
		{cmd: cmdRebuildRindex, flags: alone, path: "-"},
		{cmd: cmdRebuildRindex, flags: alone, space: "XX"},
		{cmd: cmdRebuildRindex, flags: alone, at: x + align},
		{cmd: u, flags: alone},
		{cmd: u, flags: alone, at: x + align},
		{cmd: u, flags: alone, space: "XX"},
		{cmd: u, flags: alone | rxAdd},
		{cmd: u, flags: alone | rxRemove},
		{cmd: u, flags: alone | rxAdd, name: "u"},
		{cmd: u, flags: alone | rxAdd, offset: r(3)},
		{cmd: u, flags: alone | rxAdd, offset: r(3) + 512, name: "u"},
		{cmd: u, flags: alone | rxAdd | rxRemove, offset: r(3)},
		{cmd: u, flags: alone | rxAdd | rxRemove, name: "u"},
		{cmd: u, flags: alone | rxAdd, path: "/nonexistent"},
		{cmd: u, flags: alone, name: "u", offset: r(3)},
		{cmd: u, flags: alone | rxAdd, name: "u", offset: r(3)},
		{cmd: l, flags: alone, offset: r(3)},
		{cmd: u, flags: alone | rxAdd | rxRemove, name: "u", offset: r(3)},
		{cmd: l, flags: alone, offset: r(3)},
		{cmd: u, flags: alone | rxAdd, name: "u", offset: r(3)},
		{cmd: u, flags: alone | rxAdd, name: "v", offset: r(3)},
		{cmd: l, flags: alone, offset: r(3)},
		{cmd: u, flags: alone | rxAdd, name: "v", offset: r(4)},
		{cmd: l, flags: alone, name: "v"},
		{cmd: l, flags: alone, name: "v", offset: r(4)},
		{cmd: l, flags: alone, name: "w", offset: r(4)},
		{cmd: l, flags: alone, name: "w", offset: r(5)},
		{cmd: l, flags: alone, name: "w"},
		{cmd: l, flags: alone},
		{cmd: l, flags: alone, offset: r(5)},
		{cmd: l, flags: alone, name: "w", offset: r(4) + 512},
		{cmd: u, flags: alone | rxRemove, name: "v"},
		{cmd: u, flags: alone | rxRemove, name: "no", offset: r(3)},
		{cmd: u, flags: alone | rxRemove, offset: r(3)},
		{cmd: cmdCreateResource, flags: alone, name: "c"},
		{cmd: cmdDeleteResource, flags: alone, name: "v"},
		{cmd: u, flags: alone | rxAdd, name: strings.Repeat("n", 48), offset: r(9)},
		{cmd: l, flags: alone, name: strings.Repeat("n", 48)},
		{cmd: l, flags: alone, name: strings.Repeat("n", 47)},
		{cmd: cmdRebuildRindex, flags: alone},
		{cmd: l, flags: alone, name: "v"},
		{cmd: l, flags: alone},
	}
}

// requestsJoined need the lockspace. The index at y reaches to the end of the device.
func requestsJoined(x, y, align int64, sizes uint32) []indexAsk {
	const u, l, c, d = cmdUpdateRindex, cmdLookupRindex, cmdCreateResource, cmdDeleteResource
	r := func(n int64) int64 { return x + n*align }
	var all []indexAsk
	add := func(more ...indexAsk) { all = append(all, more...) }
	add(indexAsk{cmd: cmdFormatRindex, sizes: sizes, max: 8}, indexAsk{cmd: c, name: "a", path: "-"},
		indexAsk{cmd: c, name: "a", path: "/nonexistent"}, indexAsk{cmd: c, name: "a", path: "/"},
		indexAsk{cmd: c, name: "a", at: x + align}, indexAsk{cmd: c, name: "a", space: "XX"},
		indexAsk{cmd: c, name: "a", space: "-"}, indexAsk{cmd: d, name: "a", at: x + align},
		indexAsk{cmd: c}, indexAsk{cmd: c, name: "a", data: 7, data2: 16}, indexAsk{cmd: c, name: "b", data: 16},
		indexAsk{cmd: c, name: "c", data2: 3000}, indexAsk{cmd: c, name: "d", offset: r(9)},
		indexAsk{cmd: l}, indexAsk{cmd: l, name: "a"}, indexAsk{cmd: d, name: "a", offset: r(4)}, indexAsk{cmd: d},
		indexAsk{cmd: l, name: "a"}, indexAsk{cmd: l, offset: r(4)},
		indexAsk{cmd: d, offset: r(5)}, indexAsk{cmd: d, name: "nope"}, indexAsk{cmd: d, name: "a"},
		indexAsk{cmd: c, name: "e"}, indexAsk{cmd: c, name: strings.Repeat("n", 48)},
		indexAsk{cmd: d, name: strings.Repeat("n", 48)}, indexAsk{cmd: l, name: "b"},
		indexAsk{cmd: cmdRebuildRindex}, indexAsk{cmd: l, name: "b"},
		indexAsk{cmd: l, flags: rxNoLockspace, name: "b"},
		indexAsk{cmd: u, flags: rxNoLockspace | rxAdd, name: "nothing", offset: r(8)},
		indexAsk{cmd: d, name: "nothing"},
		indexAsk{cmd: cmdFormatRindex, sizes: sizes, max: 8, at: y, space: "XX"},
		indexAsk{cmd: c, name: "a", at: y},
		indexAsk{cmd: l, name: "a", at: y}, indexAsk{cmd: cmdRebuildRindex, at: y},
		indexAsk{cmd: cmdRebuildRindex, at: y, flags: rxNoLockspace},
		indexAsk{cmd: cmdFormatRindex, sizes: sizes, at: y})
	for _, name := range []string{"y1", "y2", "y3"} {
		add(indexAsk{cmd: c, name: name, at: y})
	}
	add(indexAsk{cmd: l, at: y}, indexAsk{cmd: cmdRebuildRindex, at: y}, indexAsk{cmd: l, at: y},
		indexAsk{cmd: u, flags: rxAdd, name: "y4", offset: y + 3*align, at: y}, indexAsk{cmd: l, at: y, name: "y4"},
		indexAsk{cmd: u, flags: rxRemove, offset: y + 3*align, at: y}, indexAsk{cmd: u, at: y},
		indexAsk{cmd: u, flags: rxAdd, at: y}, indexAsk{cmd: u, flags: rxAdd, at: y + align},
		indexAsk{cmd: u, flags: rxAdd, path: "/"}, indexAsk{cmd: cmdRebuildRindex, at: y})
	for _, name := range []string{"f1", "f2", "f3", "f4"} { // the last one finds no free entry
		add(indexAsk{cmd: c, name: name})
	}
	add(indexAsk{cmd: l}, indexAsk{cmd: d, name: "f2"}, indexAsk{cmd: d, name: "f1"}, indexAsk{cmd: l})
	return all
}

// TestIndexTwins gives the same requests to both daemons, which must give the same answers, byte for byte,
// and leave the same bytes on their devices.
func TestIndexTwins(t *testing.T) {
	working(t, 10)
	sizes := map[int64]uint32{512: 0x110, 4096: 0x280}
	run := func(sector int64, file bool) func(t *testing.T) {
		return func(t *testing.T) {
			l := layouts[sector]
			both := twins(t, l, file)
			x, y := both[0].index, (indexAreas-4)*l.align
			sameAnswers(t, both, requestsAlone(x, l.align, sizes[sector]))
			sameDisks(t, both)
			for _, w := range both {
				w.join(t, w.path)
			}
			sameAnswers(t, both, requestsJoined(x, y, l.align, sizes[sector]))
			sameDisks(t, both, y+l.align)
		}
	}
	together(t, trial{"512", run(512, false)}, trial{"4096", run(4096, false)}, trial{"file", run(512, true)})
}

// TestIndexTogether lets a host of each kind create resources in one index at the same time. None may be
// lost, and no offset be used twice.
func TestIndexTogether(t *testing.T) {
	working(t, 10)
	const each = 50
	run := func(l layout, sizes uint32) func(t *testing.T) {
		return func(t *testing.T) {
			d := indexDisk(t, l, false, indexAt+2+2*each)
			var hosts []*twin
			for _, n := range cluster(t, d.path, debian, tenure) {
				hosts = append(hosts, &twin{node: n, disk: d, index: indexAt * l.align})
			}
			hosts[0].expect(t, indexAsk{cmd: cmdFormatRindex, sizes: sizes}, 0)
			var wg sync.WaitGroup
			made := make([]map[string]int64, len(hosts))
			for i, w := range hosts {
				made[i] = map[string]int64{}
				wg.Go(func() { createAll(t, w, each, made[i]) })
			}
			wg.Wait()
			user := map[int64]string{}
			for _, names := range made {
				for name, at := range names {
					if user[at] != "" {
						t.Errorf("%s and %s were both created at %d", name, user[at], at)
					}
					user[at] = name
				}
			}
			if len(user) != 2*each {
				t.Fatalf("%d resources, want %d", len(user), 2*each)
			}
			for at, name := range user {
				for _, w := range hosts {
					if got := w.expect(t, indexAsk{cmd: cmdLookupRindex, name: name}, 0); got != at {
						t.Errorf("%s: %s is at %d, was created at %d", w.node, name, got, at)
					}
				}
				l, err := ondisk.DecodeLeader(d.sectorAt(t, at, 0))
				if err != nil || l.ResourceName.String() != name {
					t.Errorf("at %d lies %s, want %s: %v", at, l.ResourceName, name, err)
				}
			}
		}
	}
	together(t, trial{"512", run(layouts[512], 0x110)},
		trial{"4096", run(layout{4096, mib, []string{"-Z", "4096", "-A", "1M"}}, 0x210)})
}

// createAll creates n resources; while another host holds the index's lease it tries again.
func createAll(t *testing.T, w *twin, n int, made map[string]int64) {
	turns, refused := 0, map[int32]int{}
	for i := range n {
		name := fmt.Sprintf("%s-%d", w.kind, i)
		for end := time.Now().Add(opTimeout); ; turns++ {
			p, err := w.ask(indexAsk{cmd: cmdCreateResource, name: name})
			if err != nil {
				t.Errorf("%s: create %s: %v", w.node, name, err)
				return
			}
			rv := result(p)
			if rv == 0 {
				made[name] = entryOffset(p)
				break
			}
			refused[rv]++
			busy := slices.Contains([]int32{resultHeld, resultLostRace, resultOther, resultOwnedRetry}, rv)
			if !busy || time.Now().After(end) {
				t.Errorf("%s: create %s: %d after %d turns", w.node, name, rv, turns)
				return
			}
			time.Sleep(time.Duration(5+rand.IntN(30)) * time.Millisecond)
		}
	}
	t.Logf("%s: %d resources, refused %v", w.node, n, refused)
}

// TestIndexSafer shows where ours does not follow stock: nothing that somebody holds is written over.
func TestIndexSafer(t *testing.T) {
	waiting(t, 15)
	l := layouts[512]
	d := indexDisk(t, l, false, indexAreas)
	nodes := cluster(t, d.path, debian, tenure)
	stock := &twin{node: nodes[0], disk: d, index: indexAt * l.align}
	own := &twin{node: nodes[1], disk: d, index: indexAt * l.align}
	r := func(n int64) int64 { return stock.index + n*l.align }
	create := func(name string) indexAsk { return indexAsk{cmd: cmdCreateResource, name: name} }
	remove := func(name string) indexAsk { return indexAsk{cmd: cmdDeleteResource, name: name} }
	stock.expect(t, indexAsk{cmd: cmdFormatRindex, sizes: 0x110, max: 8}, 0)
	for _, name := range []string{"a", "b", "c"} {
		stock.expect(t, create(name), 0)
	}
	own.expect(t, create("a"), -17)
	holds := func(w *twin, name string, at int64) func() {
		c := w.client(t)
		res := lease{space: "LS", name: name, path: d.path, offset: at}
		if rv, err := c.acquire(res, 0); err != nil || rv != 0 {
			t.Fatalf("%s: acquire %s: %d, %v", w.node, name, rv, err)
		}
		return func() {
			if rv, err := c.release(res); err != nil || rv != 0 {
				t.Errorf("%s: release %s: %d, %v", w.node, name, rv, err)
			}
		}
	}
	busy := holds(stock, ondisk.IndexLeaseName, r(1))
	for _, a := range []indexAsk{
		create("d"), remove("c"),
		{cmd: cmdRebuildRindex},
		{cmd: cmdUpdateRindex, flags: rxAdd, name: "d", offset: r(5)},
	} {
		own.expect(t, a, resultHeld)
	}
	busy()
	free := holds(stock, "a", r(2))
	own.expect(t, remove("a"), resultHeld)
	own.expect(t, indexAsk{cmd: cmdLookupRindex, name: "a"}, 0)
	// An entry is taken out from under the holder: its place must not be used.
	own.expect(t, indexAsk{cmd: cmdUpdateRindex, flags: rxRemove, offset: r(2)}, 0)
	if at := own.expect(t, create("new"), 0); at != r(5) {
		t.Errorf("created at %d, want %d: behind what is held and what is indexed", at, r(5))
	}
	own.expect(t, indexAsk{cmd: cmdRebuildRindex}, 0)
	own.expect(t, indexAsk{cmd: cmdLookupRindex, name: "a", offset: r(2)}, 0)
	free()
	own.expect(t, remove("a"), 0)
	mine := holds(own, "b", r(3))
	own.expect(t, remove("b"), -16)
	mine()
	own.expect(t, remove("b"), 0)
	if at := own.expect(t, create("again"), 0); at != r(2) {
		t.Errorf("created at %d, want %d: what was deleted is free", at, r(2))
	}
	for _, at := range []int64{r(0), r(1), r(10), r(1000)} {
		own.expect(t, indexAsk{cmd: cmdLookupRindex, offset: at}, -277)
		own.expect(t, indexAsk{cmd: cmdUpdateRindex, flags: rxAdd, name: "out", offset: at}, -277)
	}
}

// TestIndexCommandLines gives the same lines to each command line beside each daemon, four cases that must
// print the same.
func TestIndexCommandLines(t *testing.T) {
	waiting(t, 15)
	theirs(t)
	var outs [4]string
	run := func(i int, k kind, debianCLI bool) func(t *testing.T) {
		return func(t *testing.T) {
			d := indexDisk(t, layouts[512], true, indexAreas)
			n := start(t, k, 1)
			n.join(t, d.path)
			x := "LS:" + d.path + ":2M"
			var all strings.Builder
			for _, line := range []string{
				"format -x X -Z 512 -A 1M", "format -x X -Z 512", "format -x LS:/nonexistent:0", "format", "lookup -x X",
				"create -x X -e one", "create -x X -e two:9M", "create -x XX -e one", "create -x X", "create",
				"lookup -x X -e one", "lookup -x X -e :5M", "lookup -x X -e :5M -z 1", "lookup -x X -e two:5M",
				"lookup -x X -e one:5M", "lookup -x X -e no", "lookup -x X", "lookup -x X -e :5000001",
				"update -x X -e q:8M", "update -x X -e :8M -z 1", "update -x X -e q -z 1", "update -x X -e q",
				"update -x X", "update", "rebuild -x X", "rebuild", "lookup -x X -e one", "delete -x X -e one",
				"delete -x X -e one", "delete -x X -e :5M", "delete -x X", "delete", "lookup -x X", "create -x X -e :4M",
			} {
				args := strings.Fields("client " + strings.Replace(line, " XX", " NO:"+d.path+":2M", 1))
				if i := slices.Index(args, "X"); i >= 0 {
					args[i] = x
				}
				got := said{}
				if debianCLI {
					got = runDebian(t, n.runDir, args)
				} else {
					got = runOurs(n.runDir, args)
				}
				fmt.Fprintf(&all, "%s: exit code %d\n%s", line, got.Code, got.Out)
			}
			outs[i] = all.String()
		}
	}
	together(t,
		trial{"debian beside debian", run(0, debian, true)}, trial{"ours beside debian", run(1, debian, false)},
		trial{"debian beside ours", run(2, tenure, true)}, trial{"ours beside ours", run(3, tenure, false)})
	t.Logf("\n%s", outs[0])
	for _, out := range outs[1:] {
		if diff := cmp.Diff(outs[0], out); diff != "" || out == "" {
			t.Error(diff)
		}
	}
}

// TestIndexKilled kills a host of each kind while it creates resources, again and again. What it had been
// told to be created is there, the host of the other kind goes on as soon as the killed one is back with a
// new generation, and no offset has two users.
func TestIndexKilled(t *testing.T) {
	waiting(t, 25)
	run := func(victim, survivor kind) func(t *testing.T) {
		return func(t *testing.T) {
			const rounds = 4
			l := layouts[512]
			d := indexDisk(t, l, false, 400)
			a := &twin{node: start(t, survivor, 1), disk: d, index: indexAt * l.align}
			a.join(t, d.path)
			a.expect(t, indexAsk{cmd: cmdFormatRindex, sizes: 0x110, max: 390}, 0)
			made := map[string]int64{}
			for round := range rounds {
				b := &twin{node: start(t, victim, 2), disk: d, index: a.index}
				b.join(t, d.path)
				createAll(t, a, 1, map[string]int64{})
				a.expect(t, indexAsk{cmd: cmdDeleteResource, name: fmt.Sprintf("%s-0", a.kind)}, 0)
				ended := make(chan map[string]int64)
				go func() { ended <- createUntilKilled(b, round) }()
				time.Sleep(time.Duration(50+rand.IntN(300)) * time.Millisecond)
				b.kill(t)
				maps.Copy(made, <-ended)
			}
			t.Logf("%d resources before %d kills", len(made), rounds)
			soundIndex(t, a, made)
		}
	}
	together(t, trial{"tenure", run(tenure, debian)}, trial{"debian", run(debian, tenure)})
}

// createUntilKilled creates resources until its daemon is gone.
func createUntilKilled(w *twin, round int) map[string]int64 {
	made := map[string]int64{}
	for i := 0; ; i++ {
		name := fmt.Sprintf("round%d-%d", round, i)
		p, err := w.ask(indexAsk{cmd: cmdCreateResource, name: name})
		if err != nil {
			return made
		}
		if result(p) == 0 {
			made[name] = entryOffset(p)
		}
	}
}

// soundIndex demands that the resources are where they were created, and that each entry names what lies
// there.
func soundIndex(t *testing.T, w *twin, made map[string]int64) {
	t.Helper()
	for name, at := range made {
		if got := w.expect(t, indexAsk{cmd: cmdLookupRindex, name: name}, 0); got != at {
			t.Errorf("%s is at %d, was created at %d", name, got, at)
		}
	}
	area, err := w.read(w.index, int(w.align))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for n := range 390 {
		e, err := ondisk.DecodeIndexEntry(area[w.sector+int64(n)*ondisk.IndexEntrySize:])
		if err != nil {
			t.Fatal(err)
		}
		name := e.Name.String()
		if e.IsFree() {
			continue
		}
		if seen[name] {
			t.Errorf("%s has two entries", name)
		}
		seen[name] = true
		l, err := ondisk.DecodeLeader(w.sectorAt(t, w.index+(2+int64(n))*w.align, 0))
		if err == nil {
			err = l.CheckPaxos(l.SpaceName, e.Name, 0)
		}
		if err != nil {
			t.Errorf("entry %d: %v", n, err)
		}
	}
	if len(seen) < len(made) {
		t.Errorf("%d entries, want at least %d", len(seen), len(made))
	}
}
