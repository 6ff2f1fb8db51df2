package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/dustin/go-humanize"

	"github.com/tenurelock/tenure/daemon/sanlockd"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/timeouts"
)

const (
	demoSpace     = "demo"
	demoResource  = "disk1"
	areaSize      = 1 << 20         // bytes of one area with 512-byte sectors
	startPatience = 5 * time.Second // for a daemon's socket to answer
)

// demoFlags are the options of `tenure demo`.
type demoFlags struct {
	Device string `placeholder:"PATH" help:"Run on this device, overwriting its start, instead of on a new file."`
	Yes    bool   `help:"Do not ask before overwriting a device."`
	IO     uint32 `name:"io-timeout" default:"2" help:"Seconds a transfer may take; waits are multiples of it."`
	Fire   uint32 `default:"10" help:"Seconds from a watchdog's last pet to its reset: 60, but for this demo."`
}

// demo shows the main job: two hosts, one lease, a crash, the wait, the hand-over. What it prints about the
// leases it has read from the area or been told by the daemons.
func demo(args []string, stdout, stderr io.Writer) int {
	var flags demoFlags
	parser, err := kong.New(&flags, kong.Name("tenure demo"), kong.Writers(stdout, stderr),
		kong.Description("Two hosts join a lockspace, one takes a lease, the other is refused; the first dies "+
			"and its lease goes to the other after the proven wait."))
	if err != nil {
		fmt.Fprintln(stderr, "tenure demo:", err)
		return 1
	}
	if _, err := parser.Parse(args[1:]); err != nil {
		fmt.Fprintln(stderr, "tenure demo:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	d := &demonstration{flags: flags, out: stdout, began: time.Now()}
	defer d.cleanUp()
	if err := d.play(ctx); err != nil {
		fmt.Fprintln(stderr, "tenure demo:", err)
		return 1
	}
	return 0
}

// demonstration is one run of the demo.
type demonstration struct {
	flags demoFlags
	out   io.Writer
	began time.Time
	dir   string // run directories, logs and the area
	area  string // path of the device or file
	hosts []*demoHost
}

// demoHost is one daemon that plays a host, and the program that holds a lease on it.
type demoHost struct {
	id     int
	name   string
	runDir string
	daemon *exec.Cmd
	holder *exec.Cmd
}

func (d *demonstration) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.1f s  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demonstration) play(ctx context.Context) error {
	for _, act := range []func(context.Context) error{
		d.makeArea, d.startHosts, d.joinHosts, d.grant, d.refuse, d.crash, d.await, d.end,
	} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// makeArea formats a lockspace and a resource, in a new file or on the given device.
func (d *demonstration) makeArea(ctx context.Context) error {
	dir, err := os.MkdirTemp(".", "demo-area-")
	if err != nil {
		return err
	}
	if d.dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	d.area = d.flags.Device
	if d.area == "" {
		d.area = filepath.Join(d.dir, "area")
		f, err := os.Create(d.area)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(2*areaSize), f.Close()); err != nil {
			return err
		}
		d.say("a file of %s stands for the shared device: %s", humanize.IBytes(2*areaSize), d.area)
	} else if err := d.confirm(); err != nil {
		return err
	}
	for _, init := range [][]string{
		{"-s", d.lockspace(0), "-o", strconv.Itoa(int(d.flags.IO)), "-Z", "512", "-A", "1M"},
		{"-r", d.resource(), "-Z", "512", "-A", "1M"},
	} {
		if out, err := d.sanlock(ctx, nil, append([]string{"direct", "init"}, init...)...); err != nil {
			return fmt.Errorf("format %s: %w: %s", d.area, err, out)
		}
	}
	d.say("formatted: lockspace %q at offset 0, lease %q at %s",
		demoSpace, demoResource, humanize.IBytes(areaSize))
	return d.showArea(ctx)
}

// confirm asks before a device is overwritten.
func (d *demonstration) confirm() error {
	if d.flags.Yes || os.Getenv("DEMO_YES") != "" {
		return nil
	}
	fmt.Fprintf(d.out, "The first %s of %s will be overwritten. Type yes to go on: ",
		humanize.IBytes(2*areaSize), d.area)
	var answer string
	if _, err := fmt.Fscanln(os.Stdin, &answer); err != nil || answer != "yes" {
		return errors.New("not confirmed, nothing was written; --yes or DEMO_YES=1 goes on without asking")
	}
	return nil
}

// lockspace prints the lockspace as host id joins it, in the grammar of -s.
func (d *demonstration) lockspace(id int) string {
	return fmt.Sprintf("%s:%d:%s:0", demoSpace, id, strings.ReplaceAll(d.area, ":", `\:`))
}

// resource prints the lease in the grammar of -r.
func (d *demonstration) resource() string {
	return fmt.Sprintf("%s:%s:%s:%d", demoSpace, demoResource, strings.ReplaceAll(d.area, ":", `\:`), areaSize)
}

// sanlock runs our own sanlock command line; h says whose daemon it talks to.
func (d *demonstration) sanlock(ctx context.Context, h *demoHost, args ...string) (string, error) {
	cmd, err := d.command(ctx, h, args...)
	if err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (d *demonstration) command(ctx context.Context, h *demoHost, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"sanlock"}, args...)...)
	cmd.Env = append(os.Environ(), sanlockd.PrivilegedEnv+"=0",
		fmt.Sprintf("%s=%d", sanlockd.DemoFireEnv, d.flags.Fire))
	if h != nil {
		cmd.Env = append(cmd.Env, sanlockd.RunDirEnv+"="+h.runDir)
	}
	return cmd, nil
}

