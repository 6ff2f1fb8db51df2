package sanlockd

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// eventBody is what the event commands send.
func eventBody(l sanlockwire.Lockspace, e sanlockwire.HostEvent) []byte {
	return e.Append(l.Append(nil))
}

// pairOf starts two hosts in one lockspace, each of which has seen the other.
func pairOf(t *testing.T, leasesOn int) (a, b *host) {
	t.Helper()
	disk := newDisk(leasesOn)
	a, b = startHost(t, disk, "a", nil), startHost(t, disk, "b", nil)
	a.join(1)
	b.join(2)
	time.Sleep(10 * time.Second)
	return a, b
}

func (h *host) listening(t *testing.T) *caller {
	t.Helper()
	p := h.dial()
	check(t, "reg_event", p.ask(sanlockwire.CmdRegEvent, 0, 0, 0, eventBody(spaceAs(0), sanlockwire.HostEvent{})), 0)
	return p
}

// events reads what comes within a time.
func (p *caller) events(t *testing.T, within time.Duration) []sanlockwire.Event {
	t.Helper()
	var all []sanlockwire.Event
	if err := p.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	for {
		var raw [sanlockwire.EventSize]byte
		if _, err := io.ReadFull(p, raw[:]); err != nil {
			return all
		}
		var e sanlockwire.Event
		if err := e.Decode(raw[:]); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
}

func (h *host) setEvent(flags uint32, e sanlockwire.HostEvent) int32 {
	p := h.dial()
	defer p.Close()
	return p.ask(sanlockwire.CmdSetEvent, flags, 0, 0, eventBody(spaceAs(0), e))
}

// TestEventGoesToTheOtherHost: everybody who listens there hears it, and hears it again with each renewal of
// the sender as long as the bit is raised, here 12 s.
func TestEventGoesToTheOtherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pairOf(t, 0)
		one, two, own := b.listening(t), b.listening(t), a.listening(t)
		want := sanlockwire.Event{
			HostEvent:  sanlockwire.HostEvent{HostID: 2, Generation: 7, Event: 0x33, Data: 0x44},
			FromHostID: 1, FromGeneration: 1,
		}
		check(t, "set_event", a.setEvent(0, want.HostEvent), 0)
		check(t, "another too early", a.setEvent(0, sanlockwire.HostEvent{HostID: 2, Event: 0x34}), -16)
		check(t, "the same again", a.setEvent(0, want.HostEvent), 0)
		got := one.events(t, 30*time.Second)
		if len(got) < 2 || len(got) > 4 {
			t.Errorf("heard %d times", len(got))
		}
		for _, e := range got {
			if diff := cmp.Diff(want, e); diff != "" {
				t.Error(diff)
			}
		}
		if also := two.events(t, time.Second); len(also) != len(got) {
			t.Errorf("the second listener heard it %d times, the first %d", len(also), len(got))
		}
		if echo := own.events(t, time.Second); len(echo) != 0 {
			t.Errorf("the sender heard %v", echo)
		}
	})
}

// TestEventArguments in stock's order.
func TestEventArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(0), "a", nil)
		h.join(1)
		nameless, unknown := spaceAs(0), spaceAs(0)
		nameless.Name, unknown.Name = leases.Name{}, leases.NameOf("XX")
		for _, c := range []struct {
			what  string
			cmd   uint32
			flags uint32
			space sanlockwire.Lockspace
			host  uint64
			want  int32
		}{
			{"no name", sanlockwire.CmdRegEvent, 0, nameless, 0, -22},
			{"unknown space", sanlockwire.CmdRegEvent, 0, unknown, 0, -2},
			{"host 0", sanlockwire.CmdSetEvent, 0, spaceAs(0), 0, -22},
			{"host 0 to clear", sanlockwire.CmdSetEvent, sanlockwire.EventClear, spaceAs(0), 0, -22},
			{"host 2001", sanlockwire.CmdSetEvent, 0, spaceAs(0), 2001, -22},
			{"unknown space", sanlockwire.CmdSetEvent, 0, unknown, 2, -2},
			{"clear", sanlockwire.CmdSetEvent, sanlockwire.EventClear, spaceAs(0), 2, 0},
			{"clear a bit", sanlockwire.CmdSetEvent, sanlockwire.EventClearHostID, spaceAs(0), 2, 0},
			{"everybody", sanlockwire.CmdSetEvent, sanlockwire.EventAllHosts, spaceAs(0), 2, 0},
		} {
			p := h.dial()
			got := p.ask(c.cmd, c.flags, 0, 0, eventBody(c.space, sanlockwire.HostEvent{HostID: c.host, Event: 1}))
			check(t, c.what, got, c.want)
			p.Close()
		}
		check(t, "end of no name", h.onSpace(sanlockwire.CmdEndEvent, 0, 0, nameless), -22)
		check(t, "end of unknown", h.onSpace(sanlockwire.CmdEndEvent, 0, 0, unknown), -2)
		check(t, "end", h.onSpace(sanlockwire.CmdEndEvent, 0, 0, spaceAs(0)), 0)
		p := h.registered()
		got := p.ask(sanlockwire.CmdRegEvent, 0, 0, 0, eventBody(spaceAs(0), sanlockwire.HostEvent{}))
		check(t, "a registered connection", got, -22)
	})
}

