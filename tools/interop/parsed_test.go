package interop

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/tools/need"
)

// The texts of this file are taken apart by other programs: vdsm, incus, zstack, sos and the tests of lvm2
// read what `sanlock client` and `sanlock direct` print. Here each program talks to its own daemon.

// parsedLines are the command lines that those programs use.
var parsedLines = []string{
	"client status", "client status -D", "client status -o p", "client status -o s",
	"client gets", "client gets -h 1",
	"client host_status -s LS", "client host_status -s LS -D", "client host_status -D", "client inquire -p $P",
	"client inquire -p $P -D", "client renewal -s nowhere", "client read -s :1:$DEV:0 -D",
	"client read -r LS:R1:$DEV:1M",
	"client read -r LS:R1:$DEV:1M -h 1", "client shutdown", "client add_lockspace -s LS:1:$DEV:0 -o 2",
	"client inq_lockspace -s LS:1:$DEV:0", "client acquire -r LS:R1:$DEV:1M -p $P", "client version",
	"direct dump $DEV:0:4194304", "direct dump $DEV:0:134217728", "direct dump $DEV -f 1",
	"direct read_leader -s LS:1:$DEV:0", "direct read_leader -r LS:R1:$DEV:1M",
}

// ofOneRun are values that differ between two runs of one program, and what only newer daemons and ours show.
var ofOneRun = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`(?m)^    (io_timeout=10|watchdog_fire_timeout=60)\n`), ""},
	{regexp.MustCompile(`((?:monotime|cmd_last|kill_last|last_check|last_live|fd|ci|pid|timestamp` +
		`|space_id|res_id|token_id|helper_\w+|(?:renewal|acquire)_last_(?:attempt|success))[= ]| p |^p )-?\d+`), "${1}N"},
	{regexp.MustCompile(`(?m)^p \d+`), "p N"},
	{regexp.MustCompile(`(?m)^(checksum|write_timestamp|extra[123]) .*`), "$1 N"},
	{regexp.MustCompile(`\b00000\d{5}\b`), "TIMESTAMP"},
}

// TestTextsThatOthersParse runs the same story with stock's program and daemon, and with ours, and compares
// what every command of parsedLines prints, and its exit code.
func TestTextsThatOthersParse(t *testing.T) {
	waiting(t, 20)
	need.Root(t)
	var texts [2]map[string]said
	for _, k := range []kind{debian, tenure} {
		texts[k] = parsedTexts(t, k)
	}
	for _, line := range parsedLines {
		if diff := cmp.Diff(texts[debian][line], texts[tenure][line]); diff != "" {
			t.Errorf("sanlock %s (-debian +ours):\n%s", line, diff)
		}
	}
	checkParsers(t, texts[tenure])
}

// parsedTexts is the story: a lockspace, one lease held, one shared, and what the commands say then.
func parsedTexts(t *testing.T, k kind) map[string]said {
	t.Helper()
	d := newDisk(t, 512, 3)
	program := k.program(t)
	gl := []string{"direct", "init", "-r", fmt.Sprintf("LS:GLLK:%s:3M", d.path)}
	if got := runProgram(t, program, "", gl); got.Code != 0 {
		t.Fatalf("%q: %s", gl, got.Out)
	}
	n := start(t, k, 1)
	for _, line := range parsedLines[:2] { // nobody is there to answer
		if got := runProgram(t, program, t.TempDir(), strings.Fields(line)); got.Code != 1 || got.Out != "" {
			t.Errorf("%s: %s without a daemon: exit code %d, said %q", k, line, got.Code, got.Out)
		}
	}
	n.join(t, d.path)
	waitHosts(t, n.runDir, "LS")
	p := holder(t, program, n.runDir,
		fmt.Sprintf("LS:R1:%s:1048576", d.path), fmt.Sprintf("LS:R2:%s:2097152:SH", d.path))
	vars := map[string]string{"DEV": d.path, "P": fmt.Sprint(p.Process.Pid)}
	all := map[string]said{}
	for _, line := range parsedLines {
		got := runProgram(t, program, n.runDir, words(t, line, vars))
		got.Out = strings.ReplaceAll(got.Out, d.path, "DEV")
		for _, r := range ofOneRun {
			got.Out = r.find.ReplaceAllString(got.Out, r.put)
		}
		all[line] = got
	}
	return all
}

// checkParsers takes our texts apart as others do.
func checkParsers(t *testing.T, texts map[string]said) {
	t.Helper()
	// vdsm: the daemon's keys, until a line that is not indented.
	status := strings.Split(texts["client status -D"].Out, "\n")
	keys := map[string]string{}
	for _, line := range status[1:] {
		if !strings.HasPrefix(line, "    ") {
			break
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		keys[key] = value
	}
	known := keys["our_host_name"] == "host1" && keys["max_worker_threads"] == "8"
	if !strings.HasPrefix(status[0], "daemon ") || !known {
		t.Errorf("status -D begins with %q and %v", status[0], keys)
	}
	// incus: a line of the dump with GLLK among its fields.
	found := false
	for line := range strings.Lines(texts["direct dump $DEV:0:134217728"].Out) {
		for field := range strings.FieldsSeq(line) {
			found = found || field == "GLLK"
		}
	}
	if !found {
		t.Error("the dump has no line with GLLK")
	}
	// zstack: the state of a host is the last word of its line.
	host := regexp.MustCompile(`(?m)^h (\d+) gen (\d+) timestamp (\w+) (\w+)$`)
	if m := host.FindStringSubmatch(texts["client gets -h 1"].Out); m == nil || m[1] != "1" || m[4] != "LIVE" {
		t.Errorf("gets -h 1 says %v", m)
	}
}