func (d *demonstration) startHosts(ctx context.Context) error {
	t := timeouts.Set{IO: d.flags.IO, Fire: d.flags.Fire}
	d.say("times: io_timeout %d s, so a lease is lost %v after its last renewal; a watchdog would then reset",
		d.flags.IO, t.RenewalFail())
	d.say("  the host within %d s. (A real watchdog takes %d; %d is for this demo, whose hosts are processes.)",
		d.flags.Fire, timeouts.DefaultFire, d.flags.Fire)
	for id := 1; id <= 2; id++ {
		h := &demoHost{
			id: id, name: fmt.Sprintf("demo-host-%d", id), runDir: filepath.Join(d.dir, fmt.Sprintf("run%d", id)),
		}
		cmd, err := d.command(context.WithoutCancel(ctx), h,
			"daemon", "-D", "-w", "0", "-h", "0", "-l", "0", "-e", h.name)
		if err != nil {
			return err
		}
		log, err := os.Create(filepath.Join(d.dir, h.name+".log"))
		if err != nil {
			return err
		}
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return err
		}
		h.daemon = cmd
		d.hosts = append(d.hosts, h)
		if err := d.awaitDaemon(ctx, h); err != nil {
			return err
		}
		d.say("host %d is up: sanlock daemon, process %d", id, cmd.Process.Pid)
	}
	return nil
}

