package fake

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestJoinDelay is how long a join of a sanlock lockspace takes with lvmlockd --test, as LVM's test suite
// expects.
const TestJoinDelay = 2 * time.Second

// TestHost is this host with lvmlockd --test, where no host id need be set.
const TestHost = 1

// Config says how a Manager behaves.
type Config struct {
	// Type is whom it is like: lvmwire.Sanlock, or lvmwire.DLM if it is anything else.
	Type lvmwire.LockType
	// JoinDelay is how long a join takes, unless it is to be without delay.
	JoinDelay time.Duration
	// Slots is how many LVs a sanlock VG has room for; 0: for all.
	Slots int
	// GlobalAnywhere makes every VG that is asked have the global lock, unless another one that is joined has it: as with
	// lvmlockd --test, where disabling it lasts until it is looked for.
	GlobalAnywhere bool
	// Fault, if not nil, is asked before each call what goes wrong with it. It may be called from many
	// goroutines.
	Fault func(Op) Fault
}

// Manager is the lock manager of one host.
type Manager struct {
	cfg     Config
	cluster *cluster
	host    uint64
}

var (
	_ lvmlock.LockManager = (*Manager)(nil)
	_ lvmlock.VGFormatter = (*Manager)(nil)
	_ lvmlock.LVAllocator = (*Manager)(nil)
	_ lvmlock.Adopter     = (*Manager)(nil)
	_ lvmlock.Refresher   = (*Manager)(nil)
)

// New returns the Manager of the host TestHost in a cluster of its own.
func New(cfg Config) *Manager {
	if cfg.Type != lvmwire.Sanlock {
		cfg.Type = lvmwire.DLM
	}
	return &Manager{cfg: cfg, cluster: newCluster(), host: TestHost}
}

// Host returns the Manager of another host in the same cluster. For the same host it is that of a daemon
// started anew: what the former one held is orphaned.
func (m *Manager) Host(id uint64) *Manager {
	return &Manager{cfg: m.cfg, cluster: m.cluster, host: id}
}

// Type is the lock type that VGs name it by.
func (m *Manager) Type() lvmwire.LockType { return m.cfg.Type }

// Running returns nil: memory is always there, unless Fault says otherwise.
func (m *Manager) Running(ctx context.Context) error {
	_, err := m.begin(ctx, Op{Name: "running"})
	return err
}

// Prepare returns a VG's lockspace and the generation that the host had in it.
func (m *Manager) Prepare(
	ctx context.Context, vg lvmlock.VG, _ lvmlock.PrepareOptions,
) (lvmlock.Lockspace, uint64, error) {
	name := lockspaceName(vg)
	if _, err := m.begin(ctx, Op{Name: "prepare", Space: name}); err != nil {
		return nil, 0, err
	}
	s := &space{manager: m, name: name, lost: make(chan struct{})}
	if m.cfg.Type != lvmwire.Sanlock {
		return s, 0, nil
	}
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	return &leaseSpace{s}, m.cluster.area(name).generations[m.host], nil
}

// InitVG makes a VG's locks. With lvmlockd --test that is nothing but its vg_lock_args.
func (m *Manager) InitVG(ctx context.Context, vg lvmlock.VG, o lvmlock.InitOptions) (string, error) {
	name := lockspaceName(vg)
	if _, err := m.begin(ctx, Op{Name: "init_vg", Space: name}); err != nil {
		return "", err
	}
	if m.cfg.Type != lvmwire.Sanlock {
		return "1.0.0:test", nil
	}
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	if len(m.cluster.area(name).members) > 0 {
		return "", refuse("make the locks of", name, lvmwire.Exists)
	}
	a := newArea()
	a.decided, a.enabled = true, o.Global
	m.cluster.areas[name] = a
	lv := vg.Args
	if lv == "" {
		lv = "lvmlock"
	}
	return "1.0.0:" + lv, nil
}

// RenameVG forgets what there was under the new name. Memory has no locks under the old one that could be
// moved: the lockspace was left.
func (m *Manager) RenameVG(ctx context.Context, vg lvmlock.VG) error {
	name := lockspaceName(vg)
	if _, err := m.begin(ctx, Op{Name: "rename_vg", Space: name}); err != nil {
		return err
	}
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	if len(m.cluster.area(name).members) > 0 {
		return refuse("rename a VG to", name, lvmwire.Busy)
	}
	m.cluster.areas[name] = newArea()
	return nil
}

// InitLV gives an LV a slot, the first at 67 MiB as on a real lvmlock LV, each 1 MiB after the one before.
// DLM needs none.
func (m *Manager) InitLV(
	ctx context.Context, vg lvmlock.VG, _ lvmlock.Lockspace, uuid, _ string,
) (string, error) {
	name := lockspaceName(vg)
	if _, err := m.begin(ctx, Op{Name: "init_lv", Space: name, Resource: uuid}); err != nil {
		return "", err
	}
	if m.cfg.Type != lvmwire.Sanlock {
		return "", nil
	}
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	a := m.cluster.area(name)
	if m.cfg.Slots > 0 && len(a.slots) >= m.cfg.Slots {
		return "", refuse("find a slot in", name, lvmwire.TooLong)
	}
	at := m.cluster.nextSlot()
	a.slots[uuid] = at
	return fmt.Sprintf("1.0.0:%d", at), nil
}

// Lockspaces are those that this host is a member of, also if an earlier daemon joined them.
func (m *Manager) Lockspaces(ctx context.Context) ([]string, error) {
	if _, err := m.begin(ctx, Op{Name: "lockspaces"}); err != nil {
		return nil, err
	}
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	return m.cluster.joined(m.host), nil
}

// HostID is this host's id in every lockspace.
func (m *Manager) HostID(context.Context, string) (uint64, error) { return m.host, nil }

// Refresh says that not all hosts looked at the LV anew: nobody is there to tell them.
func (m *Manager) Refresh(ctx context.Context, path string) error {
	if _, err := m.begin(ctx, Op{Name: "refresh", Resource: path}); err != nil {
		return err
	}
	if m.cfg.Type == lvmwire.Sanlock {
		return refuse("refresh", path, lvmwire.Unsupported)
	}
	return refuse("refresh", path, lvmwire.Perm)
}

// SetRemote makes it look as if another host held an LV, until it is set to lvmwire.UN (set_remote_lv_lock).
func (m *Manager) SetRemote(vg, uuid string, mode lvmwire.Mode) {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	held := m.cluster.area("lvm_" + vg).resource(uuid).holders
	delete(held, remoteHost)
	if mode != lvmwire.UN {
		held[remoteHost] = holder{mode: mode}
	}
}

// Holds tells how this host holds a resource, orphans included.
func (m *Manager) Holds(vg, resource string) lvmwire.Mode {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	return m.cluster.area("lvm_" + vg).resource(resource).holders[m.host].mode
}

// lockspaceName is what a VG's lockspace is called; lvm_global has its name already.
func lockspaceName(vg lvmlock.VG) string {
	if strings.HasPrefix(vg.Name, "lvm_") && vg.UUID == "" {
		return vg.Name
	}
	return "lvm_" + vg.Name
}

// refuse is a no with a result.
func refuse(op, what string, r lvmwire.Result) *lvmlock.Error {
	return &lvmlock.Error{Op: op, What: what, Result: r}
}
