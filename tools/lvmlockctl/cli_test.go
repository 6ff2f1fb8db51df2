package lvmlockctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/syslog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmlockd"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestInfoIsPrinted takes pairs of what daemons sent and what stock's lvmlockctl printed of it; of a daemon of ours, what
// we print.
func TestInfoIsPrinted(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		raw, want, _ := strings.Cut(string(text), "----\n")
		var got bytes.Buffer
		printInfo(&got, raw)
		if got.String() != want {
			t.Errorf("%s: printed\n%s\nwant\n%s", f, got.String(), want)
		}
	}
}

// bench is a daemon, and a lvm program that is a script.
type bench struct {
	t      *testing.T
	cfg    Config
	syslog []string
	client *client // of a command that holds locks
}

func newBench(t *testing.T, killCommand string) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{t: t}
	b.cfg = Config{
		Socket: filepath.Join(dir, "s"), DumpSocket: "tenure-ctl-" + filepath.Base(filepath.Dir(dir)), LVM: filepath.Join(dir, "lvm"),
		Syslog: func(p syslog.Priority, text string) error {
			b.syslog = append(b.syslog, fmt.Sprintf("<%d>%s", p, text))
			return nil
		},
	}
	script := "#!/bin/sh\n[ \"$*\" = 'config --typeconfig full global/lvmlockctl_kill_command' ] || exit 9\n" +
		"echo 'lvmlockctl_kill_command=\"" + killCommand + "\"'\n"
	if err := os.WriteFile(b.cfg.LVM, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	e, err := lvmlock.New(lvmlock.Config{
		Managers: []lvmlock.LockManager{fake.New(fake.Config{Type: lvmwire.Sanlock})}, Log: zerolog.Nop(), Test: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.cfg.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s := lvmlockd.NewServer(lvmlockd.ServerConfig{
		Engine: e, Log: zerolog.Nop(), LogText: func() []byte { return []byte("1 a\n2 b\n") }, DumpSocket: b.cfg.DumpSocket,
	})
	go func() { ended <- s.Serve(ctx, l) }()
	if b.client, err = connect(b.cfg.Socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.client.Close()
		stop()
		<-ended
		e.Close()
	})
	b.say(lvmwire.Request{
		Name: "start_vg", VGName: "vg1", Type: lvmwire.Sanlock, VGArgs: "1.0.0:lvmlock", VGUUID: "u", HostID: 1, Opts: "wait",
	}, lvmwire.OK)
	return b
}

// say asks as a command would.
func (b *bench) say(r lvmwire.Request, want lvmwire.Result) {
	b.t.Helper()
	rep, err := b.client.ask(r)
	if err != nil || rep.Result != want {
		b.t.Errorf("%s: result %d, error %v, want %d", r.Name, rep.Result, err, want)
	}
}

func (b *bench) lock(want lvmwire.Result) {
	b.t.Helper()
	b.say(lvmwire.Request{Name: "lock_vg", VGName: "vg1", Mode: lvmwire.SH}, want)
}

// run runs a command line and checks what it prints; "…" in want stands for anything.
func (b *bench) run(line string, code int, wantOut, wantErr string) {
	b.t.Helper()
	var out, stderr bytes.Buffer
	got := Main(b.cfg, append([]string{"lvmlockctl"}, strings.Fields(line)...), &out, &stderr)
	if got != code {
		b.t.Errorf("%s: exit code %d, want %d", line, got, code)
	}
	check(b.t, line+": stdout", out.String(), wantOut)
	check(b.t, line+": stderr", stderr.String(), wantErr)
}

func check(t *testing.T, what, got, want string) {
	t.Helper()
	for part := range strings.SplitSeq(want, "…") {
		if !strings.Contains(got, part) {
			t.Errorf("%s %q has no %q", what, got, part)
		}
	}
	if want == "" && got != "" {
		t.Errorf("%s %q, want nothing", what, got)
	}
}

func TestVerbs(t *testing.T) {
	b := newBench(t, "")
	b.run("-i", 0, "VG vg1 lock_type=sanlock u\nLS sanlock lvm_vg1\n…LK VG un ver 0\n", "")
	b.run("-id", 0, "info=structs …info=ls ls_name=lvm_vg1 …\n\n", "")
	b.run("--dump", 0, "1 a\n2 b\n", "")
	b.run("-q", 0, "", "")
	b.run("-D vg1", 0, "", "")
	b.run("--gl-enable nosuch", 0, "", "")
	b.run("-e -r nosuch", 0, "", "Dropping locks for VG nosuch.\n")
	b.lock(lvmwire.OK)
	b.run("-S -w 0", 0, "", "")
	b.lock(lvmwire.Already)
	b.say(lvmwire.Request{Name: "lock_vg", VGName: "vg1", Mode: lvmwire.UN}, lvmwire.OK)
	b.run("-S", 0, "", "")
	b.lock(lvmwire.NoLockspace)
	b.run("-q", 0, "", "")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, err := connect(b.cfg.Socket); err != nil {
			break
		} else if c.Close(); time.Now().After(end) {
			t.Fatal("lvmlockd goes on after --quit")
		}
	}
	b.run("-i", 255, "Cannot connect to lvmlockd.\n", b.cfg.Socket+": connect failed: No such file or directory\n")
	b.run("-r vg1", 255, "Cannot connect to lvmlockd.\n", "connect failed")
}

