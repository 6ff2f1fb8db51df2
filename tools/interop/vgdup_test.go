package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// dupStory is what a host does with two VGs that both have the global lock enabled.
func dupStory(s *story, other group) {
	say := func(r lvmwire.Request) lvmwire.Reply { s.t.Helper(); return s.say(nil, r) }
	for _, g := range []group{s.g, other} {
		r := g.init()
		r.Opts, r.Options = "enable", lvmwire.Enable
		say(r)
	}
	// As if other hosts had made them: the daemon that did so knows which is the one.
	_ = s.d.cmd.Process.Kill()
	<-s.d.done
	s.d.run(s.t)
	s.c = s.d.command(s.t)
	for _, g := range []group{s.g, other} {
		say(g.start(s.d.node))
		say(lvmwire.Request{Name: "start_wait", PID: os.Getpid()})
	}
	for _, g := range []group{s.g, other} {
		say(g.lockVG(lvmwire.SH))
		say(g.lockVG(lvmwire.UN))
		say(g.request("find_free_lock"))
		args := say(g.lv("init_lv", 0, "")).LVArgs
		say(g.lockLV(0, lvmwire.EX, args, "persistent"))
		say(g.lockLV(0, lvmwire.EX, args, "persistent"))
		say(g.lockLV(0, lvmwire.UN, args, "persistent"))
		say(g.lockLV(0, lvmwire.UN, args, "persistent"))
		say(g.lv("query_lock_lv", 0, args))
		say(g.lv("free_lv", 0, args))
	}
	// Locks that are shared, changed and refused.
	second := s.d.command(s.t)
	for _, r := range []func(lvmwire.Mode) lvmwire.Request{lockGL, s.g.lockVG} {
		say(r(lvmwire.SH))
		say(r(lvmwire.SH))
		s.say(second, r(lvmwire.SH))
		say(r(lvmwire.EX))
		s.say(second, r(lvmwire.UN))
		say(r(lvmwire.EX))
		say(r(lvmwire.UN))
		say(r(lvmwire.UN))
	}
	say(other.request("disable_gl"))
	for _, g := range []group{s.g, other} {
		say(g.lockVG(lvmwire.SH))
		say(g.lockVG(lvmwire.UN))
	}
	say(lockGL(lvmwire.EX))
	say(lockGL(lvmwire.UN))
	say(other.request("stop_vg"))
	say(s.g.request("stop_vg"))
}

// TestTwoGlobalLocks tells the story to each pair of daemons: the replies that warn of it must be the same.
func TestTwoGlobalLocks(t *testing.T) {
	t.Parallel()
	stories := make([][]string, len(pairs))
	var trials []trial
	for i, p := range pairs {
		trials = append(trials, trial{fmt.Sprintf("%s over %s", p.lockd, p.sanlock), func(t *testing.T) {
			d := pair(t, p.lockd, p.sanlock, 1)
			s := &story{t: t, d: d, g: newGroup(t, fmt.Sprintf("d%da", i), 71), c: d.command(t)}
			other := newGroup(t, fmt.Sprintf("d%db", i), 71)
			defer func() {
				for _, l := range s.lines {
					stories[i] = append(stories[i], strings.ReplaceAll(l, other.name, "OTHER"))
				}
			}()
			dupStory(s, other)
		}})
	}
	together(t, trials...)
	if testing.Verbose() {
		t.Log(strings.Join(stories[0], "\n"))
	}
	for i, p := range pairs[1:] {
		if d := cmp.Diff(stories[0], stories[i+1]); d != "" {
			t.Errorf("%s over %s (-Debian's +this):\n%s", p.lockd, p.sanlock, d)
		}
	}
}
