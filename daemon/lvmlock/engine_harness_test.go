package lvmlock_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// host is an Engine with its clients, in a bubble.
type host struct {
	t       *testing.T
	engine  *lvmlock.Engine
	log     *strings.Builder
	clients map[int]*lvmlock.Client
	waiting []*asked
}

// asked is a request that is not answered yet.
type asked struct {
	client int
	name   string
	done   chan lvmwire.Reply
}

// newHost makes an Engine with one lock manager and closes it when the test ends.
func newHost(t *testing.T, m lvmlock.LockManager, change ...func(*lvmlock.Config)) *host {
	t.Helper()
	h := &host{t: t, log: &strings.Builder{}, clients: map[int]*lvmlock.Client{}}
	cfg := lvmlock.Config{Managers: []lvmlock.LockManager{m}, Log: zerolog.New(zerolog.SyncWriter(h.log))}
	for _, f := range change {
		f(&cfg)
	}
	e, err := lvmlock.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.engine = e
	t.Cleanup(h.close)
	return h
}

func (h *host) close() {
	for _, c := range h.clients {
		c.Close()
	}
	h.engine.Close()
	synctest.Wait()
	for _, a := range h.waiting {
		<-a.done
	}
	h.waiting = nil
	if h.t.Failed() {
		h.t.Logf("log:\n%s", h.log)
	}
}

// request makes a request as a command writes it: a name, and key=value.
func request(t *testing.T, text string) lvmwire.Request {
	t.Helper()
	words := strings.Fields(text)
	var b strings.Builder
	fmt.Fprintf(&b, "request=%q\npid =1\n", words[0])
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "version", "host_id", "max_retries", "lv_size_bytes", "align_mb":
			fmt.Fprintf(&b, "%s =%s\n", key, value)
		default:
			fmt.Fprintf(&b, "%s =%q\n", key, value)
		}
	}
	r, err := lvmwire.Decode([]byte(b.String()))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

// client returns a connection, made when it is first used.
func (h *host) client(n int) *lvmlock.Client {
	if h.clients[n] == nil {
		h.clients[n] = h.engine.Connect(1000+n, n)
	}
	return h.clients[n]
}

// gone closes a connection; what it is told after that nobody hears.
func (h *host) gone(n int) {
	h.client(n).Close()
	delete(h.clients, n)
	synctest.Wait()
	h.waiting = slices.DeleteFunc(h.waiting, func(a *asked) bool {
		if a.client == n {
			<-a.done
		}
		return a.client == n
	})
}

// send asks and does not wait for the answer.
func (h *host) send(client int, text string) *asked {
	a := &asked{client: client, name: strings.Fields(text)[0], done: make(chan lvmwire.Reply, 1)}
	c, req := h.client(client), request(h.t, text)
	go func() { a.done <- c.Do(context.Background(), req) }()
	h.waiting = append(h.waiting, a)
	synctest.Wait()
	return a
}

// heard returns the answers that came since it was last called: that to the last request first, then those to
// requests that waited for it.
func (h *host) heard() []string {
	var out []string
	var still []*asked
	for _, a := range slices.Backward(h.waiting) {
		select {
		case r := <-a.done:
			out = append(out, fmt.Sprintf("%d %s: %s", a.client, a.name, say(r)))
		default:
			still = append(still, a)
		}
	}
	slices.Reverse(still)
	h.waiting = still
	return out
}

// ask asks and returns the answer, for which it lets pass as much time as it takes, but not more than 10
// minutes.
func (h *host) ask(client int, text string) lvmwire.Reply {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Minute)
	defer cancel()
	r := h.client(client).Do(ctx, request(h.t, text))
	if ctx.Err() != nil {
		h.t.Fatalf("%s: no answer in 10 minutes", text)
	}
	synctest.Wait()
	return r
}

// want asks and compares what say makes of the answer.
func (h *host) want(client int, text, want string) lvmwire.Reply {
	h.t.Helper()
	r := h.ask(client, text)
	if got := say(r); got != want {
		h.t.Errorf("%s: got %q, want %q", text, got, want)
	}
	return r
}

// say is an answer in short: result, lock type, flags and arguments, what is there of them.
func say(r lvmwire.Reply) string {
	words := []string{fmt.Sprint(int32(r.Result))}
	add := func(name, s string) {
		if s != "" && s != "none" {
			words = append(words, name+s)
		}
	}
	query := r.Op == lvmwire.OpQueryLock
	if r.Op != lvmwire.OpInit {
		add("", r.Type.String())
	}
	if !query {
		add("", r.Flags)
	}
	if query {
		add("mode=", r.Mode.String())
	}
	add("vg=", r.VGArgs)
	add("lv=", r.LVArgs)
	return strings.Join(words, " ")
}

// start starts a VG and waits for it.
func (h *host) start(client int, vg, typ string) {
	h.t.Helper()
	r := h.ask(client, fmt.Sprintf("start_vg vg_name=%s vg_lock_type=%s vg_lock_args=%s vg_uuid=uuid-%s version=1 host_id=1 "+
		"opts=wait", vg, typ, vgArgs(typ), vg))
	if r.Result != lvmwire.OK {
		h.t.Fatalf("start_vg %s: result %d", vg, r.Result)
	}
	if r := h.ask(client, "start_wait"); r.Result != lvmwire.OK {
		h.t.Fatalf("start_wait: result %d", r.Result)
	}
}

func vgArgs(typ string) string {
	if typ == "dlm" {
		return "1.0.0:test"
	}
	return "1.0.0:lvmlock"
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// newFake returns a lock manager in memory.
func newFake(typ lvmwire.LockType) *fake.Manager { return fake.New(fake.Config{Type: typ}) }
