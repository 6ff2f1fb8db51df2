package sanlockcli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/config"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// What the options come to. How complaints read is compared with Debian's program in tools/interop.
func TestOptions(t *testing.T) {
	disk := func(path string, off uint64) sanlockwire.Disk { return sanlockwire.Disk{Path: path, Offset: off} }
	for _, c := range []struct {
		line string
		want func(o *Options)
	}{
		{"status", func(o *Options) { o.Action = "status" }},
		{"client status -o p -D", func(o *Options) { o.Action, o.Sort, o.Debug = "status", "p", true }},
		{"gets -h 1 -o 5", func(o *Options) { o.Action, o.ShowHosts, o.Config.IOTimeout = "gets", true, 5 }},
		{"shutdown -w 5 -f 2", func(o *Options) {
			o.Action, o.Wait, o.WaitNumber, o.Force = "shutdown", true, 5, 2
		}},
		{"init -o 0 -w 0 -h 1", func(o *Options) {
			o.Action, o.Config.UseWatchdog, o.Config.HighPriority = "init", 0, 1
		}},
		{"acquire -p 7 -n 3 -P 1 -O 1", func(o *Options) {
			o.Action, o.PID, o.NumHosts, o.Persistent, o.Orphan = "acquire", 7, 3, true, On
		}},
		{"set_config -s x -u 0 -O 0", func(o *Options) {
			o.Action, o.Lockspace.Name, o.Used, o.Orphan = "set_config", leases.NameOf("x"), Off, Off
		}},
		{"set_event -i 0x3 -g 010 -e 0x1f -d 9z", func(o *Options) {
			o.Action, o.HostID, o.Generation, o.Event, o.EventData = "set_event", 3, 8, 31, 9
			o.HostName, o.Config.OurHostName = "0x1f", "0x1f"
		}},
		{"status -s a:1:p:2 -s b -f 0x10", func(o *Options) {
			o.Action, o.Force = "status", 16
			o.Lockspace = sanlockwire.Lockspace{Name: leases.NameOf("b"), HostID: 1, Disk: disk("p", 2)}
		}},
		{"release -a 1", func(o *Options) { o.Action, o.All = "release", true }},
		{"lookup -x ls:p:1M -e q:2M", func(o *Options) {
			o.Action, o.Rindex.Space, o.Rindex.Disk = "lookup", leases.NameOf("ls"), disk("p", 1<<20)
			o.Entry = sanlockwire.REntry{Name: leases.NameOf("q"), Offset: 2 << 20}
		}},
		{"command -r a:b -c prog -D -q x", func(o *Options) {
			o.Action, o.Command = "command", []string{"prog", "-D", "-q", "x"}
			o.Resources = []sanlockwire.Resource{{Space: leases.NameOf("a"), Name: leases.NameOf("b")}}
		}},
		{"direct dump /dev/x:1M -f 1 -Z 4096 -A 8M", func(o *Options) {
			o.Program, o.Action, o.Area, o.Force = Direct, "dump", "/dev/x:1M", 1
			o.SectorSize, o.AlignSize = 4096, 8<<20
		}},
		{"direct acquire -i 2 -g 3 -a 7 -m 4 -z 0 -F f", func(o *Options) {
			o.Program, o.Action, o.HostID, o.Generation = Direct, "acquire", 2, 3
			o.All, o.MaxHosts, o.Clear, o.File = true, 4, true, "f"
		}},
		{"daemon -D -Q 0 -R 2 -H 3 -L -1 -S 7 -U u -G g -t 1 -g 5 -w 0 -h 1 -l 2 -b 9 -e me -a -3 -o 4", func(o *Options) {
			o.Program, o.Debug = Daemon, true
			c := &o.Config
			c.QuietFail, c.DebugRenew, c.RenewalHistory, c.LogFilePriority, c.SyslogPriority = 0, 2, 3, -1, 7
			c.User, c.Group, c.MaxWorkers, c.KillGrace, c.KillGraceSet = "u", "g", 2, 5, true
			c.UseWatchdog, c.HighPriority, c.MlockLevel, c.BitmapSeconds = 0, 1, 2, 9
			c.OurHostName, o.HostName, c.UseAIO, o.All, c.IOTimeout = "me", "me", 1, true, 4
		}},
		{"daemon -g 61", func(o *Options) { o.Program = Daemon }},
	} {
		t.Run(c.line, func(t *testing.T) {
			want := &Options{PID: -1, Config: config.Defaults()}
			c.want(want)
			var out bytes.Buffer
			got, code, ok := parseArgs(strings.Fields(c.line), config.Defaults(), &out)
			if !ok {
				t.Fatalf("exit code %d: %s", code, out.String())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSizeFlags(t *testing.T) {
	for _, c := range []struct {
		sector, align int
		want          uint32
	}{
		{0, 0, 0},
		{512, 1 << 20, sanlockwire.Sector512 | sanlockwire.Align1M},
		{4096, 2 << 20, sanlockwire.Sector4K | sanlockwire.Align2M},
		{4096, 4 << 20, sanlockwire.Sector4K | sanlockwire.Align4M},
		{4096, 8 << 20, sanlockwire.Sector4K | sanlockwire.Align8M},
		{512, 0, sanlockwire.Sector512},
	} {
		o := Options{SectorSize: c.sector, AlignSize: c.align}
		if got := o.SizeFlags(); got != c.want {
			t.Errorf("%d/%d: %#x, want %#x", c.sector, c.align, got, c.want)
		}
	}
}

// The daemon is given what the file says, changed by what the command line says.
func TestDaemonOptionsBeatTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sanlock.conf")
	if err := os.WriteFile(file, []byte("mlock_level = 2\nuse_watchdog = 0\nio_timeout = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got *Options
	c := Config{ConfigPath: file, Daemon: func(o *Options, _, _ io.Writer) int {
		got = o
		return 5
	}}
	if code := Main(c, []string{"sanlock", "daemon", "-w", "1"}, io.Discard, io.Discard); code != 5 {
		t.Fatalf("exit code %d is not the daemon's", code)
	}
	want := config.Defaults()
	want.MlockLevel, want.IOTimeout = 2, 3
	if diff := cmp.Diff(want, got.Config); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The client reads the file, too.
func TestClientReadsTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sanlock.conf")
	if err := os.WriteFile(file, []byte("io_timeout = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, run := range []struct{ options, want string }{{"", "timeout 3\n"}, {" -o 5", "timeout 5\n"}} {
		var out bytes.Buffer
		args := strings.Fields("sanlock add_lockspace -s ls:1:p:0" + run.options)
		code := Main(Config{ConfigPath: file, RunDir: t.TempDir()}, args, &out, io.Discard)
		if code != 1 || !strings.HasPrefix(out.String(), "add_lockspace_"+run.want) {
			t.Errorf("%q: exit code %d\n%s", args, code, out.String())
		}
	}
}

func TestMainWithoutOptions(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		out  string // how it begins
	}{
		{[]string{"sanlock"}, 0, "Usage:\nsanlock <command> <action> ...\n"},
		{[]string{"sanlock", "--help"}, 0, "Usage:\n"},
		{[]string{"sanlock", "client"}, 1, "Usage:\n"},
		{[]string{"sanlock", "version"}, 0, "3.8.5\n"},
		{[]string{"/usr/sbin/sanlock", "-V"}, 0, "sanlock 3.8.5 (built "},
		{[]string{"sanlock", "direct", "foo"}, 1, "direct action \"foo\" is unknown\n"},
		{[]string{"sanlock", "acquire", "-r", "a:b:c"}, 1, "resource arg parse error -1\n\n"},
		{[]string{"sanlock", "direct", "dump"}, 1, ""},
	} {
		var out bytes.Buffer
		code := Main(Config{ConfigPath: "/nonexistent"}, c.args, &out, io.Discard)
		if code != c.code || !strings.HasPrefix(out.String(), c.out) {
			t.Errorf("%q: exit code %d, want %d\n%s", c.args, code, c.code, out.String())
		}
	}
}

func TestDaemonMissing(t *testing.T) {
	var stderr bytes.Buffer
	code := Main(Config{ConfigPath: "/nonexistent"}, []string{"sanlock", "daemon"}, io.Discard, &stderr)
	if code != 1 || stderr.Len() == 0 {
		t.Errorf("exit code %d, said %q", code, stderr.String())
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("client acquire -r a:b:c:1M -p 5")
	f.Add("direct dump x -f 1")
	f.Add("set_event -e 0x -i 0 -c a b c")
	f.Fuzz(func(t *testing.T, line string) {
		var out bytes.Buffer
		o, code, ok := parseArgs(strings.Split(line, " "), config.Defaults(), &out)
		if ok == (o == nil) || ok && code != 0 || !ok && code == 0 {
			t.Errorf("%q: %v, exit code %d", line, o, code)
		}
	})
}
