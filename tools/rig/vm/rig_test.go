package vm_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/need"
	"github.com/tenurelock/tenure/tools/rig/vm"
)

// machines starts a rig whose machines share one disk of 64 MiB.
func machines(t *testing.T, n int, o vm.Options, sectorSize int) (context.Context, *vm.Rig) {
	t.Helper()
	if os.Getenv("TENURE_VMTEST") == "" {
		t.Skip("needs TENURE_VMTEST=1, which make vmtest sets: virtual machines take minutes")
	}
	need.Program(t, vm.QEMU)
	need.Program(t, "sanlock")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	image, err := vm.Build(ctx, vm.Standard())
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "shared.img")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 64<<20)); err != nil {
		t.Fatal(err)
	}
	o.Image, o.Disks = image, []vm.Disk{{Path: disk, SectorSize: sectorSize}}
	r, err := vm.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, l := range r.Log().Lines(time.Time{}) {
				t.Log(l.Format(time.Now()))
			}
		}
	})
	if err := r.Start(ctx, n); err != nil {
		t.Fatal(err)
	}
	return ctx, r
}

// waitFor waits for a line of a machine.
func waitFor(ctx context.Context, t *testing.T, r *vm.Rig, m vm.Match) vm.Line {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	line, err := r.Log().Wait(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestOneMachine breaks one machine in every way but the watchdog's.
func TestOneMachine(t *testing.T) {
	ctx, r := machines(t, 1, vm.Options{}, 512)
	m := r.Machine(1)
	out, code, err := m.Run(ctx, "echo to stdout; echo to stderr >&2; exit 3")
	if err != nil || code != 3 || out != "to stdout\nto stderr\n" {
		t.Fatalf("Run says %q, %d, %v", out, code, err)
	}
	const read = "dd if=/dev/rig/disk0 of=/dev/null bs=4096 count=1 iflag=direct 2>&1"
	reads := func(want bool) {
		t.Helper()
		out, code, err := m.Run(ctx, read)
		if err != nil || (code == 0) != want {
			t.Fatalf("reading the disk works: want %v, got %d, %v, %q", want, code, err, out)
		}
	}
	reads(true)

	check(t, m.DiskFail(ctx, 0))
	reads(false)
	check(t, m.DiskOK(ctx, 0))
	check(t, m.DiskOK(ctx, 0)) // twice is harmless
	reads(true)

	// The first transfer after it may still pass, so several are asked for.
	check(t, m.DiskHang(ctx, 0))
	hung, err := m.Spawn("dd", "for i in 1 2 3; do "+read+"; done; echo all read")
	check(t, err)
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := hung.Wait(short); err == nil {
		t.Fatal("a disk that hangs was read")
	}
	check(t, m.DiskOK(ctx, 0))
	waitFor(ctx, t, r, vm.Match{Source: "dd", Text: "all read"})

	check(t, m.DiskSlow(ctx, 0, 2))
	began := time.Now()
	for range 6 {
		reads(true)
	}
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("6 reads at 2 per second took %v", took)
	}
	check(t, m.DiskOK(ctx, 0))

	check(t, m.DiskUnplug(ctx, 0))
	waitFor(ctx, t, r, vm.Match{Text: "DEVICE_DELETED {\"device\""})
	reads(false)
	before := time.Now()
	check(t, m.DiskPlug(ctx, 0))
	waitFor(ctx, t, r, vm.Match{Source: vm.SourceGuest, Text: "is /dev/rig/disk0", Since: before})
	reads(true)
}

// uptime is a guest's monotonic clock in seconds.
func uptime(ctx context.Context, t *testing.T, m *vm.Machine) time.Duration {
	t.Helper()
	out, err := m.Do(ctx, "cut -d' ' -f1 /proc/uptime")
	check(t, err)
	d, err := time.ParseDuration(strings.TrimSpace(out) + "s")
	check(t, err)
	return d
}

// TestClocks: in a frozen machine the clocks run on, in a paused one they stand; they are as fast as the host's.
func TestClocks(t *testing.T) {
	ctx, r := machines(t, 1, vm.Options{}, 512)
	m := r.Machine(1)
	_, err := m.Do(ctx, "grep -q ^tsc /sys/devices/system/clocksource/clocksource0/current_clocksource")
	check(t, err)
	const away = 4 * time.Second
	// A question may take long on a busy host, which says how much may have passed, and how much must.
	before := uptime(ctx, t, m)
	answered := time.Now()
	check(t, m.Freeze())
	time.Sleep(away)
	check(t, m.Thaw())
	asks := time.Now()
	if passed := uptime(ctx, t, m) - before; passed < asks.Sub(answered)*99/100 {
		t.Errorf("a machine frozen for %v saw %v pass of %v at least", away, passed, asks.Sub(answered))
	}
	began := time.Now()
	before = uptime(ctx, t, m)
	time.Sleep(away)
	if passed, most := uptime(ctx, t, m)-before, time.Since(began); passed > most*101/100 {
		t.Errorf("a machine saw %v pass of %v at most", passed, most)
	}
	began = time.Now()
	before = uptime(ctx, t, m)
	check(t, m.Pause(ctx))
	time.Sleep(away)
	check(t, m.Resume(ctx))
	if passed := uptime(ctx, t, m) - before; passed > time.Since(began)-away+away/4 {
		t.Errorf("a machine paused for %v saw %v pass of %v", away, passed, time.Since(began))
	}
}

// TestDied: a command of a machine that is reset, or loses its power, ends with Died; the machine comes back.
func TestDied(t *testing.T) {
	ctx, r := machines(t, 1, vm.Options{}, 512)
	m := r.Machine(1)
	lose := func(how func() error) {
		t.Helper()
		c, err := m.Spawn("sleep", "sleep 100")
		check(t, err)
		check(t, how())
		var died *vm.Died
		if _, err := c.Wait(ctx); !errors.As(err, &died) || died.Machine != 1 {
			t.Fatalf("the command ended with %v, want Died", err)
		}
	}
	lose(func() error { return m.Reset(ctx) })
	if n := len(m.Resets()); n != 1 {
		t.Fatalf("%d resets after one", n)
	}
	check(t, m.WaitReady(ctx))
	if _, err := m.Do(ctx, "true"); err != nil {
		t.Fatal(err)
	}
	lose(m.Cut)
	check(t, m.Boot(ctx))
	if _, err := m.Do(ctx, "true"); err != nil {
		t.Fatal(err)
	}
}

// TestMachinesDieWithTheirProcess: no QEMU outlives the process that started it, however that ends.
func TestMachinesDieWithTheirProcess(t *testing.T) {
	const child = "TENURE_RIG_CHILD"
	if os.Getenv(child) != "" {
		_, r := machines(t, 1, vm.Options{Echo: os.Stdout}, 512)
		fmt.Println(r.Log().Find(vm.Match{Text: "power on, process"})[0].Text)
		select {} // until it is killed
	}
	if os.Getenv("TENURE_VMTEST") == "" {
		t.Skip("needs TENURE_VMTEST=1, which make vmtest sets: virtual machines take minutes")
	}
	need.Program(t, vm.QEMU)
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMachinesDieWithTheirProcess$")
	parent.Env = append(os.Environ(), child+"=1")
	out, err := parent.StdoutPipe()
	check(t, err)
	check(t, parent.Start())
	qemu := 0
	for lines := bufio.NewScanner(out); qemu == 0 && lines.Scan(); {
		if _, pid, ok := strings.Cut(lines.Text(), "power on, process "); ok {
			qemu, err = strconv.Atoi(pid)
			check(t, err)
		}
	}
	if qemu == 0 || syscall.Kill(qemu, 0) != nil {
		t.Fatalf("no QEMU runs (process %d)", qemu)
	}
	check(t, parent.Process.Kill())
	for end := time.Now().Add(10 * time.Second); syscall.Kill(qemu, 0) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("QEMU, process %d, outlives the process that started it", qemu)
		}
	}
	_ = parent.Wait() // it was killed
}

