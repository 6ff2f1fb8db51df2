package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/tools/need"
)

// inOwnEtc runs a command line where /etc/sanlock/sanlock.conf is the first argument's file and /var/log is
// the second's directory: the paths are fixed in stock, and other daemons on this machine are to see nothing
// of it. The third is a directory to mount on.
const inOwnEtc = `set -e
mount --make-rprivate /
mount -t tmpfs etc "$3"
mkdir "$3/sanlock"
cp "$1" "$3/sanlock/sanlock.conf"
cp /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.cache "$3" 2>/dev/null || true
mount --bind "$3" /etc
mount --bind "$2" /var/log
shift 3
exec "$@"`

// configAtOnce is how many pairs of daemons are started at a time.
const configAtOnce = 4

// testZone is where the daemons of these tests are, so that local time is not UTC.
const testZone = "Asia/Bangkok"

// configured is a daemon that was started with a configuration file.
type configured struct {
	runDir, logDir string
	done           chan struct{}
}

// startConfigured starts a daemon with the file and the options. It is killed when the test ends.
func startConfigured(t *testing.T, k kind, conf string, options ...string) configured {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	c := configured{filepath.Join(dir, "run"), filepath.Join(dir, "log"), make(chan struct{})}
	etc := filepath.Join(dir, "etc")
	for _, d := range []string{etc, c.logDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-m", "sh", "-c", inOwnEtc, "sh", file, c.logDir, etc, k.program(t), "daemon", "-D"}
	cmd := exec.Command("unshare", append(args, options...)...)
	cmd.Env = append(os.Environ(), "SANLOCK_RUN_DIR="+c.runDir, "SANLOCK_PRIVILEGED=0", "TZ="+testZone)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		need.Unmet(t, "root", "unshare: %v", err)
	}
	go func() {
		_ = cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-c.done
	})
	for end := time.Now().Add(startWait); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := dial(c.runDir); err == nil {
			_ = conn.Close()
			return c
		}
		select {
		case <-c.done:
		default:
			if time.Now().Before(end) {
				continue
			}
		}
		said, _ := os.ReadFile(out.Name())
		if strings.Contains(string(said), "unshare") || strings.Contains(string(said), "mount") {
			need.Unmet(t, "root", "no mounts of its own for a process here: %s", said)
		}
		t.Fatalf("%s with\n%s%q does not listen:\n%s", k, conf, options, said)
	}
}

// Values of the daemon's record that no configuration sets, and those that only newer ones and ours show.
var ownValues = regexp.MustCompile(`(?m)^    (helper_\w+|monotime|io_timeout|watchdog_fire_timeout)=.*\n`)

// record returns what status -D says of the daemon itself, without its name where that is a new one each time.
func (c configured) record(t *testing.T) string {
	t.Helper()
	text := runDebian(t, c.runDir, []string{"status", "-D"}).Out
	text, _, _ = strings.Cut(text, "\np ")
	text = ownValues.ReplaceAllString(text+"\n", "")
	unique := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	return unique.ReplaceAllString(text, "UUID")
}

// plainDaemon are settings without which stock does not start on a test machine.
const plainDaemon = "use_watchdog = 0\nhigh_priority = 0\nmlock_level = 0\n"

// configCases are files and options; what is visible of them in status must be the same.
var configCases = []struct {
	name, conf string
	options    []string
}{
	{"nothing", "", nil},
	{"every key", "quiet_fail = 0\ndebug_renew = 1\nuse_aio = 0\nsh_retries = 3\nmax_worker_threads = 5\n" +
		"renewal_history_size = 7\nour_host_name = me\nwrite_init_io_timeout = 9\ndebug_clients = 1\n" +
		"max_sectors_kb = 512\ndebug_cmd = +all\nlogfile_priority = 7\nsyslog_priority = 2\nnames_log_priority = 1\n" +
		"renewal_read_extend_sec = 1\npaxos_debug_all = 1\ndebug_io = submit,complete\nlogfile_use_utc = 1\n" +
		"uname = daemon\ngname = adm\n", nil},
	{"no blanks", "quiet_fail=0\nsh_retries=3\n", nil},
	{"many blanks", "quiet_fail   =   0\nsh_retries\t=\t3\n", nil},
	{"garbage", "quiet_fail = yes\nsh_retries = 0x10\nrenewal_history_size = 12abc\nmax_worker_threads = x\n", nil},
	{"signs", "sh_retries = -4\nrenewal_history_size = +9\nquiet_fail = -1\n", nil},
	{"too large", "sh_retries = 99999999999999999999\nrenewal_history_size = 2147483648\n", nil},
	{"comments", "# quiet_fail = 0\n\n#\n#sh_retries = 3\n", nil},
	{"not in column 0", " quiet_fail = 0\n\tsh_retries = 3\n", nil},
	{"unknown keys", "no_such = 1\nquiet_fails = 0\nquiet = 0\n", nil},
	{"no end of line", "sh_retries = 3", nil},
	{"two of one", "sh_retries = 3\nsh_retries = 4\n", nil},
	{"a line of 126", "#" + strings.Repeat("x", 125) + "\nsh_retries = 3\n", nil},
	{"a line of 127", "#" + strings.Repeat("x", 126) + "sh_retries = 3\n", nil},
	{"a line of 200", "#" + strings.Repeat("x", 126) + strings.Repeat("y", 73) + "\nsh_retries = 3\n", nil},
	{"floors", "max_worker_threads = 1\nwrite_init_io_timeout = 0\n", nil},
	{"below", "max_worker_threads = -3\nwrite_init_io_timeout = -1\n", nil},
	{"max_sectors_kb ignore", "max_sectors_kb = ignore\n", nil},
	{"max_sectors_kb align", "max_sectors_kb = align\n", nil},
	{"max_sectors_kb odd", "max_sectors_kb = 7\n", nil},
	{"max_sectors_kb 0", "max_sectors_kb = 0\n", nil},
	{"max_sectors_kb large", "max_sectors_kb = 16384\n", nil},
	{"max_sectors_kb largest", "max_sectors_kb = 8192\n", nil},
	{"max_sectors_kb garbage", "max_sectors_kb = some\n", nil},
	{"debug_cmd less", "debug_cmd = -all\ndebug_cmd = +status\ndebug_cmd = +get_hosts\n", nil},
	{"debug_cmd unknown", "debug_cmd = +nonsense\ndebug_cmd = acquire\n", nil},
	{"a name of 60", "our_host_name = " + strings.Repeat("n", 47) + "\n", nil},
	{"unknown user and group", "uname = no_such_user\ngname = no_such_group\n", nil},
	{"a user as a number", "uname = 1\ngname = 1\n", nil},
	{
		"options beat the file", "quiet_fail = 0\nour_host_name = me\nsh_retries = 3\nmax_worker_threads = 5\n",
		[]string{"-Q", "1", "-e", "you", "-t", "4", "-R", "1", "-H", "3"},
	},
	{"options alone", "", []string{"-Q", "0", "-R", "2", "-H", "0", "-t", "1", "-a", "0", "-g", "7", "-b", "9"}},
	{"bad values of options", "", []string{"-Q", "x", "-R", "", "-H", "-2", "-t", "-1", "-a", "-5", "-g", "61"}},
	{"users by options", "uname = daemon\n", []string{"-U", "bin", "-G", "adm"}},
	{"users that are none by options", "", []string{"-U", "no_such", "-G", "no_such"}},
	{"options of no daemon", "", []string{"-p", "5", "-i", "3", "-n", "4", "-s", "a:1:b:0", "-z", "0", "-Z", "512"}},
}

