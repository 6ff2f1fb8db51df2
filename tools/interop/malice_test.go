package interop

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	maliceLeases  = 8
	maliceTime    = 25 * time.Second
	maliceTries   = 3
	malicePause   = 10 * time.Millisecond // between connections, so that the machine has time for the honest
	maliceIdle    = 200                   // connections that send a part of a request and then nothing
	maliceSilent  = 50                    // connections that ask and never read
	malicePipe    = 200                   // requests in one write
	settleLimit   = 30 * time.Second
	exchangeLimit = 100 * time.Millisecond // of 99 in 100 acquires and releases by an honest client
)

// TestMalice lets clients do what clients do when they are broken, or want to break something, while honest
// ones go on. Those must not notice; afterwards the daemon has as many descriptors as before, and every lease
// that a dead client had is free. A second daemon that nobody molests tells what the machine is good for. Where that
// is little, malice alone takes the honest ones' time; so whoever did notice must do so again when the malicious
// connections are half as many.
func TestMalice(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 40 seconds")
	}
	begin := alone(t)
	d, quiet := newDisk(t, 512, maliceLeases+1), newDisk(t, 512, 1)
	n, control := start(t, tenure, 1), start(t, tenure, 1)
	var joined sync.WaitGroup
	joined.Go(func() { n.join(t, d.path) })
	joined.Go(func() { control.join(t, quiet.path) })
	joined.Wait()
	molested, left := newHonest(t, n, d.lease(maliceLeases+1)), newHonest(t, control, quiet.lease(1))
	begin()
	before := n.resources(t)
	m := malice{t: t, n: n, d: d, pause: malicePause}
	for try := 1; ; try++ {
		noticed := m.noticed(molested, left)
		if noticed == "" || t.Failed() {
			break
		}
		if try == maliceTries {
			t.Error(noticed)
			break
		}
		m.pause *= 2
		t.Logf("%s; again with %v between connections", noticed, m.pause)
	}
	m.settled(before)
	n.leave(t)
	control.leave(t)
}

// noticed does everything that is bad for maliceTime, and returns what the molested one noticed more than who was left
// alone.
func (m *malice) noticed(molested, left *honest) string {
	molested.begin(m.t)
	left.begin(m.t)
	var wg sync.WaitGroup
	for _, do := range []func(){
		m.cutRequests, m.dieAcquiring, m.closeHalf, m.oneByOne, m.pipeline, m.askAndNeverRead, m.garbage, m.killed,
	} {
		wg.Go(func() {
			for begin := time.Now(); time.Since(begin) < maliceTime; {
				do()
			}
		})
	}
	wg.Wait()
	status, work := molested.end(m.t)
	statusLeft, workLeft := left.end(m.t)
	m.t.Logf("status: p99 %v, of a daemon that is left alone %v; acquire and release: %v, left alone %v",
		status, statusLeft, work, workLeft)
	if limit := max(askLimit, askShare*statusLeft); status > limit {
		return fmt.Sprintf("p99 of status is %v, want at most %v", status, limit)
	}
	if limit := max(exchangeLimit, askShare*workLeft); work > limit {
		return fmt.Sprintf("p99 of an honest client's exchanges is %v, want at most %v", work, limit)
	}
	return ""
}

// honest is a client that acquires and releases, beside one that asks for the status.
type honest struct {
	n      *node
	lease  lease
	c      *conn
	asking *latencies
	stop   chan struct{}
	done   sync.WaitGroup
	took   []time.Duration
}

func newHonest(t *testing.T, n *node, r lease) *honest {
	t.Helper()
	h := &honest{n: n, lease: r, c: n.client(t)}
	exchange(t, n, h.c, r) // whatever the first one allocates
	return h
}

func (h *honest) begin(t *testing.T) {
	h.asking, h.stop, h.took = h.n.every(askPause), make(chan struct{}), nil
	h.done.Go(func() {
		for {
			select {
			case <-h.stop:
				return
			case <-time.After(malicePause):
				h.took = append(h.took, exchange(t, h.n, h.c, h.lease))
			}
		}
	})
}