func (d *demonstration) awaitDaemon(ctx context.Context, h *demoHost) error {
	for deadline := time.Now().Add(startPatience); ; {
		out, err := d.sanlock(ctx, h, "client", "status")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(d.dir, h.name+".log")) // what there is of it
			return fmt.Errorf("host %d did not come up: %w: %s\n%s", h.id, err, out, log)
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// joinHosts lets both hosts join at once.
func (d *demonstration) joinHosts(ctx context.Context) error {
	t := timeouts.Set{IO: d.flags.IO, Fire: d.flags.Fire}
	d.say("both join the lockspace: each writes its sector, waits %v, and reads whether its claim still stands",
		t.ShortDelay())
	done := make(chan error)
	for _, h := range d.hosts {
		go func() {
			out, err := d.sanlock(ctx, h,
				"client", "add_lockspace", "-s", d.lockspace(h.id), "-o", strconv.Itoa(int(d.flags.IO)))
			if err != nil {
				err = fmt.Errorf("host %d join: %w: %s", h.id, err, out)
			} else {
				d.say("host %d: %s", h.id, lastLine(out))
			}
			done <- err
		}()
	}
	return errors.Join(<-done, <-done)
}

// hold starts a program on h that runs while it has the lease; the answer is the daemon's.
func (d *demonstration) hold(ctx context.Context, h *demoHost) (bool, string, error) {
	cmd, err := d.command(context.WithoutCancel(ctx), h,
		"client", "command", "-r", d.resource(), "-c", "/bin/sleep", "600")
	if err != nil {
		return false, "", err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return false, "", err
	}
	if err := cmd.Start(); err != nil {
		return false, "", err
	}
	answer := awaitLine(pipe, "acquire done ")
	if answer == "acquire done 0" {
		h.holder = cmd
		return true, answer, nil
	}
	// The command ends by itself when it was refused; its exit code says no more than its answer did.
	_ = cmd.Wait()
	return false, answer, nil
}

func (d *demonstration) grant(ctx context.Context) error {
	h := d.hosts[0]
	got, answer, err := d.hold(ctx, h)
	if err != nil || !got {
		return fmt.Errorf("host 1 should have got the lease: %q: %w", answer, err)
	}
	d.say("host 1: process %d asks for %q: %s; it runs while it holds the lease",
		h.holder.Process.Pid, demoResource, explain(answer))
	return d.showArea(ctx)
}

func (d *demonstration) refuse(ctx context.Context) error {
	got, answer, err := d.hold(ctx, d.hosts[1])
	if err != nil || got {
		return fmt.Errorf("host 2 should have been refused: %q: %w", answer, err)
	}
	d.say("host 2 asks for it too: %s", explain(answer))
	return nil
}

// crash kills daemon and holder of host 1 at once: to everyone else the host has stopped.
func (d *demonstration) crash(context.Context) error {
	h := d.hosts[0]
	if err := errors.Join(h.daemon.Process.Kill(), h.holder.Process.Kill()); err != nil {
		return err
	}
	d.say("host 1 dies: processes %d and %d killed. Its lease stays on the disk, nobody releases it",
		h.daemon.Process.Pid, h.holder.Process.Pid)
	_, _ = h.daemon.Process.Wait()
	_, _ = h.holder.Process.Wait()
	h.daemon, h.holder = nil, nil
	return nil
}

// verdict is what host 2 was answered.
type verdict struct {
	got    bool
	answer string
	err    error
}

// await lets host 2 ask until it gets the lease, and shows why it has to wait. While host 1 looks alive the
// daemon refuses at once; once host 1 is silent the daemon itself waits until it is certainly dead.
func (d *demonstration) await(ctx context.Context) error {
	t := timeouts.Set{IO: d.flags.IO, Fire: d.flags.Fire}
	died := time.Now()
	limit := t.HostDead() + 2*t.Renewal() + 10*time.Second
	d.say("host 2 keeps asking. It may have the lease when host 1 has been silent for more than %v + %d s",
		t.RenewalFail(), d.flags.Fire)
	answers := make(chan verdict, 1)
	ask := func() {
		got, answer, err := d.hold(ctx, d.hosts[1])
		answers <- verdict{got, answer, err}
	}
	go ask()
	refused := ""
	for {
		select {
		case v := <-answers:
			switch {
			case v.err != nil:
				return v.err
			case v.got:
				d.say("host 2: %s, %.1f s after the death of host 1", explain(v.answer), time.Since(died).Seconds())
				return d.showArea(ctx)
			case v.answer != refused:
				refused = v.answer
				d.say("host 2: %s", explain(v.answer))
			}
			time.AfterFunc(time.Second, ask)
		case <-time.After(time.Second):
			if err := d.countDown(ctx, t); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if time.Since(died) > limit {
			return fmt.Errorf("host 2 still has not got the lease after %v", limit)
		}
	}
}

// countDown says how long host 1 has been silent and what host 2's daemon makes of that.
func (d *demonstration) countDown(ctx context.Context, t timeouts.Set) error {
	state, err := d.stateOf(ctx, 1)
	if err != nil {
		return err
	}
	seen, err := d.lastSeen(ctx, 1)
	if err != nil {
		return err
	}
	silent := monotime.System().Now().Sub(seen).Truncate(time.Second)
	d.say("  host 1 is %-4s silent for %2.0f s: %s", state, silent.Seconds(), phase(t, silent))
	return nil
}

func phase(t timeouts.Set, silent time.Duration) string {
	left := max(t.HostDead()-silent, 0).Seconds()
	if silent <= t.HostFail() {
		return fmt.Sprintf("it may still hold its lease and write; %2.0f s to go", left)
	}
	return fmt.Sprintf("its lease is over, a watchdog resets it by then; %2.0f s to go", left)
}

func (d *demonstration) end(ctx context.Context) error {
	h := d.hosts[1]
	if err := h.holder.Process.Kill(); err != nil {
		return err
	}
	_, _ = h.holder.Process.Wait()
	h.holder = nil
	d.say("host 2's process ends; its daemon gives the lease back")
	if err := sleep(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	out, err := d.sanlock(ctx, h, "client", "rem_lockspace", "-s", d.lockspace(2))
	if err != nil {
		return fmt.Errorf("host 2 leaves: %w: %s", err, out)
	}
	d.say("host 2 leaves the lockspace: %s", lastLine(out))
	return d.showArea(ctx)
}

// cleanUp stops what still runs and removes what was made.
func (d *demonstration) cleanUp() {
	for _, h := range d.hosts {
		for _, cmd := range []*exec.Cmd{h.holder, h.daemon} {
			if cmd != nil {
				_ = cmd.Process.Kill()
				_, _ = cmd.Process.Wait()
			}
		}
	}
	if d.dir != "" {
		if err := os.RemoveAll(d.dir); err != nil {
			fmt.Fprintln(d.out, "remove", d.dir+":", err)
		}
	}
}

func sleep(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t):
		return nil
	}
}
