package lvmlockd

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answerWait is how long a test waits for what must come.
const answerWait = 20 * time.Second

// rig is a Server on a socket of its own, with locks in memory.
type rig struct {
	tb     testing.TB
	path   string
	server *Server
	engine *lvmlock.Engine
	log    *safeLog
	ended  chan error // what Serve returned
	stop   context.CancelFunc
}

// safeLog is a log that a test may read while it is written.
type safeLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newRig(tb testing.TB, change ...func(*ServerConfig)) *rig {
	tb.Helper()
	r := &rig{tb: tb, path: filepath.Join(tb.TempDir(), "s.sock"), log: &safeLog{}, ended: make(chan error, 1)}
	cfg := ServerConfig{Log: zerolog.New(r.log), DumpSocket: "tenure-" + filepath.Base(tb.TempDir()) + filepath.Base(tb.Name())}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	r.engine, err = lvmlock.New(lvmlock.Config{
		Managers: []lvmlock.LockManager{fake.New(fake.Config{Type: lvmwire.DLM})}, Log: zerolog.New(r.log),
		GL: lvmwire.DLM, Test: true, Dialect: cfg.Dialect,
	})
	if err != nil {
		tb.Fatal(err)
	}
	cfg.Engine = r.engine
	r.server = NewServer(cfg)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.path, Net: "unix"})
	if err != nil {
		tb.Fatal(err)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() { r.ended <- r.server.Serve(ctx, l) }()
	tb.Cleanup(r.close)
	return r
}

// close ends the Server, which must not leave anything behind.
func (r *rig) close() {
	r.stop()
	select {
	case err := <-r.ended:
		if err != nil {
			r.tb.Errorf("Serve: %v", err)
		}
	case <-time.After(answerWait):
		r.tb.Errorf("Serve does not return")
	}
	r.engine.Close()
	if r.tb.Failed() {
		r.tb.Logf("log:\n%s", r.log)
	}
}

// peer is a connection of a test.
type peer struct {
	tb   testing.TB
	conn *net.UnixConn
	in   *lvmwire.Reader
}

func (r *rig) dial() *peer {
	r.tb.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.path, Net: "unix"})
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() { c.Close() })
	return &peer{r.tb, c, lvmwire.NewReader(c)}
}

// write sends bytes as they are.
func (p *peer) write(s string) {
	p.tb.Helper()
	if _, err := p.conn.Write([]byte(s)); err != nil {
		p.tb.Fatalf("write: %v", err)
	}
}

// read returns the next message, its terminator included.
func (p *peer) read() string {
	p.tb.Helper()
	m, err := p.next(answerWait)
	if err != nil {
		p.tb.Fatalf("no answer: %v", err)
	}
	return m
}

func (p *peer) next(wait time.Duration) (string, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return "", err
	}
	m, err := p.in.Next()
	return string(m) + "\n##\n", err
}

// send sends a request, "NAME key=value …", in the words of the script of the captured session: a number follows "%".
func (p *peer) send(text string) {
	p.tb.Helper()
	p.write(encode(text))
}

func encode(text string) string {
	words := strings.Fields(text)
	var b strings.Builder
	fmt.Fprintf(&b, "request=%q\n", words[0])
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		if number, ok := strings.CutPrefix(value, "%"); ok {
			fmt.Fprintf(&b, "%s =%s\n", key, number)
		} else {
			fmt.Fprintf(&b, "%s =%q\n", key, value)
		}
	}
	return b.String() + "\n##\n"
}

// ask sends a request and returns the answer.
func (p *peer) ask(text string) lvmwire.Reply {
	p.tb.Helper()
	p.send(text)
	r, err := lvmwire.DecodeReply([]byte(strings.TrimSuffix(p.read(), "\n##\n")))
	if err != nil {
		p.tb.Fatalf("%s: %v", text, err)
	}
	return r
}

// want asks and checks the result.
func (p *peer) want(text string, result lvmwire.Result) lvmwire.Reply {
	p.tb.Helper()
	r := p.ask(text)
	if r.Result != result {
		p.tb.Errorf("%s: result %d, want %d", text, r.Result, result)
	}
	return r
}

// startVG starts a VG and waits for it.
func (p *peer) startVG(name string) {
	p.tb.Helper()
	p.want("start_vg pid=%1 vg_name="+name+" vg_lock_type=dlm vg_lock_args=1.0.0:test vg_uuid=u version=%1 opts=wait", 0)
}

// eventually waits until ok.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(answerWait); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not in %v", what, answerWait)
		}
	}
}
