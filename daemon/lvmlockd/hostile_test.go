package lvmlockd

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// attacks are what clients must not be able to disturb others with. Each runs on a connection of its own, again and
// again, until stop is closed.
var attacks = map[string]func(c *net.UnixConn, stop <-chan struct{}){
	"garbage": func(c *net.UnixConn, _ <-chan struct{}) {
		p := make([]byte, 4096)
		for i := range p {
			p[i] = byte(rand.Int())
		}
		_, _ = c.Write(append(p, "\n##\n"...))
	},
	"no end": func(c *net.UnixConn, _ <-chan struct{}) {
		_, _ = c.Write(bytes.Repeat([]byte("#"), lvmwire.MaxMessage+1))
	},
	"half a request": func(c *net.UnixConn, _ <-chan struct{}) {
		_, _ = c.Write([]byte(`request="lock_vg" mode="ex" vg_na`))
	},
	"byte by byte": func(c *net.UnixConn, _ <-chan struct{}) {
		for _, b := range []byte(encode("running_lm pid=%1")) {
			_, _ = c.Write([]byte{b})
		}
	},
	"flood, never reading": func(c *net.UnixConn, stop <-chan struct{}) {
		_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := c.Write(bytes.Repeat([]byte(encode("hello")), 100)); err != nil {
				return
			}
		}
	},
	"a request, and gone": func(c *net.UnixConn, _ <-chan struct{}) {
		_, _ = c.Write([]byte(encode("lock_lv cmd=x mode=ex opts=persistent vg_name=t1 lv_name=l lv_uuid=UX")))
	},
	"deep": func(c *net.UnixConn, _ <-chan struct{}) {
		_, _ = c.Write([]byte(strings.Repeat("a{", 100_000) + "\n##\n"))
	},
	"dump to nobody": func(c *net.UnixConn, _ <-chan struct{}) {
		_, _ = c.Write([]byte(encode("dump") + encode("info")))
	},
}

// TestHostileClients lets all of them loose while one client works.
func TestHostileClients(t *testing.T) {
	j := newJournal(logSize, nil, nil, 0)
	defer j.Close()
	r := newRig(t, func(c *ServerConfig) { c.Log, c.LogText = j.logger(), j.text })
	p := r.dial()
	p.startVG("t1")
	calm := p.latencies(200)
	stop := make(chan struct{})
	var attackers sync.WaitGroup
	for name, attack := range attacks {
		attackers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.path, Net: "unix"})
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				attack(c, stop)
				c.Close()
			}
		})
	}
	busy := p.latencies(200)
	close(stop)
	attackers.Wait()
	t.Logf("answers: p50 %v and p99 %v alone, p50 %v and p99 %v under attack", calm[len(calm)/2], calm[len(calm)*99/100],
		busy[len(busy)/2], busy[len(busy)*99/100])
	// What shares the machine with this test is not ours to know; a client that is held up waits for much longer.
	if p99 := busy[len(busy)*99/100]; p99 > 2*time.Second {
		t.Errorf("99 of 100 answers took up to %v under attack", p99)
	}
	// A grant that was delivered before the client went away is a grant.
	p.ask("lock_lv vg_name=t1 lv_name=l lv_uuid=UX mode=un opts=persistent")
	p.want("stop_vg vg_name=t1", lvmwire.OK)
}

// latencies asks n times for a lock and its return, and returns how long the answers took, the fastest first.
func (p *peer) latencies(n int) []time.Duration {
	p.tb.Helper()
	all := make([]time.Duration, 0, 2*n)
	for range n {
		for _, mode := range []string{"ex", "un"} {
			start := time.Now()
			p.want("lock_vg cmd=good pid=%1 vg_name=t1 mode="+mode, lvmwire.OK)
			all = append(all, time.Since(start))
		}
	}
	slices.Sort(all)
	return all
}

