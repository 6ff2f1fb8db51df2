package lvmlock_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestConversation plays what was said to stock's lvmlockd --test (spec lvmlockd, appendix C), in both
// dialects. The answers are stock's, except those with a note.
//
//	play          lines of: CONNECTION REQUEST KEY=VALUE… or CONNECTION close; below are the answers as they come.
//	              A connection is a number, and with several hosts HOST:NUMBER.
//	info          the dump, below the directive
func TestConversation(t *testing.T) {
	for _, d := range []lvmwire.Dialect{lvmwire.Dialect16, lvmwire.Dialect40} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHost(t, newFake(lvmwire.DLM), func(c *lvmlock.Config) {
					c.GL, c.Test, c.Dialect = lvmwire.DLM, true, d
				})
				path := filepath.Join("testdata", "engine", fmt.Sprintf("conversation-%d.txt", d))
				datadriven.RunTest(t, path, hosts{"": h}.play)
			})
		})
	}
}

// hosts are those of one story by the names that it gives them.
type hosts map[string]*host

// play carries out one directive. Time passes only when nothing else can happen.
func (hs hosts) play(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "info" {
		return hs.info(t, d)
	}
	var out []string
	for line := range strings.Lines(d.Input) {
		who, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, number, several := strings.Cut(who, ":")
		if !several {
			name, number = "", who
		}
		n, err := strconv.Atoi(number)
		h := hs[name]
		switch {
		case d.Cmd != "play" || err != nil || h == nil:
			d.Fatalf(t, "%s: want play, and lines that begin with a connection", line)
		case rest == "close":
			h.gone(n)
		default:
			h.send(n, rest)
		}
		out = append(out, hs.heard(name)...)
	}
	time.Sleep(8 * time.Second)
	synctest.Wait()
	out = append(out, hs.heard("")...)
	return strings.Join(append(out, ""), "\n")
}

// heard returns what was told, first on one host, then on the others.
func (hs hosts) heard(first string) []string {
	var out []string
	for _, name := range slices.SortedFunc(maps.Keys(hs), func(a, b string) int {
		if a == first {
			return -1
		}
		return strings.Compare(a, b)
	}) {
		for _, line := range hs[name].heard() {
			if name != "" {
				line = name + ":" + line
			}
			out = append(out, line)
		}
	}
	return out
}

// info shows a host's dump, without the lines of clients and structs.
func (hs hosts) info(t *testing.T, d *datadriven.TestData) string {
	name := ""
	if len(d.CmdArgs) > 0 {
		name = d.CmdArgs[0].Key
	}
	dialect := lvmwire.Dialect40
	if d.HasArg("16") {
		dialect = lvmwire.Dialect16
	}
	h := hs[name]
	if h == nil {
		d.Fatalf(t, "no host %q", name)
	}
	var out []string
	for line := range strings.Lines(string(h.engine.Info(dialect))) {
		if !strings.HasPrefix(line, "info=structs") && !strings.HasPrefix(line, "info=client") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