// end returns the times that 99 of 100 answers took at most.
func (h *honest) end(t *testing.T) (status, work time.Duration) {
	t.Helper()
	close(h.stop)
	h.done.Wait()
	return h.asking.end(t), percentile(h.took, 99)
}

// exchange acquires and releases a lease and returns how long that took.
func exchange(t *testing.T, n *node, c *conn, r lease) time.Duration {
	t.Helper()
	begin := time.Now()
	if rv, err := c.acquire(r, 0); err != nil || rv != 0 {
		t.Errorf("%s: an honest client's acquire: %d, %v", n, rv, err)
		time.Sleep(pollPause)
		return 0
	}
	if rv, err := c.release(r); err != nil || rv != 0 {
		t.Errorf("%s: an honest client's release: %d, %v", n, rv, err)
	}
	return time.Since(begin)
}

// resources is what a daemon has of the system.
type resources struct{ descriptors, threads, clients int }

func (n *node) resources(t testing.TB) resources {
	t.Helper()
	fds, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(n.cmd.Process.Pid), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := status(n.runDir)
	if err != nil {
		t.Fatal(err)
	}
	r := resources{descriptors: len(fds), threads: n.usage(t).threads}
	for len(text) >= 80 {
		size := 80 + int(binary.LittleEndian.Uint32(text[72:]))
		kind := binary.LittleEndian.Uint32(text)
		if kind > 2 {
			break // clients come before lockspaces
		}
		if kind == 2 {
			r.clients++
		}
		text = text[size:]
	}
	return r
}

// malice is the clients that misbehave.
type malice struct {
	t     *testing.T
	n     *node
	d     disk
	pause time.Duration // between connections
}

// settled waits until the daemon is as it was.
func (m *malice) settled(before resources) {
	m.t.Helper()
	begin := time.Now()
	for {
		now, owned := m.n.resources(m.t), 0
		for i := range maliceLeases {
			if m.d.leader(m.t, m.d.lease(i+1)).Timestamp != 0 {
				owned++
			}
		}
		// Threads that Go has started stay; they are bounded by what works at once, not by what was asked.
		if now.descriptors <= before.descriptors && now.clients <= before.clients && owned == 0 {
			m.t.Logf("before %+v, after %+v, %v later", before, now, time.Since(begin).Round(time.Millisecond))
			if now.threads > before.threads+2*maliceLeases+16 {
				m.t.Errorf("%d threads, %d before", now.threads, before.threads)
			}
			return
		}
		if time.Since(begin) > settleLimit {
			m.t.Fatalf("before %+v, after %+v; %d leases of dead clients are held\n%s", before, now, owned, m.n.tail())
		}
		time.Sleep(pollPause)
	}
}

// raw returns a connection that nobody else closes.
func (m *malice) raw() net.Conn {
	time.Sleep(m.pause)
	c, err := dial(m.n.runDir)
	if err != nil {
		m.t.Error(err)
		return nil
	}
	return c.c
}

// message is one request with its header.
func message(cmd, flags, data, data2 uint32, body []byte) []byte {
	var p []byte
	for _, word := range []uint32{wireMagic, 1, cmd, flags, uint32(32 + len(body)), 0, data, data2} {
		p = binary.LittleEndian.AppendUint32(p, word)
	}
	return append(p, body...)
}

func (m *malice) acquireOf(i int) []byte {
	r := m.d.lease(1 + i%maliceLeases)
	body := append(r.append(nil, true), make([]byte, 56)...)
	return append(message(cmdRegister, 0, 0, 0, nil), message(cmdAcquire, 0, 1, 0xFFFFFFFF, body)...)
}