// TestSharedDisk: two machines see each other's sectors, neighbouring ones of 512 bytes too, and the holders'
// records tell when two write.
func TestSharedDisk(t *testing.T) {
	t.Run("512", func(t *testing.T) { sharedDisk(t, 512) })
	t.Run("4096", func(t *testing.T) { sharedDisk(t, 4096) })
}

func sharedDisk(t *testing.T, sector int) {
	ctx, r := machines(t, 2, vm.Options{}, sector)
	out, err := r.Machine(2).Do(ctx, "cat /sys/block/vda/queue/logical_block_size")
	if err != nil || strings.TrimSpace(out) != strconv.Itoa(sector) {
		t.Errorf("sectors are of %q bytes, want %d (%v)", out, sector, err)
	}
	first, err := r.Machine(1).Spawn("holder", "holder -name vm1 -no-lease 1")
	check(t, err)
	waitFor(ctx, t, r, vm.Match{Machine: 1, Source: "holder", Text: "wrote 9"})
	for _, l := range r.Log().Find(vm.Match{Source: "holder"}) {
		if strings.Contains(l.Text, "HARM") || strings.Contains(l.Text, "LOST") {
			t.Errorf("a holder alone says %q", l.Text)
		}
	}
	_, err = r.Machine(2).Spawn("holder", "holder -name vm2 -no-lease 2")
	check(t, err)
	waitFor(ctx, t, r, vm.Match{Machine: 2, Source: "holder", Text: "HARM"})
	waitFor(ctx, t, r, vm.Match{Machine: 1, Source: "holder", Text: "HARM"})
	check(t, first.Signal(syscall.SIGTERM))
	if code, err := first.Wait(ctx); err != nil || code != 0 {
		t.Errorf("the holder ended by SIGTERM with %d, %v", code, err)
	}
}
