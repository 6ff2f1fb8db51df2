package lvmlockd

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// exception is an answer that differs from stock's.
type exception struct {
	said  string // how the request begins
	only  lvmwire.Dialect
	reply lvmwire.Reply
	why   string
}

// alone are the flags of an answer when no lockspace is left.
const alone = "NO_LOCKSPACES,NO_GL_LS,NO_LM"

// exceptions are found by the answer's number.
var exceptions = map[int]exception{
	7:  {`"request=\"nosuch`, 0, lvmwire.Reply{Result: lvmwire.BadRequest}, "stock never answers"},
	9:  {`"foo=`, 0, lvmwire.Reply{Result: lvmwire.BadRequest}, "stock never answers"},
	11: {`"request=\n`, 0, lvmwire.Reply{Result: lvmwire.BadRequest}, "stock never answers"},
	67: {
		"free_lv", 16,
		lvmwire.Reply{Op: lvmwire.OpFree, Type: lvmwire.DLM},
		"what is not locked is free, as 2.03.40 has it; commands only log a failure",
	},
	71: {
		"vg_status", 16,
		lvmwire.Reply{Op: lvmwire.OpVGStatus, Type: lvmwire.DLM},
		"2.03.16 does not know it and never answers",
	},
	86: {
		"lock_vg", 0,
		lvmwire.Reply{Op: lvmwire.OpLock, Result: lvmwire.NoLockspace, Flags: alone},
		"stock still has lvm_global for a moment after drop_vg",
	},
	87: {
		"drop_vg", 0, lvmwire.Reply{Op: lvmwire.OpDropVG, Result: lvmwire.NoLockspace, Flags: alone}, "the same",
	},
	88: {
		"stop_vg", 0, lvmwire.Reply{Op: lvmwire.OpStop, Result: lvmwire.NoLockspace, Flags: alone}, "the same",
	},
}

// TestConversation says to our lvmlockd --test what was said to stock's, byte by byte, and compares the answers.
func TestConversation(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("testdata", "raw-conversation.script"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []lvmwire.Dialect{lvmwire.Dialect16, lvmwire.Dialect40} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("raw-conversation-%d.txt", d)
			text, err := os.ReadFile(filepath.Join("..", "lvmwire", "testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			j := newJournal(logSize, nil, nil, 0)
			defer j.Close()
			c := &conversation{d: d, peers: map[int]*peer{}, rig: newRig(t, func(c *ServerConfig) {
				c.Dialect, c.Log, c.LogText = d, j.logger(), j.text
			})}
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "<< ") {
					c.stock = append(c.stock, strings.TrimSpace(line))
				}
			}
			c.fresh()
			for line := range strings.Lines(string(script)) {
				c.play(strings.TrimSpace(line))
			}
			if len(c.stock) != c.heard {
				t.Errorf("%d answers of stock's, %d of ours", len(c.stock), c.heard)
			}
			c.compareLogs(string(j.text()))
			if c.heard < 90 {
				t.Errorf("only %d answers: is the script understood?", c.heard)
			}
		})
	}
}

// conversation is a captured session on its way.
type conversation struct {
	*rig
	d      lvmwire.Dialect
	peers  map[int]*peer
	at     int      // the connection in use
	last   string   // what was said last
	stock  []string // lines of the captured answers
	heard  int
	closed int
}

func (c *conversation) fresh() {
	c.at = len(c.peers)
	c.peers[c.at] = c.dial()
}

func (c *conversation) play(line string) {
	c.tb.Helper()
	verb, rest, _ := strings.Cut(line, " ")
	p := c.peers[c.at]
	switch verb {
	case "", "mark":
	case "raw":
		text, err := strconv.Unquote(rest)
		if err != nil {
			c.tb.Fatalf("%s: %v", line, err)
		}
		p.write(text)
		c.last = rest
	case "send", "req":
		p.send(rest)
		c.last = rest
		if verb == "req" {
			c.hear()
			c.settle()
		} else {
			// All that the script does not wait for has to wait for another client.
			c.until("a client waits", "info=r_action", true)
		}
	case "recv":
		c.hear()
	case "sleep":
		// What was sent arrives, piece by piece; nothing else depends on time.
		time.Sleep(10 * time.Millisecond)
	case "new":
		c.fresh()
	case "use":
		c.at, _ = strconv.Atoi(rest)
	case "close":
		p.conn.Close()
		mine := fmt.Sprintf("client_id=%d\n", c.at+1)
		eventually(c.tb, "what a client held ends with it", func() bool {
			c.server.mu.Lock()
			n := len(c.server.conns)
			c.server.mu.Unlock()
			return n < len(c.peers)-c.closed && !strings.Contains(string(c.engine.Info(c.d)), mine)
		})
		c.closed++
	default:
		c.tb.Fatalf("script: what is %q?", line)
	}
}

