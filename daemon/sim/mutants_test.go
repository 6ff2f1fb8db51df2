package sim_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mutant is the shipping code with one line broken.
type mutant struct {
	name     string
	file     string // from the module's root
	old, new string
	caught   string // by this test
}

var mutants = []mutant{
	{
		"pet although a client expired", "watchdog/mux/decision.go",
		"case !failing && len(d.Findings) == 0:", "case !failing:",
		"TestLosses/disk_hangs,_io_2,_stuck",
	},
	{
		"keep the watchdog open after a client's end", "watchdog/mux/decision.go",
		"if left <= horizon+guard {", "if left <= 0 {",
		"TestLosses/disk_hangs,_watchdog_daemon_killed",
	},
	{
		"forget a client that died", "watchdog/mux/mux.go",
		"if !c.Armed() {\n\t\tdelete(", "if c.ID != 0 {\n\t\tdelete(",
		"TestLosses/lease_daemon_killed,_io_2",
	},
	{
		"count the lease from after the renewal's write", "leases/delta/renew.go",
		"r.WriteTook = l.cfg.Clock.Now().Sub(r.At)", "r.At = l.cfg.Clock.Now()",
		"TestLateAnswer",
	},
	{
		"grant at host_fail instead of host_dead", "lockspace/hosts/table.go",
		"case silent > times.HostDead() &&", "case silent > times.HostFail() &&",
		"TestLosses/lease_daemon_killed,_io_2",
	},
	{
		"count another host's silence by a timer without a watchdog", "leases/timeouts/timeouts.go",
		"return seconds(8*s.IO + s.Fire)", "return seconds(8*s.IO + 50)",
		"TestLosses/disk_hangs,_io_2,_stuck",
	},
	{
		"close the link though a holder is left", "daemon/sanlockd/evict.go",
		"case users == 0 && !kept:", "case !kept:",
		"TestLosses/disk_hangs,_io_2,_stuck",
	},
	{
		"never send SIGKILL", "daemon/sanlockd/evict.go",
		"o.sig = syscall.SIGKILL\n\tif s.inGrace(sp) {", "o.sig = syscall.SIGTERM\n\tif s.inGrace(sp) {",
		"TestLosses/disk_fails,_io_2,_stubborn",
	},
	{
		"go on renewing after the lease's end", "lockspace/expiry.go",
		"left := s.times.RenewalFail() - age", "left := s.times.RenewalFail() - age + 20*time.Second",
		"TestLosses/disk_hangs_for_20_s",
	},
	{
		"keep a lockspace whose watchdog daemon is gone", "lockspace/renew.go",
		"if err := s.tellLink(r.At); err != nil {", "if err := s.tellLink(r.At); err != nil && false {",
		"TestLosses/watchdog_daemon_killed,_io_2",
	},
	{
		"tell the watchdog a later end", "lockspace/renew.go",
		"at.Add(s.times.RenewalFail()).Seconds()", "at.Add(s.times.HostDead()).Seconds()",
		"TestLosses/disk_hangs,_io_2,_stuck",
	},
	{
		"join though no watchdog was armed", "daemon/sanlockd/membership.go",
		"s.cfg.Watchdog(name, host)\n\t}\n\tif err != nil {",
		"s.cfg.Watchdog(name, host)\n\t}\n\tif err != nil && link != nil {",
		"TestNoJoinUnarmed",
	},
	{
		"let no watchdog guard a lockspace", "daemon/sanlockd/membership.go",
		"Clock: *s.cfg.Clock, Link: link,", "Clock: *s.cfg.Clock, Link: nil,",
		"TestLosses/disk_hangs,_io_2,_stuck",
	},
	{
		"let a holder write without a look at the clock after the daemon's answer", "daemon/client/guard.go",
		"if g.now() >= g.ask {\n\t\tasked = g.refresh(ctx)\n\t}\n\tif left := g.until.Sub(g.now()); left <= 0 {",
		"now := g.now()\n\tif now >= g.ask {\n\t\tasked = g.refresh(ctx)\n\t}\n\tif left := g.until.Sub(now); left <= 0 {",
		"TestFreezeInQuestion",
	},
	{
		"let a holder write on what it was told long ago", "daemon/client/guard.go",
		"g.ask = g.until.Add(-life / 2)", "g.until = g.until.Add(life * 8)\n\tg.ask = g.until",
		"TestFreeze/checks,_1m30s",
	},
	{
		"kill a holder that stood still when another host has the lease", "daemon/client/guard.go",
		"timeouts.Grace*time.Second)", "3*timeouts.Grace*time.Second)",
		"TestFreeze/enforces,_1m30s",
	},
}

// root is the module's, from here.
const root = "../.."

// TestMutants: each break of the shipping code is caught by a scenario, and the same scenarios pass without
// it.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the code once for each mutant")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command: ", err)
	}
	turns := make(chan struct{}, 2) // builds and runs at a time
	var scenarios []string
	for _, m := range mutants {
		scenarios = append(scenarios, pattern(m.caught))
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			turns <- struct{}{}
			defer func() { <-turns }()
			m.try(t)
		})
	}
	t.Run("no mutant", func(t *testing.T) {
		t.Parallel()
		turns <- struct{}{}
		defer func() { <-turns }()
		if out, err := play(t, t.TempDir(), nil, strings.Join(scenarios, "|")); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// pattern matches a test and those below that begin so.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p)
	}
	return strings.Join(parts, "/")
}

// try plays the mutant's scenarios, one of which must fail.
func (m mutant) try(t *testing.T) {
	dir := t.TempDir()
	overlay, err := m.overlay(dir)
	if err != nil {
		t.Fatal(err)
	}
	out, err := play(t, dir, []string{"-overlay", overlay}, pattern(m.caught))
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && strings.Contains(out, "--- FAIL: "+strings.SplitN(m.caught, "/", 2)[0]):
		t.Log(complaint(out))
	case err == nil:
		t.Errorf("not caught by %s\n%s", m.caught, out)
	default:
		t.Errorf("%v\n%s", err, out)
	}
}

// complaint is the first thing that a scenario complained of.
func complaint(out string) string {
	found := regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: (.*)$`).FindAllStringSubmatch(out, -1)
	for _, f := range found {
		if !strings.HasPrefix(f[1], "fault") && !strings.HasPrefix(f[1], "margin") {
			return f[1]
		}
	}
	return out
}

// overlay writes the mutant and the list that has it replace the file.
func (m mutant) overlay(dir string) (string, error) {
	file, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return "", errors.New(m.file + " does not have exactly once: " + m.old)
	}
	broken := filepath.Join(dir, "mutant.go")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {file: broken}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, errors.Join(
		os.WriteFile(broken, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o600),
		os.WriteFile(overlay, list, 0o600))
}

// play builds this package's tests and plays some. The error is an ExitError only if one of them failed.
func play(t *testing.T, dir string, flags []string, scenarios string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	binary := filepath.Join(dir, "sim.test")
	args := append([]string{"test", "-c", "-vet=off", "-o", binary}, flags...)
	build := exec.CommandContext(ctx, "go", append(args, ".")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return string(out), errors.New("build: " + err.Error())
	}
	run := exec.CommandContext(ctx, binary, "-test.run", scenarios, "-test.timeout", "1m")
	out, err := run.CombinedOutput()
	return string(out), err
}
