package lvmlockctl

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/tools/need"
)

// TestBesideStock lets stock's lvmlockctl and ours ask stock's lvmlockd the same. Stock's looks for it in /run only.
func TestBesideStock(t *testing.T) {
	stockctl, stockd := need.Program(t, "lvmlockctl"), need.Program(t, "lvmlockd")
	if !need.Apart(t, 50*time.Second, "/run") {
		return
	}
	if err := os.Mkdir("/run/lvm", 0o700); err != nil {
		t.Fatal(err)
	}
	both := func(want string, words ...string) {
		t.Helper()
		stock, ours := run(t, stockctl, words...), run(t, "", words...)
		// Stock's reads an empty name as if what follows were it.
		stock = strings.Replace(stock, "VG vg_uuid= lock_type= \nLS  lvm_global", "VG  lock_type=dlm \nLS dlm lvm_global", 1)
		if stock != ours {
			t.Errorf("%q: stock\n%s\nours\n%s", words, stock, ours)
		}
		if !strings.Contains(ours, want) {
			t.Errorf("%q: %s\nhas no %q", words, ours, want)
		}
	}
	both("exit 255: Cannot connect to lvmlockd.", "-i")
	both("exit 255", "-e", "-r", "vg1")
	compareKills(t, stockctl)
	both("exit 1", "-w")
	both("exit 1", "--gl", "x")
	cmd := exec.Command(stockd, "-T", "-D", "-g", "dlm")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	holder := waitFor(t)
	defer holder.Close()
	for _, r := range []lvmwire.Request{
		{Name: "start_vg", VGName: "vg1", Type: lvmwire.DLM, VGArgs: "1.0.0:test", VGUUID: "u", Version: 3, Opts: "wait"},
		{Name: "lock_vg", VGName: "vg1", Mode: lvmwire.EX},
		{Name: "lock_lv", VGName: "vg1", LVName: "l", LVUUID: "U", Type: lvmwire.DLM, Mode: lvmwire.SH, Opts: "persistent"},
	} {
		if rep, err := holder.ask(r); err != nil || rep.Result != 0 {
			t.Fatalf("%s: %d, %v", r.Name, rep.Result, err)
		}
	}
	waiter := waitFor(t)
	defer waiter.Close()
	go func() { _, _ = waiter.ask(lvmwire.Request{Name: "lock_vg", VGName: "vg1", Mode: lvmwire.SH}) }()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(run(t, stockctl, "-i"), "LW VG sh"); {
		if time.Now().After(end) {
			t.Fatal("nobody waits")
		}
	}
	both("LK VG ex ver 0 pid ", "-i")
	both("info=lk mode=ex version=0", "-i", "-d")
	both("exit 0: ", "-E", "vg1")
	both("exit 0: ", "-e", "-D", "vg1")
	both("Dropping locks for VG nosuch.", "-e", "-r", "nosuch")
	both("exit 0: ", "-q")
}

// compareKills holds what is said of a VG's loss against stock's, whatever the administrator's command is and does. No
// lvmlockd runs. Ours tells lvmlockd before it asks lvm for the command, so the order differs.
func compareKills(t *testing.T, stockctl string) {
	t.Helper()
	need.Program(t, "lvm")
	dir := t.TempDir()
	t.Setenv("LVM_SYSTEM_DIR", dir)
	t.Setenv("LVM_SUPPRESS_FD_WARNINGS", "1")
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, command := range []string{
		"", "relative", "/bin/true", "/bin/echo a  b", "/bin/false", "/nonexistent", write("plain", "", 0o600),
		write("ends37", "#!/bin/sh\nexit 37\n", 0o700), write("killed", "#!/bin/sh\nkill -9 $$\n", 0o700), "junk",
	} {
		conf := `global { lvmlockctl_kill_command = "` + command + `" }`
		if command == "junk" {
			conf = "junk {"
		}
		write("lvm.conf", conf, 0o600)
		var said [2][]string
		for i, program := range []string{stockctl, ""} {
			all := strings.Replace(run(t, program, "-e", "--kill", "vg1"), ": ", "\n", 1) // what follows the exit code
			said[i] = strings.FieldsFunc(all, func(r rune) bool { return r == '\n' || r == '|' })
			slices.Sort(said[i])
		}
		if !slices.Equal(said[0], said[1]) {
			t.Errorf("kill command %q: stock\n%q\nours\n%q", command, said[0], said[1])
		}
	}
}

// waitFor connects to lvmlockd, once that listens.
func waitFor(t *testing.T) *client {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := connect(defaultSocket)
		if err == nil {
			return c
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// unlike is what no two runs have in common.
var unlike = regexp.MustCompile(`(?m)unused_.*|^info=client pid=.* name=\.$|lvmlockctl options(?s:.*)|possibilities.*`)

// run runs stock's program, or ours, and returns its exit code and what it prints.
func run(t *testing.T, program string, words ...string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	code := 0
	if program == "" {
		code = Main(Config{}, append([]string{"lvmlockctl"}, words...), &out, &stderr)
	} else {
		cmd := exec.Command(program, words...)
		cmd.Args[0] = "lvmlockctl"
		cmd.Stdout, cmd.Stderr = &out, &stderr
		_ = cmd.Run()
		code = cmd.ProcessState.ExitCode()
	}
	return unlike.ReplaceAllString(fmt.Sprintf("exit %d: %s| %s", code, out.String(), stderr.String()), "")
}
