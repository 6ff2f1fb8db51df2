package interop

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/tools/need"
)

// pairs are the ways to put a lvmlockd over a sanlock; all of Debian's is the first.
var pairs = []struct{ lockd, sanlock kind }{{debian, debian}, {tenure, tenure}, {tenure, debian}, {debian, tenure}}

// pair starts both daemons of a host.
func pair(t testing.TB, locks, sanlock kind, id uint64) *lockd {
	t.Helper()
	return startLockd(t, locks, start(t, sanlock, id))
}

// story is what one host's commands were answered.
type story struct {
	t     *testing.T
	d     *lockd
	g     group
	c     *command
	lines []string
}

func (s *story) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.lines = append(s.lines, strings.ReplaceAll(text, s.g.name, "VG"))
}

// say sends a request on a connection, nil for the story's own, and notes what was asked and answered.
func (s *story) say(c *command, r lvmwire.Request) lvmwire.Reply {
	s.t.Helper()
	if c == nil {
		c = s.c
	}
	a := c.must(s.t, r)
	flags := a.Flags
	if a.Result == lvmwire.NoLockspace && strings.Contains(flags, "NO_GL_LS") {
		flags = "NO_GL_LS" // what else it says depends on when Debian's gets to its cleaning up
	}
	result := a.Result
	if result == lvmwire.RepairNeeded {
		result = lvmwire.ManagerError // what 2.03.16 calls it; ours says the more, as 2.03.40 does
	}
	s.line("%s %s %s%s %s -> %d type %s flags %s args %s %s mode %s", r.Name, r.Mode, r.VGName, r.LVUUID, r.Opts,
		result, a.Type, flags, a.VGArgs, a.LVArgs, a.Mode)
	switch r.Name {
	case "stop_vg", "drop_vg", "rename_vg_before", "free_vg":
		time.Sleep(time.Second) // a lockspace that was left is -116 to Debian's until it is cleaned up
	}
	return a
}

// alone waits until it is known that no other host is in the VG's lockspace. Debian's takes nothing for that.
func (s *story) alone(g group) {
	s.t.Helper()
	for deadline := time.Now().Add(startWait); s.c.must(s.t, g.request("busy_vg")).Result != lvmwire.OK; {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is still busy", g.name)
		}
		time.Sleep(pollPause)
	}
}

// leases notes the names that lie in the slots of the lock LV: the lockspace, the global lock, the VG lock, four LVs.
func (s *story) leases() {
	s.t.Helper()
	sanlock := need.Program(s.t, "sanlock")
	read := func(option, value string) string {
		out, _ := exec.Command(sanlock, "direct", "read_leader", option, value).CombinedOutput()
		var kept []string
		for l := range strings.Lines(string(out)) {
			for _, key := range []string{"magic", "flags", "space_name", "resource_name", "sector_size"} {
				if strings.HasPrefix(l, key+" ") {
					kept = append(kept, strings.TrimSpace(l))
				}
			}
		}
		return strings.Join(kept, ", ")
	}
	s.line("lockspace: %s", read("-s", "lvm_"+s.g.name+":1:"+s.g.path+":0"))
	for slot := int64(65); slot < 71; slot++ {
		s.line("slot %d: %s", slot, read("-r", fmt.Sprintf("lvm_%s:x:%s:%dM", s.g.name, s.g.path, slot*s.g.align)))
	}
}