// TestListenersEnd: by a word, by closing, by not reading, with the lockspace. None is a client, and none is
// left.
func TestListenersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pairOf(t, 0)
		var all []*caller
		for range maxListeners {
			all = append(all, b.listening(t))
		}
		late := b.dial()
		got := late.ask(sanlockwire.CmdRegEvent, 0, 0, 0, eventBody(spaceAs(0), sanlockwire.HostEvent{}))
		check(t, "one too many", got, -50)
		late.Close()
		synctest.Wait()
		if n := b.clientCount(); n != 0 {
			t.Errorf("%d clients", n)
		}

		send := func(p *caller, word uint32) {
			_, err := p.Write(binary.LittleEndian.AppendUint32(nil, word))
			if err != nil && !errors.Is(err, io.ErrClosedPipe) { // a pipe may say that of a word that was read
				t.Error(err)
			}
		}
		send(all[0], 2) // means nothing
		send(all[0], sanlockwire.EventEnd)
		if rest := all[0].rest(); len(rest) != 0 {
			t.Errorf("after the end came %x", rest)
		}
		all[1].Close()
		synctest.Wait()
		if n := b.listenerCount(); n != maxListeners-2 {
			t.Errorf("%d listeners", n)
		}
		b.listening(t) // there is room again

		// The others do not read: a renewal is never held up by them.
		for n := range uint64(2 * eventQueue) {
			check(t, "set_event", a.setEvent(sanlockwire.EventReplace, sanlockwire.HostEvent{HostID: 2, Event: n + 1}), 0)
			time.Sleep(5 * time.Second)
		}
		if n := b.listenerCount(); n != 0 {
			t.Errorf("%d listeners that do not read are left", n)
		}
		last := b.listening(t)
		check(t, "rem_lockspace", b.onSpace(sanlockwire.CmdRemLockspace, 0, 0, spaceAs(2)), 0)
		if _, err := io.ReadAll(last); err != nil {
			t.Errorf("after the lockspace was left: %v", err)
		}
	})
}

func (h *host) listenerCount() int {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	return len(h.s.spaces[0].listeners)
}

func (h *host) clientCount() (n int) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	for _, c := range h.s.clients {
		if c != nil {
			n++
		}
	}
	return n
}

