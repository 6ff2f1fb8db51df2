package lvmlockd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/tools/need"
)

const (
	// promptly is after how long a request that is not answered waits for another client.
	promptly = 250 * time.Millisecond
	// dumpTries is how often a dump may be no use.
	dumpTries = 5
	// patience is how long one daemon may take for what the other has done.
	patience = 10 * time.Second
)

// apart runs a test apart from other programs, and says whether this is there: stock looks at /dev/mapper even with
// --test, and where a dump is sent to is known to the whole network namespace.
func apart(t *testing.T) bool {
	t.Helper()
	need.Program(t, "lvmlockd")
	if !need.Apart(t, 170*time.Second, "/dev/mapper") {
		return false
	}
	for _, vg := range []string{"t1", "t2", "t3"} {
		if err := os.WriteFile("/dev/mapper/"+vg+"-lvmlock", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return true
}

// dumps is held while a dump is on its way.
var dumps sync.Mutex

// side is one of the two daemons that are asked the same.
type side struct {
	t       *testing.T
	stock   bool
	gl      string
	socket  string
	last    int // the daemon's number of the newest connection
	clients map[int]*peer
}

// peer is a connection. What is read comes from a goroutine, as an answer may be long in coming.
type peer struct {
	net.Conn
	id      int
	answers chan string
	waits   bool
	asked   string
}

func newSide(t *testing.T, program, gl string, more ...string) *side {
	t.Helper()
	dir := t.TempDir()
	s := &side{t: t, stock: program != os.Args[0], gl: gl, socket: filepath.Join(dir, "socket"), clients: map[int]*peer{}}
	cmd := exec.Command(program, append([]string{
		"-T", "-D", "-g", gl, "-p", filepath.Join(dir, "pid"), "-s", s.socket, "--adopt-file", filepath.Join(dir, "adopt"),
	}, more...)...)
	cmd.Env = append(os.Environ(), mainEnv+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return s
}

// dial connects, once the daemon listens, and waits until it has taken the connection.
func (s *side) dial() *peer {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", s.socket)
		if err == nil {
			s.last++
			p := &peer{Conn: c, id: s.last, answers: make(chan string, 1)}
			go p.read()
			p.say(s.t, lvmwire.Request{Name: "hello"}.Append(nil, lvmwire.Dialect16))
			if p.hear(patience) == "" {
				s.t.Fatal("hello was not answered")
			}
			return p
		}
		if time.Now().After(end) {
			s.t.Fatal(err)
		}
	}
}

func (p *peer) read() {
	defer close(p.answers)
	for r := lvmwire.NewReader(p); ; {
		m, err := r.Next()
		if err != nil {
			return
		}
		p.answers <- string(m)
	}
}

func (p *peer) say(t *testing.T, message []byte) {
	t.Helper()
	p.waits = true
	if _, err := p.Write(message); err != nil {
		t.Fatal(err)
	}
}

// hear returns the answer, "" if there is none in this time.
func (p *peer) hear(limit time.Duration) string {
	select {
	case a := <-p.answers:
		p.waits = false
		return strings.Join(strings.Fields(a), " ")
	case <-time.After(limit):
		return ""
	}
}

// client is the connection of a number, made when it is first used.
func (s *side) client(i int) *peer {
	s.t.Helper()
	if s.clients[i] == nil {
		s.clients[i] = s.dial()
	}
	return s.clients[i]
}

// dump is what lvmlockctl --info prints raw. Stock's was now and then a whole mebibyte and -28 where some hundred bytes
// were to be told, on a busy machine: then it is asked again.
func (s *side) dump() string {
	s.t.Helper()
	for try := 1; ; try++ {
		text, result := s.dumpOnce()
		if result == 0 {
			return text
		}
		if !s.stock || result != int(lvmwire.NoSpace) || try == dumpTries {
			s.t.Fatalf("info of %s: result %d, %d bytes that begin with\n%.2000s", s.socket, result, len(text), text)
		}
		s.t.Logf("stock's dump: result %d, %d bytes that end with\n%s", result, len(text), text[max(0, len(text)-300):])
	}
}

// dumpOnce returns what is told of the dump's making too.
func (s *side) dumpOnce() (string, int) {
	s.t.Helper()
	dumps.Lock()
	defer dumps.Unlock()
	d, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@lvmlockd-dump.sock", Net: "unixgram"})
	if err != nil {
		s.t.Fatal(err)
	}
	defer d.Close()
	p := s.dial()
	defer p.Close()
	p.say(s.t, lvmwire.Request{Name: "info"}.Append(nil, lvmwire.Dialect16))
	a := p.hear(patience)
	var result, length int
	if _, err := fmt.Sscanf(a, `response = "OK" result = %d dump_len = %d`, &result, &length); err != nil {
		s.t.Fatalf("info: %q: %v", a, err)
	}
	text, part := bytes.Buffer{}, make([]byte, 1<<16)
	for text.Len() < length {
		_ = d.SetReadDeadline(time.Now().Add(patience))
		n, err := d.Read(part)
		if err != nil {
			s.t.Fatal(err)
		}
		text.Write(part[:n])
	}
	return text.String(), result
}

// volatile is what two daemons need not have in common: stock writes nothing for an empty name, and with --test says of
// no VG that it has the global lock before it was looked for.
var volatile = regexp.MustCompile(`thread_work=\d | sanlock_gl_enabled=\d|\b(vg_name|vg_uuid|vg_args)=\.?( |$)`)

// state is the dump without what need not be equal, in an order of its own. Stock keeps a lockspace that was left, and
// an LV that nobody holds.
func (s *side) state() string {
	s.t.Helper()
	dump := s.dump()
	for i, p := range s.clients { // before anything is put in order: the two count their connections differently
		dump = regexp.MustCompile(fmt.Sprintf(`client_id=%d\b`, p.id)).ReplaceAllString(dump, fmt.Sprintf("client=%d", i))
	}
	var spaces []string
	at := -1
	for _, part := range regexp.MustCompile(`(?m)^info=(?:ls|r) (?:.*\n(?:info=(?:lk|r_action|ls_action) .*\n)*)`).
		FindAllString(dump, -1) {
		switch {
		case strings.HasPrefix(part, "info=ls ls_name=REM:"):
			at = -1
		case strings.HasPrefix(part, "info=ls "):
			spaces = append(spaces, part)
			at = len(spaces) - 1
		case at >= 0 && (strings.Count(part, "\n") > 1 || !strings.Contains(part, "mode=un")):
			if s.gl == "sanlock" { // stock's value blocks are not kept with --test
				part = regexp.MustCompile(` version=\d+`).ReplaceAllString(part, "")
			}
			spaces[at] += sortLocks(part)
		}
	}
	for i, text := range spaces {
		first, rest, _ := strings.Cut(text, "info=r ")
		resources := strings.Split(rest, "info=r ")
		slices.Sort(resources)
		spaces[i] = first + strings.Join(resources, "info=r ")
	}
	slices.Sort(spaces)
	return volatile.ReplaceAllString(strings.Join(spaces, ""), "")
}

// sortLocks puts the holders of a resource in order. Those who wait have one.
func sortLocks(text string) string {
	lines := strings.SplitAfter(text, "\n")
	slices.SortStableFunc(lines, func(a, b string) int {
		if !strings.HasPrefix(a, "info=lk") || !strings.HasPrefix(b, "info=lk") {
			return 0
		}
		return strings.Compare(a, b)
	})
	return strings.Join(lines, "")
}

// pair asks both daemons the same and compares what they answer.
type pair struct {
	t           *testing.T
	gl          string
	stock, ours *side
	said        []string // for complaints
	compared    int
}

func newPair(t *testing.T, gl string) *pair {
	t.Helper()
	return &pair{
		t: t, gl: gl, stock: newSide(t, need.Program(t, "lvmlockd"), gl), ours: newSide(t, os.Args[0], gl, "--dialect", "16"),
	}
}

func (p *pair) sides() []*side { return []*side{p.stock, p.ours} }

// flags of an answer that there is no lockspace depend on when stock gets to its cleaning up.
var flags = regexp.MustCompile(`(op_result = -210 .*result_flags = ).*|WARN_GL_REMOVED,`)

// compare takes the answers of one request.
func (p *pair) compare(what, stock, ours string) {
	p.t.Helper()
	p.compared++
	p.said = append(p.said, what+": "+stock)
	if strings.Contains(what, " lock_gl mode=sh") { // ours answers what 2.03.16 can go on after
		stock = strings.Replace(stock, "op_result = -125", "op_result = -210", 1)
	}
	stock, ours = flags.ReplaceAllString(stock, "$1"), flags.ReplaceAllString(ours, "$1")
	if strings.ReplaceAll(stock, `""`, `"none"`) != strings.ReplaceAll(ours, `""`, `"none"`) {
		p.t.Errorf("%s\nstock %q\nours  %q\nbefore:\n%s", what, stock, ours,
			strings.Join(p.said[max(0, len(p.said)-20):], "\n"))
		p.t.FailNow() // what follows would differ too
	}
}

// ask sends a request on a connection of each and waits for the answers, if they come promptly.
func (p *pair) ask(c int, request string) {
	p.t.Helper()
	for _, s := range p.sides() {
		s.client(c).say(p.t, message(request))
		s.client(c).asked = request
	}
	p.answers(c, request, promptly)
	p.late()
}

// answers compares what a connection hears. If one heard something the other has time.
func (p *pair) answers(c int, what string, limit time.Duration) {
	p.t.Helper()
	stock := p.stock.clients[c].hear(limit)
	if stock != "" {
		limit = patience
	}
	ours := p.ours.clients[c].hear(limit)
	if ours != "" && stock == "" {
		p.wake()
		stock = p.stock.clients[c].hear(patience)
	}
	if ours != "" || stock != "" {
		p.compare(fmt.Sprintf("%d %s", c, what), stock, ours)
	} else if limit > 0 {
		p.said = append(p.said, fmt.Sprintf("%d %s: waits", c, what))
	}
}

// wake makes stock look at its queues. It grants what is waited for when a lock ends, and sees only at the next request in
// the VG that others who wait are answered by that.
func (p *pair) wake() {
	p.t.Helper()
	c := p.stock.dial()
	defer c.Close()
	for _, request := range []string{"query_lock_vg vg_name=t1", "query_lock_vg vg_name=t2", "query_lock_vg vg_name=global"} {
		c.say(p.t, message(request))
		c.hear(patience)
	}
}

// late takes the answers of those that waited.
func (p *pair) late() {
	p.t.Helper()
	for c, peer := range p.ours.clients {
		if peer.waits {
			p.answers(c, peer.asked, 0)
		}
	}
}

// awaited says that a connection has no answer yet to what it asked of a VG.
func (p *pair) awaited(vg string) bool {
	for c, peer := range p.ours.clients {
		if p.waits(c) && strings.Contains(peer.asked, "vg_name="+vg) {
			return true
		}
	}
	return false
}

// waits says that a connection has no answer yet.
func (p *pair) waits(c int) bool { return p.ours.clients[c] != nil && p.ours.clients[c].waits }

// wait is ask of what takes as long as it takes.
func (p *pair) wait(c int, request string) {
	p.t.Helper()
	p.ask(c, request)
	if p.waits(c) {
		p.answers(c, request, patience)
	}
}

// hangUp closes a connection and waits until both daemons know.
func (p *pair) hangUp(c int) {
	p.t.Helper()
	p.said = append(p.said, fmt.Sprintf("%d is closed", c))
	for _, s := range p.sides() {
		if s.clients[c] == nil {
			continue
		}
		s.clients[c].Close()
		gone := regexp.MustCompile(fmt.Sprintf(`id=%d `, s.clients[c].id))
		held := regexp.MustCompile(fmt.Sprintf(`id=%d\n`, s.clients[c].id))
		delete(s.clients, c)
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if d := s.dump(); !gone.MatchString(d) && !held.MatchString(d) {
				break
			}
			if time.Now().After(end) {
				p.t.Fatal("a connection that was closed is still there")
			}
		}
	}
	p.late()
}

// settled waits until no lockspace is on its way out, and compares what the daemons know.
func (p *pair) settled() {
	p.t.Helper()
	var stock, ours string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		p.late()
		stock, ours = p.stock.state(), p.ours.state()
		if stock == ours && !strings.Contains(stock, "thread_stop=1") {
			p.compared++
			return
		}
	}
	p.t.Errorf("stock knows\n%s\nwe\n%s\nafter:\n%s", stock, ours, strings.Join(p.said[max(0, len(p.said)-20):], "\n"))
	p.t.FailNow()
}

// message makes a request of words: its name, and key=value.
func message(request string) []byte {
	words := strings.Fields(request)
	text := fmt.Sprintf("request=%q", words[0])
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			panic(errors.New("no value: " + request))
		}
		if value == "" || strings.Trim(value, "0123456789") != "" {
			value = fmt.Sprintf("%q", value)
		}
		text += fmt.Sprintf("\n%s =%s", key, value)
	}
	return []byte(text + "\n\n##\n")
}