// vgStory is what a host does with a VG from its making to its end.
func vgStory(s *story) {
	say := func(r lvmwire.Request) lvmwire.Reply { s.t.Helper(); return s.say(nil, r) }
	wait := lvmwire.Request{Name: "start_wait", PID: os.Getpid()}
	say(lvmwire.Request{Name: "running_lm", PID: os.Getpid()})
	say(lockGL(lvmwire.SH))
	say(s.g.lockVG(lvmwire.SH))
	say(s.g.init())
	s.leases()
	say(s.g.start(s.d.node))
	say(wait)
	say(s.g.start(s.d.node))
	for _, m := range []lvmwire.Mode{lvmwire.SH, lvmwire.SH, lvmwire.EX, lvmwire.UN, lvmwire.UN} {
		say(lockGL(m))
		say(s.g.lockVG(m))
	}
	// Three LVs: the slots are given in order.
	say(s.g.lockVG(lvmwire.EX))
	var args [4]string
	for i := range args {
		say(s.g.request("find_free_lock"))
		args[i] = say(s.g.lv("init_lv", i, "")).LVArgs
	}
	say(s.g.lv("init_lv", 0, ""))
	update := s.g.request("vg_update")
	update.Version = 4
	say(update)
	s.leases()
	vgLVs(s, say, args)
	// Free, and use the slots again.
	say(s.g.lv("free_lv", 1, args[1]))
	s.leases()
	say(s.g.lockVG(lvmwire.UN))
	say(s.g.request("busy_vg"))
	// The global lock goes away and comes back.
	for _, name := range []string{"enable_gl", "disable_gl", "disable_gl"} {
		say(s.g.request(name))
		say(lockGL(lvmwire.EX))
		say(lockGL(lvmwire.UN))
	}
	s.leases()
	say(s.g.request("enable_gl"))
	say(lockGL(lvmwire.EX))
	say(lockGL(lvmwire.UN))
	vgEnd(s, say, wait)
}

// vgLVs locks LVs in every way, and lets connections end that hold some.
func vgLVs(s *story, say func(lvmwire.Request) lvmwire.Reply, args [4]string) {
	say(s.g.lockLV(0, lvmwire.EX, args[0], "persistent"))
	say(s.g.lockLV(0, lvmwire.EX, args[0], "persistent"))
	say(s.g.lockLV(0, lvmwire.SH, args[0], "none"))
	say(s.g.lockLV(0, lvmwire.UN, args[0], "none"))
	say(s.g.lv("query_lock_lv", 0, args[0]))
	say(s.g.request("stop_vg"))
	say(s.g.lockLV(0, lvmwire.SH, args[0], "persistent"))
	say(s.g.lockLV(0, lvmwire.EX, args[0], "none"))
	say(s.g.lockLV(0, lvmwire.EX, args[0], "persistent"))
	say(s.g.lockLV(0, lvmwire.UN, args[0], "persistent"))
	say(s.g.lockLV(0, lvmwire.UN, args[0], "persistent"))
	say(s.g.lockLV(1, lvmwire.UN, args[1], "persistent"))
	say(s.g.lockLV(1, lvmwire.SH, args[1], "none"))
	other := s.d.command(s.t)
	s.say(other, s.g.lockLV(1, lvmwire.SH, args[1], "none"))
	s.say(other, s.g.lockLV(1, lvmwire.EX, args[1], "none"))
	s.say(other, s.g.lockLV(2, lvmwire.EX, args[2], "none"))
	other.Close()
	// The close is noticed soon.
	for range 100 {
		a := s.c.must(s.t, s.g.lockLV(1, lvmwire.EX, args[1], "none"))
		if a.Result != lvmwire.Again {
			s.line("convert after the close -> %d", a.Result)
			break
		}
		time.Sleep(pollPause)
	}
	say(s.g.lockLV(1, lvmwire.UN, args[1], "none"))
	say(s.g.lockLV(2, lvmwire.EX, args[2], "none"))
	say(s.g.lockLV(2, lvmwire.UN, args[2], "none"))
	say(s.g.lockLV(3, lvmwire.EX, fmt.Sprintf("1.0.0:%d", 953*s.g.align<<20), "persistent")) // beyond the device
	say(s.g.lockLV(3, lvmwire.EX, args[2], "persistent"))                                    // another LV's slot
}

// vgEnd stops, renames and removes the VG.
func vgEnd(s *story, say func(lvmwire.Request) lvmwire.Reply, wait lvmwire.Request) {
	say(s.g.request("stop_vg"))
	say(s.g.request("stop_vg"))
	say(s.g.lockVG(lvmwire.SH))
	say(s.g.start(s.d.node))
	say(wait)
	say(s.g.lockVG(lvmwire.EX))
	s.alone(s.g)
	say(s.g.request("rename_vg_before"))
	renamed := group{s.g.name + "r", s.g.path, s.g.align}
	renamed.link(s.t, renamed.name)
	say(renamed.request("rename_vg_final"))
	s.leases()
	say(renamed.start(s.d.node))
	say(wait)
	say(renamed.lockVG(lvmwire.EX))
	say(renamed.request("kill_vg"))
	say(renamed.lockVG(lvmwire.SH))
	say(renamed.lockVG(lvmwire.UN))
	say(renamed.request("drop_vg"))
	say(renamed.request("drop_vg"))
	say(renamed.start(s.d.node))
	say(wait)
	s.alone(renamed)
	say(lockGL(lvmwire.EX)) // as vgremove does; what is locked is renamed
	say(renamed.lockVG(lvmwire.EX))
	say(renamed.request("free_vg"))
	say(renamed.lockVG(lvmwire.UN))
	s.leases()
}