// TestRequestReachesTheHolder: what a request on another host does to the holder, within a few renewals.
func TestRequestReachesTheHolder(t *testing.T) {
	const term, kill = "15", "9"
	for _, c := range []struct {
		name     string
		mode     uint32
		restrict uint32
		killpath bool
		shared   bool
		convert  bool   // it is acquired shared, and is exclusive when it is asked for
		adopt    bool   // it is an orphan of a client without wishes first
		want     string // the signal, or the program
	}{
		{name: "force", mode: forceKill, want: kill},
		{name: "force, no SIGKILL", mode: forceKill, restrict: sanlockwire.RestrictSigkill, want: term},
		{name: "graceful", mode: forceGraceful, want: term},
		{name: "graceful, no SIGTERM", mode: forceGraceful, restrict: sanlockwire.RestrictSigterm, want: kill},
		{name: "graceful with a program", mode: forceGraceful, killpath: true, want: "/bin/stop[now]"},
		{name: "force with a program", mode: forceKill, killpath: true, want: kill},
		{name: "unknown mode", mode: 3},
		{name: "shared", mode: forceKill, shared: true},
		{name: "converted", mode: forceKill, shared: true, convert: true, want: kill},
		{
			name: "converted, no SIGKILL", mode: forceKill, restrict: sanlockwire.RestrictSigkill, shared: true, convert: true,
			want: term,
		},
		{
			name: "converted, graceful with a program", mode: forceGraceful, killpath: true, shared: true, convert: true,
			want: "/bin/stop[now]",
		},
		{name: "adopted", mode: forceGraceful, adopt: true, want: term},
		{name: "adopted, no SIGKILL", mode: forceKill, restrict: sanlockwire.RestrictSigkill, adopt: true, want: term},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := pairOf(t, 1)
				p := a.registered()
				if c.restrict != 0 {
					p.ask(sanlockwire.CmdRestrict, c.restrict, 0, self, nil)
				}
				if c.killpath {
					k := sanlockwire.Killpath{Path: "/bin/stop", Args: "now"}
					check(t, "killpath", p.ask(sanlockwire.CmdKillpath, sanlockwire.KillpathPID, 0, self, k.Append(nil)), 0)
				}
				r := lease(1, 0)
				if c.shared {
					r.Flags |= sanlockwire.ResShared
				}
				var flags uint32
				if c.adopt {
					first := a.registered()
					check(t, "acquire for good", first.acquire(0, lease(1, persistent)), 0)
					first.Close()
					synctest.Wait()
					flags = sanlockwire.AcquireOrphanOnly
				}
				check(t, "acquire", p.acquire(flags, r), 0)
				if c.convert {
					check(t, "convert", p.convert(lease(1, 0)), 0)
				}
				asked := lease(1, 0)
				asked.LVer = 9
				check(t, "request", b.dial().ask(sanlockwire.CmdRequest, 0, c.mode, 0, asked.AppendWithDisks(nil)), 0)
				time.Sleep(20 * time.Second)
				if got := a.done(p); got != c.want {
					t.Errorf("the holder got %q, want %q", got, c.want)
				}
			})
		})
	}
}

// done is what was done to a client: the signal that it got, which must be one, or the program that was run.
func (h *host) done(p *caller) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := append([]string(nil), h.started...)
	for _, s := range p.who.signals() {
		n, _, _ := strings.Cut(s, "@")
		all = append(all, n)
	}
	switch len(all) {
	case 0:
		return ""
	case 1:
		return all[0]
	}
	return "several"
}

// TestExamine: a request that is there already is found when somebody says so, and only then.
func TestExamine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(2), "a", nil)
		h.join(1)
		p := h.registered()
		check(t, "acquire", p.acquire(0, lease(1, 0)), 0)
		asked := lease(1, 0)
		asked.LVer = 1 // what the holder has
		check(t, "request of its own version", h.dial().ask(sanlockwire.CmdRequest, 0, forceGraceful, 0,
			asked.AppendWithDisks(nil)), -272)
		asked.LVer = 5
		check(t, "request", h.dial().ask(sanlockwire.CmdRequest, 0, forceGraceful, 0, asked.AppendWithDisks(nil)), 0)
		time.Sleep(time.Minute)
		if got := p.who.signals(); len(got) != 0 {
			t.Errorf("before anybody asked: %v", got)
		}
		check(t, "examine another", h.dial().ask(sanlockwire.CmdExamineResource, 0, 0, 0, lease(2, 0).Append(nil)), 0)
		time.Sleep(time.Second)
		if got := p.who.signals(); len(got) != 0 {
			t.Errorf("after a look at another lease: %v", got)
		}
		check(t, "examine", h.dial().ask(sanlockwire.CmdExamineResource, 0, 0, 0, lease(1, 0).Append(nil)), 0)
		time.Sleep(time.Second)
		check(t, "examine all", h.onSpace(sanlockwire.CmdExamineLockspace, 0, 0, spaceAs(0)), 0)
		time.Sleep(time.Second)
		if got := p.who.signals(); len(got) != 2 {
			t.Errorf("after two looks: %v", got)
		}
	})
}
