package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// Defaults of Config.
const (
	DefaultDevDir   = "/dev/mapper"
	DefaultKillpath = "/sbin/lvmlockctl"
)

// Config says where things are. Its zero value is usable.
type Config struct {
	// RunDir is the sanlock daemon's run directory; "" means client.RunDir.
	RunDir string
	// IOTimeout in seconds is what lockspaces are made and joined with; 0 leaves it to the daemon.
	IOTimeout uint32
	// DevDir has a lock LV's device under its device-mapper name; "" means DefaultDevDir. A file will do as
	// well.
	DevDir string
	// Killpath is the program that the daemon runs with "--kill VG" when it can no longer renew a VG's
	// lockspace; "" means DefaultKillpath. sanlock takes at most 126 bytes of it.
	Killpath string
	Log      zerolog.Logger
}

// Bounds of what is waited for.
const (
	nodeWait      = 2 * time.Second        // for a device node that udev makes late (spec lvmlockd T21)
	nodePause     = 50 * time.Millisecond  // between two looks for it
	maxScans      = 16                     // scans of lock LVs at a time, those that hang included
	scanLimit     = 30 * time.Second       // for one piece of a scan
	ownerLimit    = 2 * time.Second        // for finding who stands in the way
	cancelLimit   = 5 * time.Second        // for telling the daemon that a join is not wanted any more
	formatters    = 4                      // connections that write slots side by side; stock has as many workers
	retryPause    = 200 * time.Millisecond // before a lockspace that is being removed is added again
	busyLimit     = 3 * time.Second        // that releases under way may keep a lockspace from being removed
	registerPause = 10 * time.Second       // before events are registered for again
	shortestWait  = time.Second            // between two looks at whether our own renewals go on
)

// Manager is the LockManager "sanlock". Its methods may be called side by side.
type Manager struct {
	cfg   Config
	scans chan struct{} // has room for maxScans

	mu     sync.Mutex
	spaces map[leases.Name]*space // joined, or joining
}

// New returns a Manager. Nothing is asked of the daemon yet.
func New(cfg Config) *Manager {
	if cfg.DevDir == "" {
		cfg.DevDir = DefaultDevDir
	}
	if cfg.Killpath == "" {
		cfg.Killpath = DefaultKillpath
	}
	return &Manager{cfg: cfg, scans: make(chan struct{}, maxScans), spaces: map[leases.Name]*space{}}
}

var (
	_ lvmlock.LockManager = (*Manager)(nil)
	_ lvmlock.VGFormatter = (*Manager)(nil)
	_ lvmlock.LVAllocator = (*Manager)(nil)
	_ lvmlock.Adopter     = (*Manager)(nil)
	_ lvmlock.Identifier  = (*Manager)(nil)
)

// Type returns lvmwire.Sanlock.
func (m *Manager) Type() lvmwire.LockType { return lvmwire.Sanlock }

// Running asks the daemon for its version.
func (m *Manager) Running(ctx context.Context) error {
	err := m.ask(ctx, func(c *client.Conn) error {
		_, _, err := c.Version(ctx)
		return err
	})
	if err != nil {
		return &lvmlock.Error{Op: "find", What: "sanlock", Result: lvmwire.NoManager, Err: err}
	}
	return nil
}

// Lockspaces returns the names of LVM's lockspaces that the daemon has joined, whoever asked it to. The daemon
// cuts names off after 48 bytes.
func (m *Manager) Lockspaces(ctx context.Context) ([]string, error) {
	all, err := m.joined(ctx)
	var names []string
	for _, l := range all {
		names = append(names, l.Name.String())
	}
	return names, err
}

// HostID returns as which host the daemon has joined a lockspace.
func (m *Manager) HostID(ctx context.Context, space string) (uint64, error) {
	all, err := m.joined(ctx)
	if err != nil {
		return 0, err
	}
	for _, l := range all {
		if l.Name.Equal(leases.NameOf(space)) {
			return l.HostID, nil
		}
	}
	return 0, &lvmlock.Error{
		Op: "find our host id in", What: space, Result: lvmwire.NoLockspace, Err: errors.New("the daemon has not joined it"),
	}
}

// joined lists LVM's lockspaces of the daemon.
func (m *Manager) joined(ctx context.Context) ([]sanlockwire.Lockspace, error) {
	var found []sanlockwire.Lockspace
	err := m.ask(ctx, func(c *client.Conn) error {
		all, err := c.GetLockspaces(ctx)
		for _, l := range all {
			gone := l.Flags&(sanlockwire.SpaceAdding|sanlockwire.SpaceRemoving) != 0
			if strings.HasPrefix(l.Name.String(), spacePrefix) && !gone {
				found = append(found, l)
			}
		}
		return err
	})
	if err != nil {
		return nil, diskError("list", "lockspaces", err)
	}
	return found, nil
}

// ask does f on a connection of its own.
func (m *Manager) ask(ctx context.Context, f func(*client.Conn) error) error {
	return client.Do(ctx, m.cfg.RunDir, f)
}

// device is the path of a VG's lock LV.
func (m *Manager) device(vg, lv string) string {
	return filepath.Join(m.cfg.DevDir, deviceName(vg, lv))
}

// awaitDevice waits a moment for the device of a lock LV to appear.
func (m *Manager) awaitDevice(ctx context.Context, path string) error {
	deadline := time.Now().Add(nodeWait)
	for {
		_, err := os.Stat(path)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no lock LV: %w", err)
		}
		if err := pause(ctx, nodePause); err != nil {
			return err
		}
	}
}

// pause waits, at most until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// disk is a place on a lock LV as requests name it.
func disk(path string, offset int64) []sanlockwire.Disk {
	return []sanlockwire.Disk{{Path: path, Offset: uint64(offset)}}
}

// readLayout reads how a lock LV is laid out from its lockspace, whatever that is called if name is empty.
// The place of host id 1 tells it, which every layout has.
func (m *Manager) readLayout(ctx context.Context, name leases.Name, path string) (layout, error) {
	var lay layout
	err := m.ask(ctx, func(c *client.Conn) error {
		l := sanlockwire.Lockspace{Name: name, HostID: 1, Disk: sanlockwire.Disk{Path: path}}
		found, _, err := c.ReadLockspace(ctx, l)
		if err != nil {
			return err
		}
		var ok bool
		if lay, ok = layoutOf(found.Flags); ok {
			return nil
		}
		// Leases of old do not say it; the device does (spec lvmlockd 4.2).
		align, err := c.Align(ctx, l.Disk)
		if err != nil {
			return err
		}
		for _, old := range []layout{{512, mib}, {4096, 8 * mib}} {
			if old.align == int64(align) {
				lay = old
				return nil
			}
		}
		return fmt.Errorf("leases of %d bytes on %s; no layout has them", align, path)
	})
	return lay, err
}