// TestVGLocks tells one host's story to each pair of daemons; what is answered and left on the disk must be the same,
// with either size of sectors.
func TestVGLocks(t *testing.T) {
	waiting(t, 60)
	sizes := []struct {
		sector int
		align  int64
	}{{512, 1}, {4096, 8}}
	stories := make([][]string, len(sizes)*len(pairs))
	var trials []trial
	for i := range stories {
		p, size := pairs[i%len(pairs)], sizes[i/len(pairs)]
		trials = append(trials, trial{fmt.Sprintf("%s over %s, %d", p.lockd, p.sanlock, size.sector), func(t *testing.T) {
			d := pair(t, p.lockd, p.sanlock, 1)
			s := &story{t: t, d: d, g: newGroupOf(t, fmt.Sprint(i), size.sector, size.align, 71), c: d.command(t)}
			defer func() { stories[i] = s.lines }()
			vgStory(s)
		}})
	}
	together(t, trials...)
	for i := range stories {
		first := i - i%len(pairs)
		if i == first && testing.Verbose() {
			t.Log(strings.Join(stories[i], "\n"))
		}
		if d := cmp.Diff(stories[first], stories[i]); d != "" {
			t.Errorf("%s (-Debian's +this):\n%s", trials[i].name, d)
		}
	}
}

// TestVGLocksAcross sets two hosts beside each other on one VG: what one holds the other is refused, whoever made
// their daemons.
func TestVGLocksAcross(t *testing.T) {
	waiting(t, 40)
	var trials []trial
	for i, p := range [][2]int{{1, 0}, {0, 1}, {1, 1}, {2, 3}} {
		a, b := pairs[p[0]], pairs[p[1]]
		trials = append(trials, trial{
			fmt.Sprintf("%s over %s, %s over %s", a.lockd, a.sanlock, b.lockd, b.sanlock),
			func(t *testing.T) {
				g := newGroup(t, "x"+fmt.Sprint(i), 71)
				one, two := pair(t, a.lockd, a.sanlock, 1), pair(t, b.lockd, b.sanlock, 2)
				one.command(t).want(t, g.init(), lvmwire.OK)
				acrossVG(t, g, one, two)
			},
		})
	}
	// Sizes that only 2.03.40 makes. Debian's lvmlockd looks for the global lock as if leases had 8 MiB, Debian's sanlock
	// goes by the flags.
	for i, align := range []int64{1, 2, 4} {
		trials = append(trials, trial{fmt.Sprintf("leases of %d MiB, 4096", align), func(t *testing.T) {
			g := newGroupOf(t, "y"+fmt.Sprint(i), 4096, align, 71)
			one, two := pair(t, tenure, tenure, 1), pair(t, tenure, debian, 2)
			r := g.init()
			r.AlignMB = align
			one.command(t).want(t, r, lvmwire.OK)
			acrossVG(t, g, one, two)
			s := story{t: t, d: one, g: g}
			s.leases()
			if want := "sector_size 4096, space_name lvm_VG, resource_name " + uuid(1); !strings.Contains(s.lines[4], want) {
				t.Errorf("%q, want %q", s.lines[4], want)
			}
		}})
	}
	together(t, trials...)
}

