package vmtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// Ten commands on each of two hosts, all at once: half of them make an LV, the others remove one.
const (
	togetherEach   = 5
	togetherMemory = 512 // MB, for ten commands beside the daemons
	togetherTime   = 8 * time.Minute
	// requestsMost bounds what one command asks of its lvmlockd: the VG's lock and its unlock, the LV's slot, lock and
	// unlock, the update, and as much again for those that try once more.
	requestsMost = 12
)

// TestLVMTogether lets both hosts change a VG at the same time: each command succeeds or is told that the other host has
// the lock, and the VG is what the successful ones made of it.
func TestLVMTogether(t *testing.T) {
	t.Parallel()
	for _, test := range lvmWhole {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, "sanlock", test.one, test.two, func(o *vm.Options) { o.MemoryMB = togetherMemory })
			for host := 1; host <= 2; host++ {
				p.leases(host)
				p.lockd(host, "")
			}
			p.play("vg", lossVG...)
			p.together()
		})
	}
}

// outcome is how one command of several ended.
type outcome struct {
	host       int
	verb, name string // create or remove, and the LV's name
	code       int
	said       string
}

// conflicts are what a command may say that found a lock taken.
var conflicts = []string{"lock failed: held by other host", "LV locked by other host"}

func (e outcome) conflict() bool {
	return e.code == 5 && slices.ContainsFunc(conflicts, func(c string) bool { return strings.Contains(e.said, c) })
}

// atOnce starts a host's commands side by side and tells how each ended, on a line of its own.
const atOnce = `cd /tmp && rm -f said.* code.*
one() { name=$1; shift; "$@" >said.$name 2>&1; echo $? >code.$name; }
for i in $(seq %[2]d); do
  one create-new%[1]d$i lvcreate -an -Zn -l1 -n new%[1]d$i vg2 &
  one remove-old%[1]d$i lvremove -y vg2/old%[1]d$i &
done
wait
for f in code.*; do n=${f#code.}; echo "@ $n $(cat $f) $(tr '\n' ' ' <said.$n)"; done`

func (p *pair) together() {
	want := map[string]bool{"c1": true, "c2": true}
	for host := 1; host <= 2; host++ {
		for i := 1; i <= togetherEach; i++ {
			name := fmt.Sprintf("old%d%d", host, i)
			p.must(1, "lvcreate -an -Zn -l1 -n "+name+" vg2")
			want[name] = true
		}
	}
	begun := time.Now()
	all := p.sideBySide()
	took := time.Since(begun)
	var done, refused int
	for _, e := range all {
		switch {
		case e.code == 0 && e.verb == "create":
			want[e.name] = true
			done++
		case e.code == 0:
			delete(want, e.name)
			done++
		case e.conflict():
			refused++
		default:
			p.Errorf("vm%d: %s %s: exit code %d: %s", e.host, e.verb, e.name, e.code, e.said)
		}
	}
	if len(all) != 4*togetherEach || done == 0 {
		p.Errorf("%d of %d commands were reported, %d succeeded", len(all), 4*togetherEach, done)
	}
	p.Logf("%d succeeded and %d met a lock in %.1f s", done, refused, took.Seconds())
	for host := 1; host <= 2; host++ {
		p.requests(host, begun)
		p.consistent(host, want)
	}
}

// sideBySide runs the commands of both hosts at once.
func (p *pair) sideBySide() []outcome {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, togetherTime)
	defer cancel()
	var both sync.WaitGroup
	var outs [2]string
	var errs [2]error
	for i := range outs {
		both.Go(func() {
			outs[i], errs[i] = p.rig.Machine(i+1).Do(ctx, fmt.Sprintf(atOnce, i+1, togetherEach))
		})
	}
	both.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		p.Fatal(err)
	}
	var all []outcome
	for i, out := range outs {
		for line := range strings.Lines(out) {
			words := strings.SplitN(strings.TrimSpace(line), " ", 4)
			if len(words) != 4 || words[0] != "@" {
				continue
			}
			code, err := strconv.Atoi(words[2])
			verb, name, ok := strings.Cut(words[1], "-")
			if err != nil || !ok {
				p.Fatalf("vm%d: what is %q?", i+1, line)
			}
			all = append(all, outcome{i + 1, verb, name, code, words[3]})
		}
	}
	return all
}

// requests bounds what a host's lvmlockd was asked since then, by its own log.
func (p *pair) requests(host int, since time.Time) {
	p.Helper()
	var asked int
	for _, command := range []string{"lvcreate", "lvremove"} {
		asked += len(p.rig.Log().Find(vm.Match{Machine: host, Source: "lvmlockd", Text: "recv " + command + "[", Since: since}))
	}
	if commands := 2 * togetherEach; asked < commands || asked > commands*requestsMost {
		p.Errorf("vm%d: lvmlockd had %d requests of %d commands, want %d for each at most", host, asked, commands, requestsMost)
	} else {
		p.Logf("vm%d: lvmlockd had %d requests of %d commands", host, asked, commands)
	}
}

// consistent holds the VG, as a host reads it, to the LVs that it should have, each with a lease of its own.
func (p *pair) consistent(host int, want map[string]bool) {
	p.Helper()
	p.must(host, "vgck vg2")
	got, args := map[string]bool{}, map[string]string{}
	for line := range strings.Lines(p.must(host, "lvs --noheadings -o lv_name,lv_lockargs vg2 2>/dev/null")) {
		words := strings.Fields(line)
		if len(words) != 2 {
			p.Errorf("vm%d: an LV without lock arguments: %q", host, line)
			continue
		}
		got[words[0]] = true
		if other := args[words[1]]; other != "" {
			p.Errorf("vm%d: %s and %s have one lease, %s", host, words[0], other, words[1])
		}
		args[words[1]] = words[0]
	}
	if !maps.Equal(got, want) {
		p.Errorf("vm%d: the VG has %v, want %v", host, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	out := p.must(host, p.ctl(host)+" -i")
	for _, held := range []string{"LK LV ex", "LK LV sh", "LK VG ex", "LK VG sh"} {
		if strings.Contains(out, held) {
			p.Errorf("vm%d: a lock is left behind, %s:\n%s", host, held, out)
		}
	}
	p.must(host, fmt.Sprintf("lvcreate -an -Zn -l1 -n last%d vg2 && lvremove -y vg2/last%d", host, host))
}
