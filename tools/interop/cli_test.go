package interop

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/tools/sanlockcli"
)

// The tests of this file give the same command lines to Debian's program and to ours and compare what is
// printed, the exit code and, with a recorder in the daemon's place, what is asked.

// said is what a command line did.
type said struct {
	Out   string
	Code  int
	Asked []string // requests as they came, in hex
}

// cliTimeout bounds one command line.
const cliTimeout = 30 * time.Second

// runDebian runs Debian's program.
func runDebian(t *testing.T, runDir string, args []string) said {
	t.Helper()
	return runProgram(t, theirs(t), runDir, args)
}

func runProgram(t *testing.T, program, runDir string, args []string) said {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+runDir)
	timer := time.AfterFunc(cliTimeout, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("%s %q: %v", program, args, err)
		return said{}
	}
	return said{Out: string(out), Code: cmd.ProcessState.ExitCode()}
}

// runOurs runs our command line in this process.
func runOurs(runDir string, args []string) said {
	var out, stderr bytes.Buffer
	c := sanlockcli.Config{RunDir: runDir, ConfigPath: "/nonexistent"}
	code := sanlockcli.Main(c, append([]string{"sanlock"}, args...), &out, &stderr)
	return said{Out: out.String(), Code: code}
}

// words cuts a line of the testdata at blanks; '…' keeps blanks, $NAME is replaced.
func words(t *testing.T, line string, vars map[string]string) []string {
	t.Helper()
	var all []string
	for rest := line; rest != ""; {
		var word string
		if quoted, ok := strings.CutPrefix(rest, "'"); ok {
			if word, rest, ok = strings.Cut(quoted, "'"); !ok {
				t.Fatalf("no closing quote: %s", line)
			}
			rest = strings.TrimPrefix(rest, " ")
		} else {
			word, rest, _ = strings.Cut(rest, " ")
		}
		all = append(all, os.Expand(word, func(name string) string { return vars[name] }))
	}
	return all
}

// lines reads the command lines of a file in testdata. A line that begins with "!" and a space is one that
// ours refuses on purpose where stock goes on; the reason is the comment above it.
func lines(t *testing.T, name string) (same, stricter []string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		line := strings.TrimSpace(in.Text())
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "! "):
			stricter = append(stricter, line[2:])
		default:
			same = append(same, line)
		}
	}
	if len(same) < 50 {
		t.Fatalf("%s has only %d lines", name, len(same))
	}
	return same, stricter
}

// recorder is a daemon that answers every request with one result and remembers what it was asked.
type recorder struct {
	dir    string
	l      net.Listener
	result int32
	wait   sync.WaitGroup

	mu    sync.Mutex
	asked []string
}

func record(t *testing.T, result int32) *recorder {
	t.Helper()
	r := &recorder{dir: t.TempDir(), result: result}
	var err error
	if r.l, err = net.Listen("unix", filepath.Join(r.dir, "sanlock.sock")); err != nil {
		t.Fatal(err)
	}
	r.wait.Go(func() {
		for {
			c, err := r.l.Accept()
			if err != nil {
				return
			}
			r.talk(c) // one after the other: see taken
		}
	})
	t.Cleanup(func() {
		r.l.Close()
		r.wait.Wait()
	})
	return r
}

// mark is the sequence number of the recorder's own request.
const mark = 1 << 30