func acrossVG(t *testing.T, g group, one, two *lockd) {
	a, b := one.command(t), two.command(t)
	g.join(t, one, a)
	g.join(t, two, b)
	// Refused at once, or after tries for some seconds where the other's command may be over soon.
	refused := func(c *command, r lvmwire.Request, least, most time.Duration) {
		t.Helper()
		began := time.Now()
		c.want(t, r, lvmwire.Again)
		if took := time.Since(began); took < least || took > most {
			t.Errorf("%s %s refused after %v, want %v to %v", r.Name, r.Mode, took, least, most)
		}
	}
	const soon, late = 4 * time.Second, 15 * time.Second
	a.want(t, g.lockVG(lvmwire.EX), lvmwire.OK)
	refused(b, g.lockVG(lvmwire.SH), soon, late)
	a.want(t, g.request("find_free_lock"), lvmwire.OK)
	args := a.want(t, g.lv("init_lv", 0, ""), lvmwire.OK).LVArgs
	a.want(t, g.lockVG(lvmwire.UN), lvmwire.OK)
	b.want(t, g.lockVG(lvmwire.EX), lvmwire.OK)
	b.want(t, g.request("find_free_lock"), lvmwire.OK)
	if other := b.want(t, g.lv("init_lv", 1, ""), lvmwire.OK).LVArgs; other == args {
		t.Fatalf("two LVs at %s", args)
	}
	b.want(t, g.lockVG(lvmwire.UN), lvmwire.OK)

	a.want(t, g.lockLV(0, lvmwire.EX, args, "persistent"), lvmwire.OK)
	refused(b, g.lockLV(0, lvmwire.EX, args, "persistent"), 0, soon)
	refused(b, g.lockLV(0, lvmwire.SH, args, "persistent"), soon, late)
	a.want(t, g.lockLV(0, lvmwire.SH, args, "persistent"), lvmwire.OK)
	b.want(t, g.lockLV(0, lvmwire.SH, args, "persistent"), lvmwire.OK)
	refused(a, g.lockLV(0, lvmwire.EX, args, "persistent"), 0, soon)
	b.want(t, g.lockLV(0, lvmwire.UN, args, "persistent"), lvmwire.OK)
	a.want(t, g.lockLV(0, lvmwire.EX, args, "persistent"), lvmwire.OK)

	// The VG's end: not while the other host is there, nor while it may be.
	b.want(t, lockGL(lvmwire.EX), lvmwire.OK)
	refused(a, lockGL(lvmwire.EX), soon, late)
	a.want(t, g.request("free_vg"), lvmwire.Busy)
	b.want(t, lockGL(lvmwire.UN), lvmwire.OK)
	// A daemon that dies leaves its locks; nobody else gets them.
	if err := one.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-one.done
	refused(b, g.lockLV(0, lvmwire.EX, args, "persistent"), 0, soon)
	b.want(t, g.lockVG(lvmwire.EX), lvmwire.OK)
	b.want(t, g.lockVG(lvmwire.UN), lvmwire.OK)
	b.want(t, g.request("stop_vg"), lvmwire.OK)
	one.node.kill(t) // it still has the lease that nobody gave back
}

// TestSharedLVIsTriedAgain asks for an LV that another host has, right after the join, when no renewal of that host was
// seen yet: a shared lock is tried for some seconds, an exclusive one is refused at once. Debian's lvmlockd refuses both
// at once if its sanlock looked between two renewals of the owner and so calls it silent; ours does not, and our sanlock
// does not call it so.
func TestSharedLVIsTriedAgain(t *testing.T) {
	t.Parallel()
	var trials []trial
	for i, p := range pairs {
		trials = append(trials, trial{fmt.Sprintf("%s over %s", p.lockd, p.sanlock), func(t *testing.T) {
			g := newGroup(t, "s"+fmt.Sprint(i), 71)
			one, two := pair(t, p.lockd, p.sanlock, 1), pair(t, p.lockd, p.sanlock, 2)
			a, b := g.started(t, one), two.command(t)
			args := a.want(t, g.lv("init_lv", 0, ""), lvmwire.OK).LVArgs
			a.want(t, g.lockLV(0, lvmwire.EX, args, "persistent"), lvmwire.OK)
			g.join(t, two, b)
			for _, m := range []lvmwire.Mode{lvmwire.SH, lvmwire.EX} {
				began := time.Now()
				b.want(t, g.lockLV(0, m, args, "persistent"), lvmwire.Again)
				took := time.Since(began)
				if p.lockd == debian && p.sanlock == debian {
					t.Logf("%s refused after %v", m, took)
				} else if (took > 4*time.Second) != (m == lvmwire.SH) {
					t.Errorf("%s refused after %v", m, took)
				}
			}
			a.want(t, g.lockLV(0, lvmwire.UN, args, "persistent"), lvmwire.OK)
			a.want(t, g.request("stop_vg"), lvmwire.OK)
			b.want(t, g.request("stop_vg"), lvmwire.OK)
		}})
	}
	together(t, trials...)
}
