package interop

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// demand is a request for a lease and how its holder has prepared for that.
type demand struct {
	name     string
	mode     uint32
	restrict uint32
	program  bool // the holder has named one that is to stop it
}

var demands = []demand{
	{"force", 1, 0, false},
	{"force, no SIGKILL", 1, restrictSigkill, false},
	{"force, with a program", 1, 0, true},
	{"graceful", 2, 0, false},
	{"graceful, no SIGTERM", 2, 4, false},
	{"graceful, with a program", 2, 0, true},
	{"graceful, with a program, no SIGTERM", 2, 4, true},
	{"unknown mode", 3, 0, false},
}

// TestRequests: what a request on a host of one kind does to the holder on a host of the other, within a few
// renewals, is what it does between two hosts of stock's.
func TestRequests(t *testing.T) {
	waiting(t, 40)
	var trials []trial
	for _, sector := range []int64{512, 4096} {
		trials = append(trials, trial{fmt.Sprint(sector), func(t *testing.T) {
			// Of each pair the second host holds.
			pairs := [][2]kind{{debian, debian}, {debian, tenure}, {tenure, debian}, {tenure, tenure}}
			fates := make([]map[string]string, len(pairs))
			var each []trial
			for i, p := range pairs {
				each = append(each, trial{fmt.Sprintf("%s asks %s", p[0], p[1]), func(t *testing.T) {
					fates[i] = askHolders(t, newDisk(t, sector, len(demands)), p[0], p[1])
				}})
			}
			together(t, each...)
			for i, p := range pairs[1:] {
				if diff := cmp.Diff(fates[0], fates[i+1]); diff != "" {
					t.Errorf("two of stock's (-) and %s that asks %s (+):\n%s", p[0], p[1], diff)
				}
			}
		}})
	}
	together(t, trials...)
}

// askHolders makes every demand of the holders on one host from the other, and returns what befell them.
func askHolders(t *testing.T, d disk, asking, holding kind) map[string]string {
	nodes := cluster(t, d.path, asking, holding)
	script, ran := argsScript(t)
	var holders []*victim
	for i, c := range demands {
		holders = append(holders, holderOf(t, nodes[1], d.lease(i+1), func(e *errand) {
			e.Restrict = c.restrict
			if c.program {
				e.Killpath = script
				e.KillArgs = fmt.Sprintf("R%d one\\ two", i+1)
			}
		}))
	}
	// All within one interval of renewals: a host looks at its leases once for all that it is asked then.
	stamp := func() uint64 { return binary.LittleEndian.Uint64(d.sectorAt(t, 0, 0)[152:]) }
	for last := stamp(); stamp() == last; {
		time.Sleep(pollPause)
	}
	for i, c := range demands {
		p := d.lease(i+1).append(nil, true)
		binary.LittleEndian.PutUint64(p[96:], 100)
		err := once(nodes[0].runDir, func(conn *conn) error {
			must(t, nodes[0], "request", 0)(conn.result(cmdRequest, 0, c.mode, p))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(8 * ioTimeout * time.Second) // the asker's renewal, the holder's, and some
	fates := map[string]string{}
	for i, c := range demands {
		terms, _, by := holders[i].fate()
		fates[c.name] = fmt.Sprintf("SIGTERM: %v, ended by %d, program: %s", len(terms) > 0, by,
			strings.Join(ranWith(t, ran, fmt.Sprintf("R%d", i+1)), ", "))
		if by != syscall.SIGKILL {
			_ = holders[i].cmd.Process.Kill() // its end is waited for next
		}
		<-holders[i].done
	}
	for _, n := range nodes {
		n.leave(t)
	}
	return fates
}

// argsScript returns a program that notes its arguments, and the file it does that in.
func argsScript(t *testing.T) (script, ran string) {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "request") //nolint:usetesting // a killpath has at most 127 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	script, ran = filepath.Join(dir, "stop"), filepath.Join(dir, "ran")
	text := "#!/bin/sh\nfor a; do all=\"$all<$a>\"; done\necho \"$all\" >>" + ran + "\n" // others write it too
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script, ran
}

// ranWith returns the argument lists that begin with a word.
func ranWith(t *testing.T, file, first string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "<"+first+">") {
			all = append(all, line)
		}
	}
	return all
}
