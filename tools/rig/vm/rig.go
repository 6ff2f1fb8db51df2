package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// Watchdog is the device that resets a machine.
type Watchdog string

// The watchdogs: none, the kernel's own timer, and an emulated PCI card.
const (
	NoWatchdog Watchdog = ""
	Softdog    Watchdog = "softdog"
	I6300ESB   Watchdog = "i6300esb"
)

// Disk is a file of the host that every machine has as a disk. It is /dev/rig/diskN in the guests, N from 0.
type Disk struct {
	Path         string
	SectorSize   int // bytes, 512 or 4096
	PhysicalSize int // bytes, of the sectors that the disk says it has inside; 0: as SectorSize
}

// Options say what machines a Rig has.
type Options struct {
	Image    Image
	Disks    []Disk
	Watchdog Watchdog
	// StayDown lets a machine that resets itself, or is reset by its watchdog, stay off instead of booting anew.
	StayDown bool
	Network  bool          // the machines see each other on eth0, 10.9.0.ID, and nobody else
	MemoryMB int           // 0: 256, which is enough for sanlock and a few programs
	Nice     int           // of QEMU; 0: 5
	Kill     time.Duration // bounds how long Close waits for a QEMU; 0: 10 s
	Echo     io.Writer     // gets every line of the log as it comes; may be nil
}

// machinesMax bounds the machines of a rig; each takes 400 MB of memory and a core while it boots.
const machinesMax = 8

// Rig is a set of machines that share disks and a clock.
type Rig struct {
	options  Options
	qemu     string
	log      *Log
	launcher *launcher
	machines []*Machine
	group    string // of the network
}

// QEMU is the program that runs the machines.
const QEMU = "qemu-system-x86_64"

// New prepares a rig; no machine runs yet. Close must be called.
func New(options Options) (*Rig, error) {
	qemu, err := exec.LookPath(QEMU)
	if err != nil {
		return nil, fmt.Errorf("run virtual machines: %w (install qemu-system-x86)", err)
	}
	if options.MemoryMB == 0 {
		options.MemoryMB = 256
	}
	if options.Nice == 0 {
		options.Nice = 5
	}
	if options.Kill == 0 {
		options.Kill = 10 * time.Second
	}
	for i, d := range options.Disks {
		if d.SectorSize != 512 && d.SectorSize != 4096 {
			return nil, fmt.Errorf("disk %d: sectors of %d bytes; 512 and 4096 are possible", i, d.SectorSize)
		}
		if d.PhysicalSize != 0 && d.PhysicalSize != 4096 && d.PhysicalSize != d.SectorSize {
			return nil, fmt.Errorf("disk %d: sectors of %d bytes inside of ones of %d; 4096 is possible",
				i, d.SectorSize, d.PhysicalSize)
		}
		if _, err := os.Stat(d.Path); err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
	}
	r := &Rig{options: options, qemu: qemu, log: newLog(options.Echo), launcher: newLauncher()}
	if options.Network {
		r.group = networkGroup()
	}
	return r, nil
}

// Log is what happened so far.
func (r *Rig) Log() *Log { return r.log }

// Machine returns machine i, from 1, of those that Start started.
func (r *Rig) Machine(i int) *Machine { return r.machines[i-1] }

// Machines returns all machines.
func (r *Rig) Machines() []*Machine { return r.machines }

// Start boots n machines at once and returns when all take commands.
func (r *Rig) Start(ctx context.Context, n int) error {
	if n < 1 || n > machinesMax || r.machines != nil {
		return fmt.Errorf("start %d machines: a rig starts 1 to %d, once", n, machinesMax)
	}
	booted := make(chan error, n)
	for i := 1; i <= n; i++ {
		m := &Machine{rig: r, id: i}
		r.machines = append(r.machines, m)
		go func() { booted <- m.Boot(ctx) }()
	}
	var errs []error
	for range n {
		errs = append(errs, <-booted)
	}
	return errors.Join(errs...)
}

// Close cuts the power of all machines. It may be called twice; nothing can be started after it.
func (r *Rig) Close() error {
	var errs []error
	for _, m := range r.machines {
		errs = append(errs, m.Cut())
	}
	r.launcher.close()
	return errors.Join(errs...)
}
