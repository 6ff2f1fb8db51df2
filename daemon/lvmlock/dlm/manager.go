package dlm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// GlobalSpace is the lockspace of the global lock. A VG of this name without a UUID stands for it.
const GlobalSpace = "lvm_global"

// Config says where the lock manager is. The zero Config is this machine's.
type Config struct {
	Kernel   Kernel         // nil: this machine's devices
	Cluster  string         // dlm's directory in configfs, "": /sys/kernel/config/dlm/cluster
	Controld string         // dlm_controld's socket, "": that in the abstract namespace
	Log      zerolog.Logger // the zero Logger says nothing
}

// Manager is the lock manager "dlm".
type Manager struct {
	kernel   Kernel
	cluster  cluster
	controld string
	log      zerolog.Logger
}

var (
	_ lvmlock.LockManager = (*Manager)(nil)
	_ lvmlock.VGFormatter = (*Manager)(nil)
	_ lvmlock.Adopter     = (*Manager)(nil)
	_ lvmlock.Refresher   = (*Manager)(nil)
)

// New returns the lock manager; nothing is opened before it is used.
func New(c Config) *Manager {
	m := &Manager{kernel: c.Kernel, cluster: cluster(c.Cluster), controld: c.Controld, log: c.Log}
	if m.kernel == nil {
		m.kernel = machine{dev: "/dev", misc: "/proc/misc"}
	}
	if m.cluster == "" {
		m.cluster = clusterDir
	}
	if m.controld == "" {
		m.controld = controldSocket
	}
	return m
}

// Type returns DLM.
func (m *Manager) Type() lvmwire.LockType { return lvmwire.DLM }

// Running returns nil if dlm_controld has told the kernel of a cluster.
func (m *Manager) Running(context.Context) error {
	if _, err := m.cluster.name(); err != nil {
		return fault("use", "dlm", lvmwire.NoManager, err)
	}
	return nil
}

// Prepare checks that the VG belongs to this host's cluster. Nothing is known of earlier memberships.
func (m *Manager) Prepare(_ context.Context, vg lvmlock.VG, _ lvmlock.PrepareOptions) (lvmlock.Lockspace, uint64, error) {
	if err := m.cluster.check(vg.Name, vg.Args); err != nil {
		return nil, 0, err
	}
	return newLockspace(m, spaceName(vg)), 0, nil
}

// spaceName is cut, so that hosts with either lvmlockd meet in one lockspace. VGs that share one exclude each other
// more than they need; their LVs are told apart by UUID.
func spaceName(vg lvmlock.VG) string {
	name := spacePrefix + vg.Name
	if vg.Name == GlobalSpace && vg.UUID == "" {
		name = GlobalSpace
	}
	return name[:min(len(name), nameMax)]
}

// InitVG returns the vg_lock_args, which name the cluster; dlm keeps nothing on disk.
func (m *Manager) InitVG(context.Context, lvmlock.VG, lvmlock.InitOptions) (string, error) {
	return m.cluster.args()
}

// RenameVG has nothing to do: a VG's locks exist only while it is started.
func (m *Manager) RenameVG(context.Context, lvmlock.VG) error { return nil }

// Lockspaces returns the names of the joined lockspaces of LVM, that of the global lock among them.
func (m *Manager) Lockspaces(context.Context) ([]string, error) {
	names, err := m.cluster.spaces()
	if err != nil {
		return nil, fault("list", "lockspaces", lvmwire.ManagerError, err)
	}
	return names, nil
}

// control hands one command to the device of all lockspaces. It may block while the cluster changes.
func (m *Manager) control(c command) (int, error) {
	d, err := m.kernel.Control()
	if err != nil {
		return 0, err
	}
	defer d.Close()
	var p [versionSize]byte
	if n, err := d.Read(p[:]); err != nil || n != versionSize {
		return 0, fmt.Errorf("read the version of dlm's device (%d bytes): %w", n, err)
	}
	if major := binary.NativeEndian.Uint32(p[:]); major != spoken[0] {
		return 0, fmt.Errorf("the kernel's dlm device has version %d, want %d", major, spoken[0])
	}
	return d.Write(c.append(nil))
}

// create makes this host a member of a lockspace that it is not in yet, and returns its minor number.
func (m *Manager) create(space string) (int, error) {
	minor, err := m.control(command{Verb: verbCreate, Flags: createExclusive, Name: space})
	if errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("create: %w: an earlier daemon left it; adopt it, or remove it with dlm_tool leave %s",
			err, space)
	}
	return minor, err
}

func (m *Manager) remove(minor int) error {
	_, err := m.control(command{Verb: verbRemove, Flags: removeForced, Minor: uint32(minor)})
	return err
}