// taken returns what was asked since the last call. A request that has no answer may still be on its way when
// the program that sent it has ended; one of our own behind it waits for it.
func (r *recorder) taken(t *testing.T) []string {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(r.dir, "sanlock.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := sanlockwire.NewHeader(sanlockwire.CmdVersion, 0, 0, 0, 0)
	h.Seq = mark
	p := h.Append(nil)
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

func (r *recorder) talk(c net.Conn) {
	defer c.Close()
	for {
		h, body, err := sanlockwire.ReadRequest(c)
		var refused *sanlockwire.RefusedError
		if err != nil && !errors.As(err, &refused) {
			return
		}
		if h.Seq != mark {
			r.mu.Lock()
			r.asked = append(r.asked, fmt.Sprintf("%x %x", h.Append(nil), bytes.TrimRight(body, "\x00")))
			r.mu.Unlock()
		}
		answer := h.Reply(sanlockwire.ResultOf(err), 0).Append(nil)
		switch cmd, _ := sanlockwire.CommandOf(h.Cmd); {
		case cmd.Silent:
			continue
		case refused == nil:
			answer = r.reply(h, body)
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
		switch h.Cmd {
		case sanlockwire.CmdStatus, sanlockwire.CmdHostStatus, sanlockwire.CmdRenewal, sanlockwire.CmdLogDump:
			return // the end of the connection is the end of the answer
		}
	}
}

// reply makes up an answer with a body where there must be one: what was named, and a host or two.
func (r *recorder) reply(h sanlockwire.Header, body []byte) []byte {
	var tail []byte
	var data2 uint32
	switch h.Cmd {
	case sanlockwire.CmdReadLockspace:
		tail, data2 = body, 17
	case sanlockwire.CmdReadResource:
		tail = body[:sanlockwire.ResourceSize]
	case sanlockwire.CmdReadResourceOwners:
		tail = bytes.Clone(body[:sanlockwire.ResourceSize])
		if r.result == 0 {
			tail = sanlockwire.Host{HostID: 4, Generation: 5, Timestamp: 6}.Append(tail)
			tail = sanlockwire.Host{HostID: 7, Generation: 8}.Append(tail)
			data2 = 2
		}
	case sanlockwire.CmdUpdateRindex, sanlockwire.CmdLookupRindex, sanlockwire.CmdCreateResource,
		sanlockwire.CmdDeleteResource:
		tail = body[sanlockwire.RindexSize:]
	case sanlockwire.CmdVersion:
		data2 = sanlockwire.DaemonVersion
	case sanlockwire.CmdInquire:
		if r.result == 0 {
			tail, data2 = []byte("ls:r1:/dev/x:1048576:5 ls:r2:/a\\:a:2:/b:3:SH\x00"), 2
		}
	}
	result := r.result
	if h.Cmd == sanlockwire.CmdStatus {
		result = 0 // no daemon refuses it, and stock does not look
	}
	out := h.Reply(result, len(tail))
	out.Data2 = data2
	return append(out.Append(nil), tail...)
}

// cliNames are long texts for the lines of testdata.
func cliNames() map[string]string {
	n := func(k int) string { return strings.Repeat("n", k) }
	return map[string]string{"N48": n(48), "N49": n(49), "N60": n(60), "N1023": n(1023), "N1024": n(1024)}
}

// TestCommandLines gives every line of testdata/cli.txt to both programs three times: to a daemon that grants
// everything, to one that refuses everything, and without a daemon.
func TestCommandLines(t *testing.T) {
	working(t, 10)
	theirs(t)
	same, stricter := lines(t, "cli.txt")
	for _, c := range []struct {
		name   string
		daemon bool
		result int32
	}{{"granted", true, 0}, {"refused", true, -243}, {"not ready", true, -11}, {"no daemon", false, 0}} {
		t.Run(c.name, func(t *testing.T) {
			r := record(t, c.result)
			dir := r.dir
			if !c.daemon {
				dir = t.TempDir()
			}
			for _, line := range same {
				args := words(t, line, cliNames())
				want := runDebian(t, dir, args)
				want.Asked = r.taken(t)
				got := runOurs(dir, args)
				got.Asked = r.taken(t)
				if want.Code == crashed {
					t.Errorf("%s: stock crashes; no line to compare", line)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-debian +ours):\n%s", line, diff)
				}
			}
			for _, line := range stricter {
				got := runOurs(dir, words(t, line, cliNames()))
				if asked := r.taken(t); got.Code != 1 || len(asked) != 0 || got.Out == "" {
					t.Errorf("%s: exit code %d after %q, asked %v", line, got.Code, got.Out, asked)
				}
			}
		})
	}
}

// crashed is what ExitCode returns for a process that a signal ended.
const crashed = -1

// Values that change between one command and the next.
var changing = regexp.MustCompile(`((?:monotime|cmd_last|helper_last_status|last_check|last_live|fd|ci|timestamp` +
	`|(?:renewal|acquire)_last_(?:attempt|success))[= ]|(?:register done|acquire fd) )\d+`)

// scrub takes out what differs between two runs of one program.
func (o said) scrub() said {
	o.Out = changing.ReplaceAllString(o.Out, "${1}N")
	return o
}

// holder runs `sanlock client command` with a program that sleeps, and returns its pid once it holds r.
func holder(t *testing.T, program, runDir string, resources ...string) *exec.Cmd {
	t.Helper()
	args := []string{"client", "command"}
	for _, r := range resources {
		args = append(args, "-r", r)
	}
	cmd := exec.Command(program, append(args, "-c", "/bin/sh", "-c", "echo started; exec sleep 600")...)
	cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+runDir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var heard strings.Builder
	for in := bufio.NewScanner(out); in.Scan(); {
		heard.WriteString(in.Text() + "\n")
		if in.Text() == "started" {
			return cmd
		}
	}
	t.Fatalf("%q ended before its program began:\n%s", args, heard.String())
	return nil
}

// TestCommandLinesOnADaemon gives the lines of testdata/cli-daemon.txt to both programs, each beside the same
// daemon of Debian's in the same state. What is behind " ; " in a line is done by Debian's program after each
// of the two, to bring the state back.
func TestCommandLinesOnADaemon(t *testing.T) {
	waiting(t, 20)
	n := start(t, debian, 1)
	dir := t.TempDir()
	vars := map[string]string{"F": filepath.Join(dir, "f"), "G": filepath.Join(dir, "g h:i")}
	vars["E"] = sanlockwire.ExportPath(vars["G"])
	debianDoes := func(line string) {
		t.Helper()
		if got := runDebian(t, n.runDir, words(t, line, vars)); got.Code != 0 {
			t.Fatalf("%s: exit code %d\n%s", line, got.Code, got.Out)
		}
	}
	for _, path := range []string{vars["F"], vars["G"]} {
		if err := os.WriteFile(path, make([]byte, 16<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{
		"direct init -s one:0:$F:0 -o 1", "direct init -s two:0:$E:0 -o 1",
		"add_lockspace -s one:1:$F:0 -o 1", "add_lockspace -s two:5:$E:0 -o 1",
		"init -r one:r1:$F:1048576", "init -r one:r2:$F:2097152", "init -r one:free:$F:3145728",
		"init -r two:q:$E:1048576", "format -x one:$F:4194304", "create -x one:$F:4194304 -e entry",
	} {
		debianDoes(line)
	}
	n.space = lockspace{name: "one"} // so that the daemon is killed at the end, not asked to leave
	p1 := holder(t, theirs(t), n.runDir, words(t, "one:r1:$F:1048576", vars)[0])
	p2 := holder(t, theirs(t), n.runDir,
		words(t, "one:r2:$F:2097152:SH", vars)[0], words(t, "two:q:$E:1048576", vars)[0])
	vars["P"], vars["Q"] = fmt.Sprint(p1.Process.Pid), fmt.Sprint(p2.Process.Pid)
	waitHosts(t, n.runDir, "one", "two")

	same, _ := lines(t, "cli-daemon.txt")
	for _, line := range same {
		compareOn(t, n.runDir, line, vars)
	}

	// Now with an orphan and a lockspace that is being added, which takes 20 s and more.
	debianDoes("acquire -p $P -r one:free:$F:3145728 -P 1")
	if err := p1.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p1.Wait()
	debianDoes("direct init -s three:0:$F:12582912")
	adding := exec.Command(theirs(t), words(t, "add_lockspace -s three:7:$F:12582912", vars)...)
	adding.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+n.runDir)
	if err := adding.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = adding.Process.Kill()
		_ = adding.Wait()
	}()
	waitText(t, n.runDir, " ADD", " ORPHAN")
	for _, line := range []string{
		"status", "status -D", "status -o p", "status -o s", "gets", "gets -h 1", "host_status",
		"inq_lockspace -s three:7:$F:12582912", "renewal -s three",
	} {
		compareOn(t, n.runDir, line, vars)
	}
}

// stateChanges is how often a line may be given again because what it shows changed meanwhile.
const stateChanges = 5

// compareOn gives one line to both programs. If they differ, Debian's is asked again: if it no longer says what
// it said, the daemon's state has changed between the two, and both are asked anew.
func compareOn(t *testing.T, runDir, line string, vars map[string]string) {
	t.Helper()
	line, undo, _ := strings.Cut(line, " ; ")
	args := words(t, line, vars)
	ask := func(run func() said) said {
		said := run().scrub()
		if undo != "" {
			if got := runDebian(t, runDir, words(t, undo, vars)); got.Code != 0 {
				t.Fatalf("%s: exit code %d\n%s", undo, got.Code, got.Out)
			}
		}
		return said
	}
	theirs := func() said { return runDebian(t, runDir, args) }
	ours := func() said { return runOurs(runDir, args) }

	for try := 1; ; try++ {
		want := ask(theirs)
		if want.Code == crashed {
			t.Errorf("%s: stock crashes; no line to compare", line)
		}
		diff := cmp.Diff(want, ask(ours))
		if diff == "" {
			return
		}
		if try == stateChanges || cmp.Equal(want, ask(theirs)) {
			t.Errorf("%s (-debian +ours):\n%s", line, diff)
			return
		}
	}
}

// waitText waits until Debian's status shows all of the given words.
func waitText(t *testing.T, runDir string, all ...string) {
	t.Helper()
	for end := time.Now().Add(startWait); ; time.Sleep(pollPause) {
		out := runDebian(t, runDir, []string{"status"}).Out
		missing := false
		for _, word := range all {
			missing = missing || !strings.Contains(out, word)
		}
		if !missing {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("status does not show all of %q:\n%s", all, out)
		}
	}
}

// waitHosts waits until the daemon has looked at the hosts of its lockspaces.
func waitHosts(t *testing.T, runDir string, spaces ...string) {
	t.Helper()
	for _, space := range spaces {
		for end := time.Now().Add(startWait); ; time.Sleep(pollPause) {
			rv, _, err := getHosts(runDir, space, 0)
			if err == nil && rv == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("get_hosts of %s: %d, %v", space, rv, err)
			}
		}
	}
}

// TestCommandHoldsTheLease runs a program by our `client command` beside Debian's daemon: it must hold the
// lease as long as it lives, and no longer; and without the lease it must not run.
func TestCommandHoldsTheLease(t *testing.T) {
	waiting(t, 10)
	n := start(t, debian, 1)
	vars := map[string]string{"F": filepath.Join(t.TempDir(), "f")}
	if err := os.WriteFile(vars["F"], make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"direct init -s one:0:$F:0 -o 1", "add_lockspace -s one:1:$F:0 -o 1", "init -r one:r1:$F:1M",
	} {
		if got := runDebian(t, n.runDir, words(t, line, vars)); got.Code != 0 {
			t.Fatalf("%s: %s", line, got.Out)
		}
	}
	n.space = lockspace{name: "one"}
	resource := words(t, "one:r1:$F:1M", vars)[0]
	held := words(t, "one:r1:$F:1048576:1", vars)[0]
	p := holder(t, ours(t), n.runDir, resource)
	pid := fmt.Sprint(p.Process.Pid)

	want := "inquire pid " + pid + "\ninquire done 0 res_count 1\n\"" + held + "\"\n"
	if got := runDebian(t, n.runDir, []string{"inquire", "-p", pid}); got.Out != want {
		t.Errorf("the process that was started holds\n%s, want\n%s", got.Out, want)
	}
	marker := filepath.Join(t.TempDir(), "ran")
	second := runProgram(t, ours(t), n.runDir,
		[]string{"command", "-r", resource, "-c", "/bin/touch", marker})
	if _, err := os.Stat(marker); err == nil || second.Code != 1 || !strings.Contains(second.Out, "acquire done -17\n") {
		t.Errorf("a second one: exit code %d, ran: %v\n%s", second.Code, err == nil, second.Out)
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	for end := time.Now().Add(startWait); ; time.Sleep(pollPause) {
		got := runProgram(t, ours(t), n.runDir, []string{"command", "-r", resource, "-c", "/bin/sh", "-c", "exit 7"})
		if got.Code == 7 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the lease does not come back: exit code %d\n%s", got.Code, got.Out)
		}
	}
}
