package wdmdcli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/need"
	"github.com/tenurelock/tenure/watchdog"
	"github.com/tenurelock/tenure/watchdog/memdog"
	"github.com/tenurelock/tenure/watchdog/wdmd"
)

// The same command lines for both programs: texts, where they go, and exit codes. None of them starts a daemon. Both
// programs look for one in /run/wdmd and nowhere else, and one that comes or goes between the two answers both differently.
func TestBesideStock(t *testing.T) {
	stock := need.Program(t, "wdmd")
	if !need.Apart(t, 100*time.Second, "/run") {
		return
	}
	for _, line := range []string{
		"-h", "--help", "--he", "-V", "--vers", "-Vh", "-hV", "-d", "-dV", "-pV", "-p", "--probe", "-p -x", "-x -V",
		"--foo -V", "--help=3 -V", "-S 2 -V", "-S2V -V", "-k x -V", "-H0 -p", "-w /dev/null -p", "-p -w /dev/null",
		"-w/dev/null -p", "-p -w /dev/watchdog0", "-w /nonexistent -p", "foo -V", "-DV", "-G nobody -V", "--p -V",
		"-s /nonexistent -S 1 -p", "- -V",
	} {
		args := strings.Fields(line)
		var out, complaints bytes.Buffer
		cmd := exec.Command(stock, args...)
		cmd.Args[0] = "wdmd"
		cmd.Stdout, cmd.Stderr = &out, &complaints
		_ = cmd.Run() // the code is compared below
		var ours, oursErr bytes.Buffer
		code := Main(Config{}, append([]string{"wdmd"}, args...), &ours, &oursErr)
		if code != cmd.ProcessState.ExitCode() || ours.String() != out.String() || oursErr.String() != complaints.String() {
			t.Errorf("wdmd %s: %d %q %q\nstock: %d %q %q", line, code, ours.String(), oursErr.String(),
				cmd.ProcessState.ExitCode(), out.String(), complaints.String())
		}
	}
}

// A daemon whose options were not understood is not started.
func TestBadOptions(t *testing.T) {
	for line, complaint := range map[string]string{
		"-x": "wdmd: invalid option -- 'x'\n", "-w": "wdmd: option requires an argument -- 'w'\n",
		"--foo": "wdmd: unrecognized option '--foo'\n",
	} {
		var out, complaints bytes.Buffer
		if code := Main(Config{}, []string{"wdmd", line}, &out, &complaints); code != 1 ||
			!strings.HasPrefix(complaints.String(), complaint) {
			t.Errorf("%s: %d, %q", line, code, complaints.String())
		}
	}
}

func TestOptions(t *testing.T) {
	usual := options{high: true, group: "sanlock", scripts: "/etc/wdmd.d"}
	for line, change := range map[string]func(*options){
		"":                     func(*options) {},
		"-D":                   func(o *options) { o.debug = true },
		"-DH0":                 func(o *options) { o.debug, o.high = true, false },
		"-H 1 -G daemon":       func(o *options) { o.group = "daemon" },
		"-S 1 -s /x -k 5":      func(o *options) { o.allowScripts, o.scripts, o.kill = true, "/x", 5 },
		"-k -5":                func(*options) {},
		"-w /dev/watchdog1 -D": func(o *options) { o.device, o.debug = "/dev/watchdog1", true },
		"-- -D":                func(*options) {},
	} {
		want := usual
		change(&want)
		var complaints bytes.Buffer
		if got := parse(append([]string{"wdmd"}, strings.Fields(line)...), &complaints); got != want || complaints.Len() > 0 {
			t.Errorf("%s: %+v, want %+v; %s", line, got, want, complaints.String())
		}
	}
}

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	dog := memdog.New()
	c := Config{
		Place:  wdmd.Place{Socket: filepath.Join(dir, "s"), Lock: filepath.Join(dir, "l"), Marker: filepath.Join(dir, "m")},
		Source: func(string) watchdog.Source { return dog },
	}
	run := func() (int, string, string) {
		var out, complaints bytes.Buffer
		code := Main(c, []string{"wdmd", "-p"}, &out, &complaints)
		return code, out.String(), complaints.String()
	}
	if code, out, _ := run(); code != 0 || out != "/dev/watchdog0\n" || dog.Counting() {
		t.Errorf("%d, %q, counting %v", code, out, dog.Counting())
	}
	if !slices.Equal(dog.Events(), []string{"open@0", "disarm@0"}) {
		t.Errorf("%v", dog.Events())
	}
	if err := os.WriteFile(c.Place.Marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, complaints := run()
	if want := "cannot probe watchdog devices while wdmd is in use.\n"; code != 1 || out != "" || complaints != want {
		t.Errorf("%d, %q, %q", code, out, complaints)
	}
	if len(dog.Events()) != 2 {
		t.Error("the device of a running daemon was touched")
	}
}