func TestTooLongIsHungUp(t *testing.T) {
	r := newRig(t)
	p := r.dial()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = p.conn.Write(bytes.Repeat([]byte("x"), 2*lvmwire.MaxMessage))
	}()
	if m, err := p.next(answerWait); err == nil || isTimeout(err) {
		t.Errorf("a message without end is answered %q, error %v", m, err)
	}
	<-sent
	if !strings.Contains(r.log.String(), "message too long") {
		t.Error("and nobody is told why")
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestGoneWhileWaiting is trap T13: who waits for a lock and goes away does not get it.
func TestGoneWhileWaiting(t *testing.T) {
	r := newRig(t)
	a, b := r.dial(), r.dial()
	a.startVG("t1")
	a.want("lock_lv cmd=a vg_name=t1 lv_uuid=U mode=ex", lvmwire.OK)
	b.send("lock_lv cmd=b vg_name=t1 lv_uuid=U mode=ex opts=persistent")
	eventually(t, "b waits", func() bool {
		return strings.Contains(string(r.engine.Info(lvmwire.Dialect40)), "info=r_action")
	})
	b.conn.Close()
	eventually(t, "b is gone", func() bool {
		return !strings.Contains(string(r.engine.Info(lvmwire.Dialect40)), "info=r_action")
	})
	a.want("lock_lv cmd=a vg_name=t1 lv_uuid=U mode=un", lvmwire.OK)
	if q := a.ask("query_lock_lv vg_name=t1 lv_uuid=U"); q.Mode != lvmwire.UN {
		t.Errorf("the LV is held by a client that went away: %v", q.Mode)
	}
}

// TestClosedAtOnce: who asks and goes away leaves nothing behind.
func TestClosedAtOnce(t *testing.T) {
	r := newRig(t)
	a := r.dial()
	a.startVG("t1")
	for range 100 {
		b := r.dial()
		b.send("lock_vg cmd=b vg_name=t1 mode=ex")
		b.conn.Close()
	}
	a.want("lock_vg cmd=a vg_name=t1 mode=ex", lvmwire.OK)
	a.want("lock_vg cmd=a vg_name=t1 mode=un", lvmwire.OK)
}

// TestUnreadGrant: an LV that was locked for a client that went away before it read so is unlocked, where stock keeps it
// locked until somebody deactivates it; what was read stays, whatever else was not.
func TestUnreadGrant(t *testing.T) {
	r := newRig(t)
	a, b, c := r.dial(), r.dial(), r.dial()
	a.startVG("t1")
	b.send("lock_lv cmd=b vg_name=t1 lv_uuid=U1 mode=ex opts=persistent")
	b.arrived()
	b.conn.Close()
	eventually(t, "the lock that nobody knows of", func() bool {
		return a.ask("query_lock_lv vg_name=t1 lv_uuid=U1").Mode == lvmwire.UN
	})
	c.want("lock_lv cmd=c vg_name=t1 lv_uuid=U2 mode=ex opts=persistent", lvmwire.OK)
	c.send("hello")
	c.arrived()
	c.conn.Close()
	eventually(t, "c is gone", func() bool {
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		return len(r.server.conns) == 1
	})
	time.Sleep(20 * time.Millisecond)
	if q := a.ask("query_lock_lv vg_name=t1 lv_uuid=U2"); q.Mode != lvmwire.EX {
		t.Errorf("a lock whose answer was read is %v", q.Mode)
	}
}

// arrived waits until there is something to read, and does not read it.
func (p *peer) arrived() {
	p.tb.Helper()
	raw, err := p.conn.SyscallConn()
	if err != nil {
		p.tb.Fatal(err)
	}
	eventually(p.tb, "an answer", func() bool {
		ready := false
		err := raw.Control(func(fd uintptr) {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, _ := unix.Poll(poll, 0)
			ready = n > 0
		})
		return err == nil && ready
	})
}

// TestHalfClosed: who has no more to say still hears the answer, however late.
func TestHalfClosed(t *testing.T) {
	r := newRig(t)
	a, b := r.dial(), r.dial()
	a.startVG("t1")
	a.want("lock_vg cmd=a vg_name=t1 mode=ex", lvmwire.OK)
	b.send("lock_vg cmd=b vg_name=t1 mode=ex")
	if err := b.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b waits", func() bool {
		return strings.Contains(string(r.engine.Info(lvmwire.Dialect40)), "info=r_action")
	})
	a.want("lock_vg cmd=a vg_name=t1 mode=un", lvmwire.OK)
	if m := b.read(); !strings.Contains(m, "op_result = 0\n") {
		t.Errorf("b hears %q", m)
	}
	if _, err := b.next(answerWait); !errors.Is(err, io.EOF) {
		t.Errorf("and then %v, want the end", err)
	}
	// With its connection its lock ends.
	eventually(t, "b's lock ends", func() bool {
		return strings.Contains(string(r.engine.Info(lvmwire.Dialect40)), "name=VGLK type=vg mode=un")
	})
}

