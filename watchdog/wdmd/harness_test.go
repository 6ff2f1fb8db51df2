package wdmd

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog/memdog"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

// bubble is a daemon in virtual time, with a device in memory, behind connections in memory.
type bubble struct {
	t      *testing.T
	dog    *memdog.Dog
	server *Server
	accept chan net.Conn
	closed chan struct{}
	done   chan struct{}
	cancel context.CancelFunc
	once   sync.Once
	asleep atomic.Int64
	log    *text
}

type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (b *bubble) Accept() (net.Conn, error) {
	select {
	case c := <-b.accept:
		return c, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

func (b *bubble) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

func (b *bubble) Addr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }

// now is the time since the bubble began, in seconds.
func (b *bubble) now() int { return int(b.server.clock.Now().Seconds()) }

// start starts a daemon whose clock begins at 0. It is killed at the end of the test if it has not ended.
func start(t *testing.T, change func(*bubble, *Config)) *bubble {
	t.Helper()
	b := &bubble{
		t: t, dog: memdog.New(), accept: make(chan net.Conn), closed: make(chan struct{}), done: make(chan struct{}),
		log: &text{},
	}
	clock := monotime.At(0, func() time.Duration { return time.Duration(b.asleep.Load()) })
	cfg := Config{Source: b.dog, Clock: &clock, Log: zerolog.New(b.log), Peer: func(net.Conn) (int, int) { return 77, 5 }}
	if change != nil {
		change(b, &cfg)
	}
	var err error
	b.server, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	go func() {
		defer close(b.done)
		b.server.Serve(ctx, b)
	}()
	t.Cleanup(b.kill)
	return b
}

// kill ends the daemon as SIGKILL does: the kernel closes everything, and nothing of the daemon runs any more.
func (b *bubble) kill() {
	select {
	case <-b.done:
		return
	default:
	}
	b.dog.Kill()
	b.cancel()
	<-b.done
}

func (b *bubble) running() bool {
	synctest.Wait()
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}

// peer is a client that says what a test tells it.
type peer struct {
	b *bubble
	net.Conn
}

func (b *bubble) dial() *peer {
	b.t.Helper()
	mine, theirs := net.Pipe()
	b.accept <- theirs
	return &peer{b: b, Conn: mine}
}

func (p *peer) send(m wdmdwire.Message) {
	p.b.t.Helper()
	if _, err := p.Write(m.Append(nil)); err != nil {
		p.b.t.Error(err)
	}
	synctest.Wait()
}

func (p *peer) say(c wdmdwire.Command) { p.send(wdmdwire.Message{Command: c}) }

func (p *peer) register(name string) {
	m := wdmdwire.Message{Command: wdmdwire.Register}
	m.SetName(name)
	p.send(m)
}

func (p *peer) live(renewed, expires int) {
	p.send(wdmdwire.Message{Command: wdmdwire.TestLive, RenewalTime: uint64(renewed), ExpireTime: uint64(expires)})
}

func (p *peer) answer() wdmdwire.Message {
	p.b.t.Helper()
	var a [wdmdwire.Size]byte
	if _, err := io.ReadFull(p, a[:]); err != nil {
		p.b.t.Fatal(err)
	}
	m, err := wdmdwire.Decode(a[:])
	if err != nil {
		p.b.t.Fatal(err)
	}
	return m
}

func (p *peer) status() wdmdwire.Message {
	p.b.t.Helper()
	p.say(wdmdwire.Status)
	return p.answer()
}

func (p *peer) open(fire uint32) uint32 {
	p.b.t.Helper()
	p.send(wdmdwire.Message{Command: wdmdwire.OpenWatchdog, FireTimeout: fire})
	return p.answer().FireTimeout
}

func (p *peer) close() {
	p.Conn.Close()
	synctest.Wait()
}

// until sleeps to a second since the bubble began.
func (b *bubble) until(second int) {
	time.Sleep(time.Duration(second)*time.Second - time.Duration(b.server.clock.Now()))
	synctest.Wait()
}

func (b *bubble) events() string { return strings.Join(b.dog.Events(), " ") }
