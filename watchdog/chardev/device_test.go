package chardev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/watchdog"
)

// driver is a kernel driver of one sort, open. It fails where fail says so.
type driver struct {
	options  uint32
	identity string
	nowayout bool
	timeout  int
	takes    func(int) int // what it makes of a timeout
	fail     string
	runs     bool // goes on although it was told to stop

	magic, open bool
	pets        int
	writes      int
}

const usual = unix.WDIOF_MAGICCLOSE | unix.WDIOF_SETTIMEOUT | unix.WDIOF_KEEPALIVEPING

func newDriver() *driver {
	return &driver{options: usual, identity: "Software Watchdog", timeout: 60, open: true}
}

func (d *driver) failing(what string) error {
	if !d.open && what != "stopped" {
		return syscall.EBADF
	}
	if d.fail == what {
		return fmt.Errorf("%w", syscall.EIO)
	}
	return nil
}

func (d *driver) Support() (uint32, string, error) {
	return d.options, d.identity, d.failing("getsupport")
}
func (d *driver) Timeout() (int, error) { return d.timeout, d.failing("gettimeout") }

func (d *driver) SetTimeout(n int) error {
	if err := d.failing("settimeout"); err != nil {
		return err
	}
	if d.takes != nil {
		n = d.takes(n)
	}
	d.timeout = n
	return nil
}

func (d *driver) Keepalive() error {
	err := d.failing("keepalive")
	if err == nil {
		d.pets++
	}
	return err
}

func (d *driver) Magic() error {
	d.writes++
	err := d.failing("write")
	d.magic = err == nil
	return err
}

func (d *driver) Close() error {
	err := d.failing("close")
	d.open = false
	return err
}

func (d *driver) NoWayOut() (bool, error) { return d.nowayout, d.failing("nowayout") }

func (d *driver) Stopped() (bool, error) {
	if d.fail == "stopped" {
		return false, errors.New("cannot be known")
	}
	return d.magic && !d.open && !d.runs, nil
}

