package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// The wanted values were read from `sanlock client status -D` of Debian's daemon with the same file, except
// where the case says otherwise.
func TestRead(t *testing.T) {
	long := strings.Repeat("x", 130)
	for _, c := range []struct {
		name, file string
		change     func(*Config)
	}{
		{"nothing", "", func(*Config) {}},
		{"blanks around =", "quiet_fail = 0\ndebug_renew=2\nuse_aio\t=\t5\n", func(c *Config) {
			c.QuietFail, c.DebugRenew, c.UseAIO = 0, 2, 5
		}},
		{"garbage is 0, junk behind a value is ignored", "mlock_level=0x2\nsh_retries = 3 junk", func(c *Config) {
			c.MlockLevel, c.SharedRetries = 0, 3
		}},
		{"comments", "#quiet_fail=0\n\n# x\n", func(*Config) {}},
		{"a key not in the first column is none", " debug_clients = 1\n", func(*Config) {}},
		{
			"two equal signs", "use_aio == 3\nsh_retries=1=2",
			func(c *Config) { c.UseAIO, c.SharedRetries = 0, 1 },
		},
		{
			"no =, stock takes the value of the line before", "use_aio = 5\nsh_retries 17\n",
			func(c *Config) { c.UseAIO = 5 },
		},
		{"no value, stock takes what is in memory", "use_aio = \nsh_retries = 4\n", func(c *Config) {
			c.SharedRetries = 4
		}},
		{"grace out of range", "kill_grace_seconds = 61\nkill_grace_seconds = -1\n", func(*Config) {}},
		{"grace", "kill_grace_seconds = 0\n", func(c *Config) { c.KillGrace, c.KillGraceSet = 0, true }},
		{
			"floors", "max_worker_threads = 1\nwrite_init_io_timeout = 0\nio_timeout=0\nwatchdog_fire_timeout=-3",
			func(c *Config) { c.MaxWorkers = 2 },
		},
		{
			"timeouts", "io_timeout=2\nwatchdog_fire_timeout=30\nwrite_init_io_timeout=5\nrenewal_read_extend_sec=0",
			func(c *Config) {
				c.IOTimeout, c.WatchdogFireTimeout, c.WriteInitIOTimeout, c.RenewalReadExtend = 2, 30, 5, 0
			},
		},
		{"negative numbers", "sh_retries = -4\nlogfile_priority=-1\n", func(c *Config) {
			c.SharedRetries, c.LogFilePriority = -4, -1
		}},
		{"a value is one word", "our_host_name = abc def\nuname=me\ngname = us\n", func(c *Config) {
			c.OurHostName, c.User, c.Group = "abc", "me", "us"
		}},
		{"a long name is cut, at 48 in stock", "our_host_name = " + long[:60] + "\n", func(c *Config) {
			c.OurHostName = long[:47]
		}},
		{
			"a long line goes on as the next", "#" + long[:126] + "sh_retries=9",
			func(c *Config) { c.SharedRetries = 9 },
		},
		{
			"max_sectors_kb ignore", "max_sectors_kb = ignore\n",
			func(c *Config) { c.MaxSectors = MaxSectors{Ignore: true} },
		},
		{
			"max_sectors_kb align", "max_sectors_kb = align\n",
			func(c *Config) { c.MaxSectors = MaxSectors{Align: true} },
		},
		{"max_sectors_kb", "max_sectors_kb = 512\n", func(c *Config) { c.MaxSectors.KB = 512 }},
		{
			"max_sectors_kb odd, 0, too large", "max_sectors_kb = 7\nmax_sectors_kb=0\nmax_sectors_kb=9000",
			func(*Config) {},
		},
		{"debug_cmd all", "debug_cmd = +all\n", func(c *Config) { c.DebugCmds = 0xffffffffffffffff }},
		{"debug_cmd some", "debug_cmd = -all\ndebug_cmd = +status\ndebug_cmd=+get_hosts\n", func(c *Config) {
			c.DebugCmds = 0x800020
		}},
		{"debug_cmd less", "debug_cmd = -status\ndebug_cmd = gets\ndebug_cmd = +foo\n", func(c *Config) {
			c.DebugCmds = 0xfffffffffe06ffdf
		}},
		{"unknown", "no_such = 3\n=4\n", func(*Config) {}},
		{
			"a huge number", "sh_retries = 99999999999999999999\n",
			func(c *Config) { c.SharedRetries = -1 },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, want := Defaults(), Defaults()
			c.change(&want)
			if err := got.Read(strings.NewReader(c.file)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefaultDebugCmds(t *testing.T) {
	if got, want := Defaults().DebugCmds, uint64(0xfffffffffe06ffff); got != want {
		t.Errorf("%#x, Debian's daemon shows %#x", got, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if c, err := Load(filepath.Join(dir, "none")); err != nil || c != Defaults() {
		t.Errorf("without a file: %v", err)
	}
	file := filepath.Join(dir, "sanlock.conf")
	if err := os.WriteFile(file, []byte("use_watchdog=0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(file); err != nil || c.UseWatchdog != 0 {
		t.Errorf("use_watchdog is %d, %v", c.UseWatchdog, err)
	}
	if _, err := Load(filepath.Join(file, "below")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path through a file: %v", err)
	}
	c := Defaults()
	in := io.MultiReader(strings.NewReader("use_aio=0\n"), iotest.ErrReader(fs.ErrPermission))
	if err := c.Read(in); !errors.Is(err, fs.ErrPermission) || c.UseAIO != 0 {
		t.Errorf("a file that breaks off: use_aio %d, %v", c.UseAIO, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("quiet_fail = 0\ndebug_cmd = +all\n")
	f.Fuzz(func(t *testing.T, file string) {
		c := Defaults()
		if err := c.Read(strings.NewReader(file)); err != nil {
			t.Fatal(err)
		}
		if c.MaxWorkers < minWorkers || c.KillGrace < 0 || c.KillGrace > maxKillGrace || c.IOTimeout <= 0 ||
			len(c.OurHostName) > 47 || c.MaxSectors.KB > maxMaxSectors {
			t.Errorf("out of range: %+v", c)
		}
	})
}