func TestConnectionsOfOneProcess(t *testing.T) {
	r := newRig(t)
	first := r.dial()
	for range maxPerProcess - 1 {
		r.dial()
	}
	one := r.dial()
	if _, err := one.next(answerWait); !errors.Is(err, io.EOF) {
		t.Errorf("one connection too many: %v, want the end", err)
	}
	first.send("hello")
	first.read()
	first.conn.Close()
	eventually(t, "there is room again", func() bool {
		p := r.dial()
		defer p.conn.Close()
		_, _ = p.conn.Write([]byte(encode("hello")))
		_, err := p.next(answerWait)
		return err == nil
	})
}

// harmless are the requests that never wait for somebody else.
var harmless = []lvmwire.Op{
	0, lvmwire.OpHello, lvmwire.OpDumpInfo, lvmwire.OpRunningLM, lvmwire.OpQueryLock, lvmwire.OpVGStatus,
	lvmwire.OpFindFreeLock, lvmwire.OpBusy, lvmwire.OpKillVG, lvmwire.OpDropVG, lvmwire.OpEnable, lvmwire.OpDisable,
	lvmwire.OpUpdate, lvmwire.OpStartWait, lvmwire.OpSetRemoteLVLock,
}

// FuzzServer writes anything to the socket: each complete message gets one answer, and others are served.
func FuzzServer(f *testing.F) {
	for _, s := range []string{
		encode("hello"), encode("nosuch") + encode("running_lm"), "x", "\n##\n", "\n##\n##\n", "a{\n##\n", encode("info"),
		encode("query_lock_vg vg_name=t1") + "rest", "request=" + "\x00" + "\n##\n",
	} {
		f.Add([]byte(s))
	}
	r := newRig(f)
	good := r.dial()
	f.Fuzz(func(t *testing.T, data []byte) {
		want := 0
		for in := lvmwire.NewReader(bytes.NewReader(data)); ; want++ {
			body, err := in.Next()
			if err != nil {
				break
			}
			if req, err := lvmwire.Decode(body); err == nil && !slices.Contains(harmless, req.Op) {
				t.Skip()
			}
		}
		good.tb = t
		p := &peer{tb: t}
		var err error
		if p.conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: r.path, Net: "unix"}); err != nil {
			t.Fatal(err)
		}
		defer p.conn.Close()
		p.in = lvmwire.NewReader(p.conn)
		p.write(string(data))
		if err := p.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got := 0
		for ; ; got++ {
			m, err := p.next(answerWait)
			if err == nil {
				_, err = lvmwire.DecodeReply([]byte(strings.TrimSuffix(m, "\n##\n")))
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("answer %d: %q, %v", got, m, err)
			}
		}
		if got != want {
			t.Fatalf("%d answers to %d messages", got, want)
		}
		good.send("hello")
		good.read()
	})
}

// TestReadGrantStays: a client that heard of its lock and goes away at once, as LVM commands do, leaves it locked.
func TestReadGrantStays(t *testing.T) {
	r := newRig(t)
	a := r.dial()
	a.startVG("t1")
	for i := range 300 {
		b := r.dial()
		b.want("lock_lv cmd=b vg_name=t1 lv_uuid=U mode=ex opts=persistent", lvmwire.OK)
		b.conn.Close()
		eventually(t, "b is gone", func() bool {
			r.server.mu.Lock()
			defer r.server.mu.Unlock()
			return len(r.server.conns) == 1
		})
		if q := a.ask("query_lock_lv vg_name=t1 lv_uuid=U"); q.Mode != lvmwire.EX {
			t.Fatalf("round %d: the LV is %v", i, q.Mode)
		}
		a.want("lock_lv cmd=a vg_name=t1 lv_uuid=U mode=un opts=persistent", lvmwire.OK)
	}
}