func TestUsage(t *testing.T) {
	for line, code := range map[string]int{
		"": 0, "-h": 0, "--help": 0, "-i extra -h": 0, "-w": 1, "-V": 1, "-f 1": 1, "--force 1": 1, "--s": 1, "-k": 1,
	} {
		var out, stderr bytes.Buffer
		got := Main(Config{Socket: "/nonexistent"}, append([]string{"lvmlockctl"}, strings.Fields(line)...), &out, &stderr)
		if got != code || !strings.HasPrefix(out.String(), "lvmlockctl options\n") {
			t.Errorf("%q: exit code %d, want %d; stdout %.40q", line, got, code, out.String())
		}
	}
}

const lost = "<0>lvmlockd lost access to locks in VG vg1.|"

func TestKill(t *testing.T) {
	unused := "<0>Immediately deactivate LVs in VG vg1.|<0>Once VG is unused, run lvmlockctl --drop vg1."
	for command, c := range map[string]struct {
		code   int
		syslog string
		after  lvmwire.Result // of a lock
	}{
		"":          {0, lost + unused, lvmwire.VGKilled},
		"relative":  {0, lost + unused, lvmwire.VGKilled},
		"/bin/true": {0, lost + "<4>Successful VG vg1 kill command /bin/true vg1", lvmwire.NoLockspace},
		"/bin/false": {
			255, lost + "<0>Failed to run VG vg1 kill command /bin/false vg1|" + unused, lvmwire.VGKilled,
		},
		"/nonexistent": {
			255, lost + "<0>Failed to run VG vg1 kill command /nonexistent vg1|" + unused, lvmwire.VGKilled,
		},
		"/usr/bin/test b =": {
			255, lost + "<0>Failed to run VG vg1 kill command /usr/bin/test b = vg1|" + unused, lvmwire.VGKilled,
		},
	} {
		t.Run(command, func(t *testing.T) {
			b := newBench(t, command)
			var out, stderr bytes.Buffer
			if got := Main(b.cfg, []string{"lvmlockctl", "--kill", "vg1"}, &out, &stderr); got != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", got, c.code, out.String(), stderr.String())
			}
			if got := strings.Join(b.syslog, "|"); got != c.syslog {
				t.Errorf("syslog\n%s\nwant\n%s", got, c.syslog)
			}
			b.lock(c.after)
		})
	}
}

// TestKillWithoutHelp: neither lvmlockd nor lvm nor syslog answer, and the administrator is told all the same.
func TestKillWithoutHelp(t *testing.T) {
	var out, stderr bytes.Buffer
	c := Config{Socket: "/nonexistent", LVM: "/nonexistent", Syslog: func(syslog.Priority, string) error {
		return errors.New("no syslog")
	}}
	if got := Main(c, []string{"lvmlockctl", "-k", "vg1"}, &out, &stderr); got != 0 {
		t.Errorf("exit code %d", got)
	}
	check(t, "stdout", out.String(), "Cannot connect to lvmlockd for kill_vg.\nno output from /nonexistent config…child exit error 2\n")
	check(t, "stderr", stderr.String(), "lvmlockd lost access to locks in VG vg1.\n…Once VG is unused, run lvmlockctl --drop vg1.\n")
}