// TestConfiguration starts Debian's daemon and ours with the same configuration file and options and compares
// what status -D shows of them.
func TestConfiguration(t *testing.T) {
	waiting(t, 15)
	var trials []trial
	for _, c := range configCases {
		trials = append(trials, trial{c.name, func(t *testing.T) {
			var records [2]string
			for _, k := range []kind{debian, tenure} {
				records[k] = startConfigured(t, k, plainDaemon+c.conf, c.options...).record(t)
			}
			if diff := cmp.Diff(records[debian], records[tenure]); diff != "" {
				t.Errorf("\n%s%q\n(-debian +ours):\n%s", c.conf, c.options, diff)
			}
		}})
	}
	several(t, configAtOnce, trials...)
}

// TestConfiguredLog compares what comes into the log file: whether there are lines of debug and of warnings,
// and by which clock.
func TestConfiguredLog(t *testing.T) {
	waiting(t, 10)
	var trials []trial
	const warning = "Running in unprivileged mode"
	const debug = "cmd_status"
	for _, c := range []struct {
		name, conf     string
		options        []string
		warning, debug bool
		utc            bool
	}{
		{"default", "", nil, true, false, false},
		{"debug", "logfile_priority = 7\n", nil, true, true, false},
		{"none", "logfile_priority = -1\n", nil, false, false, false},
		{"errors", "logfile_priority = 3\n", nil, false, false, false},
		{"by option", "logfile_priority = 3\n", []string{"-L", "7"}, true, true, false},
		{"UTC", "logfile_use_utc = 1\n", nil, true, false, true},
		{"a command left out", "logfile_priority = 7\ndebug_cmd = -status\n", nil, true, false, false},
	} {
		trials = append(trials, trial{c.name, func(t *testing.T) {
			for _, k := range []kind{debian, tenure} {
				d := startConfigured(t, k, plainDaemon+c.conf, c.options...)
				runDebian(t, d.runDir, []string{"status"})
				text := d.awaitLog(t, c.warning, warning)
				if got := strings.Contains(text, warning); got != c.warning {
					t.Errorf("%s: a warning is logged: %v, want %v\n%s", k, got, c.warning, text)
				}
				if got := strings.Contains(text, debug); got != c.debug {
					t.Errorf("%s: debug is logged: %v, want %v\n%s", k, got, c.debug, text)
				}
				zone, err := time.LoadLocation(testZone)
				if err != nil {
					need.Unmet(t, "sanlock", "no time zones on this machine")
				}
				if c.utc {
					zone = time.UTC
				}
				hour := time.Now().In(zone).Format("2006-01-02 15:")
				if c.warning && !strings.HasPrefix(text, hour) && time.Now().Minute() > 0 {
					t.Errorf("%s: the log begins with %.20q, want %q", k, text, hour)
				}
			}
		}})
	}
	several(t, configAtOnce, trials...)
}

// awaitLog returns the log file once it has had time to be written.
func (c configured) awaitLog(t *testing.T, wanted bool, line string) string {
	t.Helper()
	var text []byte
	for end := time.Now().Add(startWait); time.Now().Before(end); time.Sleep(pollPause) {
		var err error
		if text, err = os.ReadFile(filepath.Join(c.logDir, "sanlock.log")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if !wanted || strings.Contains(string(text), line) {
			break
		}
	}
	time.Sleep(pollPause) // the line that should not come, or comes behind it
	text, _ = os.ReadFile(filepath.Join(c.logDir, "sanlock.log"))
	return string(text)
}
