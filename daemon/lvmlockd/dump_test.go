package lvmlockd

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// receiver is what lvmlockctl listens on.
func (r *rig) receiver() *net.UnixConn {
	r.tb.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@" + r.server.cfg.DumpSocket, Net: "unixgram"})
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() { l.Close() })
	return l
}

// collect reads datagrams until there are n bytes.
func collect(tb testing.TB, l *net.UnixConn, n int) string {
	tb.Helper()
	text := make([]byte, 0, n)
	for len(text) < n {
		if err := l.SetReadDeadline(time.Now().Add(answerWait)); err != nil {
			tb.Fatal(err)
		}
		p := make([]byte, maxDatagram+1)
		got, err := l.Read(p)
		if err != nil || got == 0 || got > maxDatagram {
			tb.Fatalf("a datagram of %d bytes after %d of %d: %v", got, len(text), n, err)
		}
		text = append(text, p[:got]...)
	}
	return string(text)
}

// TestDump is trap T36: the answer comes first, then the text.
func TestDump(t *testing.T) {
	long := bytes.Repeat([]byte("a line of the log\n"), 200_000)
	r := newRig(t, func(c *ServerConfig) { c.LogText = func() []byte { return long } })
	l := r.receiver()
	p := r.dial()
	p.startVG("t1")
	rep := p.want("info", lvmwire.OK)
	text := collect(t, l, rep.DumpLen)
	for _, want := range []string{"info=structs ", "info=client pid=", "info=ls ls_name=lvm_t1 vg_name=t1 "} {
		if !strings.Contains(text, want) {
			t.Errorf("info has no %q:\n%s", want, text)
		}
	}
	rep = p.want("dump", lvmwire.OK)
	if text := collect(t, l, rep.DumpLen); text != string(long) {
		t.Errorf("%d bytes of %d came, or others", len(text), len(long))
	}
	// Nobody listens: that is nobody's problem.
	l.Close()
	p.want("dump", lvmwire.OK)
	p.want("running_lm", lvmwire.Result(lvmwire.DLM))
}

func TestDumpTooLong(t *testing.T) {
	r := newRig(t, func(c *ServerConfig) { c.LogText = func() []byte { return make([]byte, maxDump+1) } })
	if rep := r.dial().want("dump", lvmwire.NoSpace); rep.DumpLen != 0 {
		t.Errorf("%d bytes are promised", rep.DumpLen)
	}
}

// TestDumpReceiverSleeps: one that does not read is given up, and holds up nobody.
func TestDumpReceiverSleeps(t *testing.T) {
	r := newRig(t, func(c *ServerConfig) { c.LogText = func() []byte { return make([]byte, maxDump) } })
	r.receiver()
	p, other := r.dial(), r.dial()
	p.want("dump", lvmwire.OK)
	start := time.Now()
	other.want("start_wait", lvmwire.OK)
	t.Logf("another client waited %v", time.Since(start))
	eventually(t, "the dump is given up", func() bool { return strings.Contains(r.log.String(), "bytes left") })
	p.want("start_wait", lvmwire.OK)
}

func TestQuit(t *testing.T) {
	r := newRig(t)
	p, other := r.dial(), r.dial()
	p.startVG("t1")
	p.want("quit", lvmwire.Busy)
	p.want("stop_vg vg_name=t1", lvmwire.OK)
	other.want("quit", lvmwire.OK)
	select {
	case err := <-r.ended:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
		r.ended <- nil
	case <-time.After(answerWait):
		t.Fatal("the server goes on")
	}
	if _, err := net.Dial("unix", r.path); err == nil {
		t.Error("somebody listens after the end")
	}
}

func TestServeEnds(t *testing.T) {
	r := newRig(t)
	a, b := r.dial(), r.dial()
	a.startVG("t1")
	a.want("lock_vg cmd=a vg_name=t1 mode=ex", lvmwire.OK)
	b.send("lock_vg cmd=b vg_name=t1 mode=ex")
	eventually(t, "b waits", func() bool {
		return strings.Contains(string(r.engine.Info(lvmwire.Dialect40)), "info=r_action")
	})
	r.stop()
	select {
	case err := <-r.ended:
		r.ended <- err
	case <-time.After(answerWait):
		t.Fatal("a client that waits keeps the server from ending")
	}
}

func TestWhatIsLogged(t *testing.T) {
	j := newJournal(logSize, nil, nil, 0)
	defer j.Close()
	r := newRig(t, func(c *ServerConfig) { c.Log, c.LogText = j.logger(), j.text })
	p := r.dial()
	p.want("running_lm pid=%1", lvmwire.Result(lvmwire.DLM))
	p.want("lock_vg cmd=vgs mode=sh vg_name=no", lvmwire.NoLockspace)
	p.write("request=\n##\n")
	p.read()
	p.want("nosuch", lvmwire.BadRequest)
	p.conn.Close()
	eventually(t, "the end of the log", func() bool { return bytes.Contains(j.text(), []byte("client close")) })
	for _, want := range []string{
		" new cl 1 pi 0 fd ", " client recv bad message pid 1 client ", "][1] lock_sh_vg vg=no  opts=0x0\n",
		"[1] lock_sh_vg result -210 ENOLS ", " client recv 1 config_from_string error: byte 8: expected a word\n",
		" client recv 1 bad request name \"nosuch\"\n", " client recv 1 ECONNRESET\n", " client close 1 pi 0 fd ",
	} {
		if !bytes.Contains(j.text(), []byte(want)) {
			t.Errorf("the log has no %q:\n%s", want, j.text())
		}
	}
}

func TestRing(t *testing.T) {
	r := ring{size: 50}
	var all string
	for i := range 40 {
		line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", i%7))
		all += line
		r.write([]byte(line))
		got := string(r.read())
		if !strings.HasSuffix(all, got) || len(got) > 50 || len(got) < min(len(all), 30) {
			t.Fatalf("after line %d the ring holds %q", i, got)
		}
		if !strings.HasPrefix(got, "line ") {
			t.Fatalf("after line %d the ring begins with half a line: %q", i, got)
		}
	}
}