// settle waits for what goes on after an answer: the lockspace of the global lock comes and goes by itself.
func (c *conversation) settle() {
	c.tb.Helper()
	switch verb, rest, _ := strings.Cut(c.last, " "); {
	case verb == "start_vg":
		c.until("the lockspace of the global lock", "info=ls ls_name=lvm_global", true)
		c.until("all lockspaces are joined", "create_done=0", false)
	case verb == "drop_vg", verb == "rename_vg_before", verb == "stop_all" && strings.Contains(rest, "wait"):
		c.until("no lockspace is left", "info=ls ", false)
	}
}

// until waits until the info text has a piece, or has it no more.
func (c *conversation) until(what, piece string, there bool) {
	c.tb.Helper()
	eventually(c.tb, what, func() bool { return strings.Contains(string(c.engine.Info(c.d)), piece) == there })
}

// length is what differs from daemon to daemon in the answer to info.
var length = regexp.MustCompile(`dump_len = \d+`)

// hear reads an answer and compares it with stock's.
func (c *conversation) hear() {
	c.tb.Helper()
	got := length.ReplaceAllString(c.peers[c.at].read(), "dump_len = N")
	if c.heard >= len(c.stock) {
		c.tb.Fatalf("after %s: %q, and stock had no more to say", c.last, got)
	}
	line := c.stock[c.heard]
	c.heard++
	_, quoted, _ := strings.Cut(line, ") ")
	want, err := strconv.Unquote(quoted)
	if strings.HasPrefix(quoted, "partial") {
		want, err = "", nil
	}
	if err != nil {
		c.tb.Fatalf("%s: %v", line, err)
	}
	want = length.ReplaceAllString(want, "dump_len = N")
	if e, ok := exceptions[c.heard]; ok && strings.HasPrefix(c.last, e.said) && (e.only == 0 || e.only == c.d) {
		want = string(e.reply.Append(nil, c.d))
	}
	if got != want {
		c.tb.Errorf("answer %d, to %q\n got %q\nwant %q", c.heard, c.last, got, want)
	}
}

// spoken are the log lines that tell of a request or an answer: what, the command, the connection, the rest.
var spoken = regexp.MustCompile(`^\d+ (recv|send) ([a-z]+)\[\d+\](?: cl (\d+)|\[(\d+)\]) (.*)`)

// spokenLines returns what a log tells of each connection. What cannot be equal is left out: lengths of dumps, what the
// client that closed its connection did not hear, and what 2.03.16 does not know.
func spokenLines(text string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(text) {
		m := spoken.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil || strings.Contains(line, "dump result") || m[2] == "c" && m[1] == "send" ||
			strings.Contains(line, "] cl ") && strings.Contains(line, "vg_status") {
			continue
		}
		id := m[3] + m[4]
		out[id] = append(out[id], m[1]+" "+m[2]+" "+m[5])
	}
	return out
}

// compareLogs compares the log of the session with stock's.
func (c *conversation) compareLogs(text string) {
	c.tb.Helper()
	stock, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("spoken-%d.txt", c.d)))
	if err != nil {
		c.tb.Fatal(err)
	}
	// The results of what exceptions lists stand in the log too.
	same := strings.NewReplacer(" NO_LOCKSPACES,NO_GL_LS,NO_LM", " ")
	want, got := spokenLines(string(stock)), spokenLines(same.Replace(text))
	if len(want) < 5 {
		c.tb.Fatalf("stock's log tells of %d connections: is it understood?", len(want))
	}
	for id, lines := range want {
		for i, line := range lines {
			switch {
			case i >= len(got[id]):
				c.tb.Errorf("connection %s: stock logs %q, we no more", id, line)
			case got[id][i] != line && line != "send a free lv rv -2  ":
				c.tb.Errorf("connection %s: logged %q, stock %q", id, got[id][i], line)
			}
		}
	}
}
