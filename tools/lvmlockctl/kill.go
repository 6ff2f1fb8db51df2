package lvmlockctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// lvmWait bounds how long lvm may take to tell its configuration.
const lvmWait = 30 * time.Second

// teller tells of what happened to a VG's locks, to syslog or stderr.
type teller struct {
	toStderr bool
	stderr   io.Writer
	syslog   func(syslog.Priority, string) error
}

func (t *teller) tell(p syslog.Priority, format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	if !t.toStderr && t.syslog(p, text) == nil {
		return
	}
	fmt.Fprintln(t.stderr, text)
}

// toSyslog is where a teller tells.
func toSyslog(p syslog.Priority, text string) error {
	w, err := syslog.New(syslog.LOG_USER|p, "lvmlockctl")
	if err != nil {
		return err
	}
	defer w.Close()
	_, err = io.WriteString(w, text)
	return err
}

// kill stops new locks in a VG whose lock storage is lost, runs the administrator's command that makes the VG unused, and
// drops the VG's locks if it succeeded (spec lvmlockd 3.14). The sanlock daemon runs it.
func (m *machine) kill(vg string) int {
	t := m.teller
	t.tell(syslog.LOG_EMERG, "lvmlockd lost access to locks in VG %s.", vg)
	// Unlike stock lvmlockd is told first: lvm may take its time.
	if err := m.request(lvmwire.Request{Name: "kill_vg", VGName: vg}); err != nil {
		fmt.Fprintln(m.stderr, err)
		fmt.Fprintln(m.stdout, "Cannot connect to lvmlockd for kill_vg.")
	}
	command := m.killCommand()
	if command == "" {
		m.unused(vg)
		return 0
	}
	fmt.Fprintf(m.stdout, "Found lvmlockctl_kill_command: %s\n", command)
	command += " " + vg
	// Stock's way of running it: words, no shell.
	words := strings.Fields(command)
	run := exec.Command(words[0], words[1:]...)
	run.Stderr = m.stderr
	if err := run.Run(); err != nil {
		fmt.Fprintln(m.stdout, ending(err))
		t.tell(syslog.LOG_EMERG, "Failed to run VG %s kill command %s", vg, command)
		m.unused(vg)
		return exitFailure
	}
	t.tell(syslog.LOG_WARNING, "Successful VG %s kill command %s", vg, command)
	if err := m.request(lvmwire.Request{Name: "drop_vg", VGName: vg}); err != nil {
		fmt.Fprintln(m.stderr, err)
		t.tell(syslog.LOG_EMERG, "Failed to connect to lvmlockd to drop locks in VG %s.", vg)
		return exitFailure
	}
	return 0
}

// unused tells the administrator what to do.
func (m *machine) unused(vg string) {
	m.teller.tell(syslog.LOG_EMERG, "Immediately deactivate LVs in VG %s.", vg)
	m.teller.tell(syslog.LOG_EMERG, "Once VG is unused, run lvmlockctl --drop %s.", vg)
}

// drop makes lvmlockd forget the locks of a VG.
func (m *machine) drop(vg string) int {
	c, err := connect(m.Socket)
	if err != nil {
		fmt.Fprintln(m.stderr, err)
		fmt.Fprintln(m.stdout, "Cannot connect to lvmlockd.")
		return exitFailure
	}
	defer c.Close()
	m.teller.tell(syslog.LOG_WARNING, "Dropping locks for VG %s.", vg)
	if _, err := c.ask(lvmwire.Request{Name: "drop_vg", VGName: vg}); err != nil {
		fmt.Fprintln(m.stderr, err)
		return exitFailure
	}
	return 0
}

// request asks on a connection of its own. That lvmlockd refuses is no error.
func (m *machine) request(r lvmwire.Request) error {
	c, err := connect(m.Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.ask(r)
	return err
}

// killCommand asks lvm for global/lvmlockctl_kill_command, "" if there is none that can be run.
func (m *machine) killCommand() string {
	ctx, cancel := context.WithTimeout(context.Background(), lvmWait)
	defer cancel()
	args := []string{"config", "--typeconfig", "full", "global/lvmlockctl_kill_command"}
	cmd := exec.CommandContext(ctx, m.LVM, args...)
	cmd.Stderr = m.stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	_, rest, _ := bytes.Cut(out, []byte(`lvmlockctl_kill_command="`))
	value, _, closed := bytes.Cut(rest, []byte(`"`))
	switch asked := m.LVM + " " + strings.Join(args, " "); {
	case err != nil && len(out) == 0:
		fmt.Fprintln(m.stdout, "no output from "+asked)
		fmt.Fprintln(m.stdout, ending(err))
	case err != nil:
		fmt.Fprintln(m.stdout, ending(err))
	case !closed || len(value) == 0:
		fmt.Fprintln(m.stdout, "unrecognized config value from "+asked)
	case value[0] != '/':
		fmt.Fprintln(m.stdout, "lvmlockctl_kill_command must be full path")
	default:
		return string(value)
	}
	return ""
}

// ending says in stock's words how a program failed.
func ending(err error) string {
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		if ended.Exited() {
			return fmt.Sprintf("child exit error %d", ended.ExitCode())
		}
		return "child exit from signal"
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return fmt.Sprintf("child exit error %d", number) // stock's child says so why it could not run the program
	}
	return err.Error()
}