func TestTimeouts(t *testing.T) {
	half := func(n int) int { return n / 2 }
	for name, c := range map[string]struct {
		change func(*driver)
		want   time.Duration // 0: refused
		driver int           // seconds that the driver was given
	}{
		"as it is":            {func(*driver) {}, 60 * time.Second, 60},
		"set":                 {func(d *driver) { d.timeout = 30 }, 60 * time.Second, 60},
		"takes another":       {func(d *driver) { d.timeout = 30; d.takes = half }, 0, 30},
		"refuses":             {func(d *driver) { d.timeout = 30; d.fail = "settimeout" }, 0, 30},
		"cannot be read":      {func(d *driver) { d.fail = "gettimeout" }, 0, 60},
		"cannot be petted":    {func(d *driver) { d.fail = "keepalive" }, 0, 60},
		"two periods":         {func(d *driver) { d.identity = "iTCO_wdt" }, 60 * time.Second, 30},
		"two periods, refuse": {func(d *driver) { d.identity = "iTCO_wdt"; d.fail = "settimeout" }, 0, 60},
	} {
		t.Run(name, func(t *testing.T) {
			n := newDriver()
			fail := n
			d, err := begin("/dev/watchdog0", n)
			if err != nil {
				t.Fatal(err)
			}
			c.change(fail)
			if fail.identity != "Software Watchdog" {
				if d, err = begin("/dev/watchdog0", n); err != nil {
					t.Fatal(err)
				}
			}
			got, err := d.SetTimeout(time.Minute)
			if (err == nil) != (c.want != 0) || err == nil && got != c.want || n.timeout != c.driver {
				t.Errorf("%v, %v; the driver has %d s", got, err, n.timeout)
			}
			if (n.pets > 0) != (err == nil) {
				t.Errorf("%d pets, %v", n.pets, err)
			}
		})
	}
	d, err := begin("x", newDriver())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []time.Duration{0, time.Second / 2, -time.Minute, 1500 * time.Millisecond, 1 << 32 * time.Second} {
		if _, err := d.SetTimeout(bad); !errors.Is(err, watchdog.ErrTimeout) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// A driver that would not reset the host when this process dies is stopped again and refused.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*driver)
		ok     bool
		says   string
		writes int
	}{
		"usual":                     {func(*driver) {}, true, "", 0},
		"no magic close":            {func(d *driver) { d.options = 0 }, false, "nowayout=1", 1},
		"no magic close, no wayout": {func(d *driver) { d.options, d.nowayout = 0, true }, true, "", 0},
		"no magic close, unknown":   {func(d *driver) { d.options, d.fail = 0, "nowayout" }, false, "nowayout=1", 1},
		"alarm only":                {func(d *driver) { d.options |= unix.WDIOF_ALARMONLY }, false, "alarm", 1},
		"no support":                {func(d *driver) { d.fail = "getsupport" }, false, "getsupport", 1},
		"no watchdog at all":        {func(d *driver) { d.fail = "gettimeout" }, false, "gettimeout", 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := newDriver()
			c.change(n)
			d, err := begin("/dev/watchdog0", n)
			if (err == nil) != c.ok || n.open != c.ok || n.writes != c.writes {
				t.Fatalf("%v, %v; open %v, %d writes", d, err, n.open, n.writes)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

func TestEnds(t *testing.T) {
	open := func(change func(*driver)) (*driver, *Device) {
		n := newDriver()
		change(n)
		d, err := begin("/dev/watchdog0", n)
		if err != nil {
			t.Fatal(err)
		}
		return n, d
	}
	n, d := open(func(*driver) {})
	if err := d.Disarm(); err != nil || n.open || !n.magic {
		t.Errorf("disarm: %v, %+v", err, n)
	}
	n, d = open(func(*driver) {})
	if err := d.Abandon(); err != nil || n.open || n.writes != 0 {
		t.Errorf("abandon: %v, %+v", err, n)
	}
	n, d = open(func(d *driver) { d.nowayout = true })
	if err := d.Disarm(); !errors.Is(err, watchdog.ErrNoWayOut) || !n.open {
		t.Errorf("disarm without a way out: %v, open %v", err, n.open)
	}
	if err := d.Pet(); err != nil || n.pets != 1 || d.CanStop() {
		t.Errorf("it can no longer be petted: %v", err)
	}
	for _, what := range []string{"write", "close"} {
		n, d = open(func(*driver) {})
		n.fail = what
		if err := d.Disarm(); err == nil || n.open {
			t.Errorf("disarm, %s fails: %v, open %v", what, err, n.open)
		}
	}
	n, d = open(func(d *driver) { d.fail = "nowayout" })
	if d.CanStop() {
		t.Error("what cannot be known is taken for certain")
	}
	if err := d.Disarm(); err != nil || n.open || !n.magic {
		t.Errorf("disarm what may not stop: %v", err)
	}
	n, d = open(func(d *driver) { d.runs = true })
	if err := d.Disarm(); err == nil || n.open {
		t.Errorf("disarmed, it says, and runs: %v", err)
	}
	_, d = open(func(d *driver) { d.fail = "stopped" })
	if err := d.Disarm(); err != nil {
		t.Errorf("whether it runs cannot be known: %v", err)
	}
	n, d = open(func(*driver) {})
	n.fail = "keepalive"
	if err := d.Pet(); !errors.Is(err, syscall.EIO) || d.Identity() != "/dev/watchdog0 (Software Watchdog)" {
		t.Errorf("%s: %v", d.Identity(), err)
	}
}

// What is no watchdog is not written to.
func TestNotAWatchdog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		step string
		err  error
	}{
		file:          {"ioctl gettimeout", syscall.ENOTTY},
		"/dev/null":   {"ioctl gettimeout", syscall.ENOTTY},
		file + "none": {"stat", syscall.ENOENT},
		"/proc/self":  {"open", syscall.EISDIR},
	} {
		_, err := Source{}.Open(path)
		var e *Error
		if !errors.As(err, &e) || e.Step != want.step || !errors.Is(err, want.err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if p, err := os.ReadFile(file); err != nil || string(p) != "data" {
		t.Errorf("the file is %q, %v", p, err)
	}
}

func TestPaths(t *testing.T) {
	all := []string{"/dev/watchdog0", "/dev/watchdog1", "/dev/watchdog"}
	for first, want := range map[string][]string{
		"":               all,
		"/dev/other":     append([]string{"/dev/other"}, all...),
		"/dev/watchdog1": {"/dev/watchdog1", "/dev/watchdog0", "/dev/watchdog"},
	} {
		if got := (Source{First: first}).Paths(); !slices.Equal(got, want) {
			t.Errorf("%q: %v", first, got)
		}
	}
	if text := (errBusy{user: " (systemd, pid 1, has /dev/watchdog0)"}).Error(); !strings.Contains(text, "systemd, pid 1") ||
		!errors.Is(errBusy{}, unix.EBUSY) {
		t.Errorf("%q", text)
	}
}

// The attributes that the kernel shows for a device, under names of our own.
func TestAttributes(t *testing.T) {
	dir := t.TempDir()
	k := &kernel{fd: -1, sys: dir}
	if _, err := k.NoWayOut(); err == nil {
		t.Error("it is known, without such an attribute")
	}
	if _, err := k.Stopped(); err == nil {
		t.Error("stopped, without such an attribute")
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("nowayout", "1\n")
	write("state", "active\n")
	check := func(noWayOut, stopped bool) {
		t.Helper()
		got, err := k.NoWayOut()
		state, err2 := k.Stopped()
		if got != noWayOut || state != stopped || err != nil || err2 != nil {
			t.Errorf("no way out %v, %v; stopped %v, %v", got, err, state, err2)
		}
	}
	check(true, false)
	write("nowayout", "0\n")
	write("state", "inactive\n")
	check(false, true)
	if _, err := (&kernel{fd: -1}).NoWayOut(); err == nil {
		t.Error("a device without attributes")
	}
}