// cutRequests closes after every part of a registration and an acquire.
func (m *malice) cutRequests() {
	whole := m.acquireOf(0)
	for n := 0; n < len(whole); n += 1 + n/48 {
		if c := m.raw(); c != nil {
			_, _ = c.Write(whole[:n]) // the daemon may have closed
			c.Close()
		}
	}
}

// dieAcquiring closes while the acquire is at work, at many moments.
func (m *malice) dieAcquiring() {
	for i := range 40 {
		c := m.raw()
		if c == nil {
			continue
		}
		_, _ = c.Write(m.acquireOf(i)) // the daemon may have closed
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
		c.Close()
	}
}

// closeHalf closes its writing side only, and reads on until the daemon closes too.
func (m *malice) closeHalf() {
	for i := range 20 {
		c, ok := m.raw().(*net.UnixConn)
		if !ok {
			continue
		}
		_, _ = c.Write(m.acquireOf(i)) // the daemon may have closed
		if err := c.CloseWrite(); err != nil {
			m.t.Error(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(opTimeout))
		if _, err := io.ReadAll(c); err != nil {
			m.t.Errorf("a connection that was closed half: %v", err)
		}
		c.Close()
	}
}

// oneByOne sends bytes one by one, to the end or to somewhere before it.
func (m *malice) oneByOne() {
	var open []net.Conn
	for i := range maliceIdle {
		c := m.raw()
		if c == nil {
			continue
		}
		open = append(open, c)
		p := m.acquireOf(i)
		for _, b := range p[:min(i, len(p))] {
			_, _ = c.Write([]byte{b}) // the daemon may have closed
		}
	}
	time.Sleep(500 * time.Millisecond)
	for _, c := range open {
		c.Close()
	}
}

// pipeline sends many requests in one write, and wants the answers in their order.
func (m *malice) pipeline() {
	c := m.raw()
	if c == nil {
		return
	}
	defer c.Close()
	all := message(cmdRegister, 0, 0, 0, nil)
	for i := range malicePipe {
		p := message(cmdInquire, 0, 0, 0xFFFFFFFF, nil)
		binary.LittleEndian.PutUint32(p[20:], uint32(i)) // seq
		all = append(all, p...)
	}
	go func() { _, _ = c.Write(all) }() // an error is seen as a missing answer
	_ = c.SetReadDeadline(time.Now().Add(opTimeout))
	for i := range malicePipe {
		h, err := (&conn{c}).receive()
		if err != nil || h.Seq != uint32(i) {
			m.t.Errorf("answer %d of a pipeline: seq %d, %v", i, h.Seq, err)
			return
		}
	}
}

// askAndNeverRead floods with requests for the status and reads no answer.
func (m *malice) askAndNeverRead() {
	var open []net.Conn
	for range maliceSilent {
		c := m.raw()
		if c == nil {
			continue
		}
		open = append(open, c)
		_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		for range 2000 {
			if _, err := c.Write(message(cmdStatus, 0, 0, 0, nil)); err != nil {
				break // it takes no more: it waits until we read
			}
		}
	}
	for _, c := range open {
		c.Close()
	}
}

// garbage sends what is no request.
func (m *malice) garbage() {
	source := rand.NewChaCha8([32]byte{1})
	for range 20 {
		c := m.raw()
		if c == nil {
			continue
		}
		p := make([]byte, 4096)
		_, _ = source.Read(p)                               // never fails
		_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // it need not be read
		_, _ = c.Write(p)
		_, _ = c.Write(message(cmdAcquire, 0, 1<<31, 0, p)) // a count that no list has
		c.Close()
	}
}

// killed kills processes that hold leases, and such that are about to.
func (m *malice) killed() {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			h := holderOf(m.t, m.n, m.d.lease(1+i), func(e *errand) { e.Patience = 100 })
			time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
			_ = h.cmd.Process.Kill() // it lives on otherwise
			<-h.done
		})
	}
	wg.Wait()
}

func percentile(all []time.Duration, percent int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(all))[len(all)*percent/100].Round(time.Microsecond)
}
