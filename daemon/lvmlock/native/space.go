package native

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// space is the lockspace of one VG.
type space struct {
	m    *Manager
	vg   lvmlock.VG
	name leases.Name
	path string
	lay  layout
	lost chan struct{}

	// hold is registered with the daemon: while it is open we hold what was acquired on it. Whoever has put a
	// token into turn may use it; calls go on to their end whatever becomes of who asked, or nobody would
	// know what we hold.
	hold *client.Conn
	turn chan struct{}

	// slots may be used by whoever has put a token into choosing.
	slots    slotMap
	choosing chan struct{}

	watchers sync.WaitGroup
	stop     context.CancelFunc // of the watchers; nil until joined

	mu         sync.Mutex
	held       map[string]lvmwire.Mode
	generation uint64
	ioTimeout  time.Duration
	leaving    bool
	gone       bool // lost is closed
}

var (
	_ lvmlock.Lockspace    = (*space)(nil)
	_ lvmlock.GlobalLocker = (*space)(nil)
	_ lvmlock.SlotFinder   = (*space)(nil)
	_ lvmlock.Member       = (*space)(nil)
)

// Prepare checks what the lockspace needs and registers with the daemon (spec lvmlockd 4.5). The daemon does
// not tell the previous generation.
func (m *Manager) Prepare(
	ctx context.Context, vg lvmlock.VG, _ lvmlock.PrepareOptions,
) (lvmlock.Lockspace, uint64, error) {
	fail := func(r lvmwire.Result, err error) (lvmlock.Lockspace, uint64, error) {
		return nil, 0, &lvmlock.Error{Op: "prepare", What: spacePrefix + vg.Name, Result: r, Err: err}
	}
	lv, err := parseArgs(vg.Args, maxGroupMajor)
	if err != nil {
		return fail(lvmwire.BadArgs, err)
	}
	s := &space{
		m: m, vg: vg, name: spaceName(vg.Name), path: m.device(vg.Name, lv), lost: make(chan struct{}),
		turn: make(chan struct{}, 1), choosing: make(chan struct{}, 1), held: map[string]lvmwire.Mode{},
	}
	if vg.HostID == 0 || vg.HostID > maxHosts {
		return fail(lvmwire.BadHostID, fmt.Errorf("host id %d; 1 to %d are possible", vg.HostID, maxHosts))
	}
	if err := fitsKillpath(vg.Name); err != nil {
		return fail(lvmwire.BadArgs, err)
	}
	if err := m.awaitDevice(ctx, s.path); err != nil {
		return fail(lvmwire.BadArgs, err)
	}
	if s.hold, err = s.register(ctx); err != nil {
		return fail(lvmwire.NoManager, err)
	}
	if err := s.look(ctx); err != nil {
		_ = s.hold.Close() // nothing is held yet
		return nil, 0, err
	}
	return s, 0, nil
}

// killOption comes before the VG's name in the arguments of the killpath.
const killOption = "--kill "

// fitsKillpath refuses a VG whose name sanlock would cut off: when its lockspace fails another VG, or none, would be
// killed.
func fitsKillpath(vg string) error {
	if most := sanlockwire.MaxKillpath - len(killOption); len(vg) > most {
		return fmt.Errorf("its name has %d bytes; sanlock can tell lvmlockctl of up to %d when the storage fails", len(vg), most)
	}
	return nil
}

// register opens the connection that will hold our leases. When the lockspace fails the daemon runs our
// killpath instead of ending this process, which serves other VGs too.
func (s *space) register(ctx context.Context) (*client.Conn, error) {
	c, err := client.Dial(ctx, s.m.cfg.RunDir)
	if err != nil {
		return nil, err
	}
	err = c.Register(ctx)
	if err == nil {
		err = c.Killpath(ctx, s.m.cfg.Killpath, killOption+s.vg.Name, 0)
	}
	if err == nil {
		err = c.Restrict(ctx, sanlockwire.RestrictSigkill)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// look reads the lockspace and the global lock's slot from the disk.
func (s *space) look(ctx context.Context) error {
	lay, err := s.m.readLayout(ctx, s.name, s.path)
	if err != nil {
		return diskError("prepare", s.name.String(), err)
	}
	if most := lay.maxHosts(); s.vg.HostID > most {
		err := fmt.Errorf("host id %d; up to %d have a place in leases of %d bytes", s.vg.HostID, most, lay.align)
		return &lvmlock.Error{Op: "prepare", What: s.name.String(), Result: lvmwire.BadHostID, Err: err}
	}
	s.lay = lay
	s.slots.lay = lay
	if _, err := s.slotName(ctx, globalSlot); err != nil {
		e := diskError("prepare", s.name.String(), err)
		if e.Result == lvmwire.RepairNeeded || e.Result == lvmwire.TooLong {
			e.Result = lvmwire.BadArgs // stock's; the lockspace itself is well
		}
		return e
	}
	return nil
}

// space is how requests name the lockspace.
func (s *space) space() sanlockwire.Lockspace {
	return sanlockwire.Lockspace{
		Name: s.name, HostID: s.vg.HostID, Flags: s.lay.flags(), Disk: sanlockwire.Disk{Path: s.path},
	}
}

// Join adds the lockspace to the daemon, which waits until our host id is surely ours. After an error the
// lockspace is of no more use.
func (s *space) Join(ctx context.Context, o lvmlock.JoinOptions) (uint64, error) {
	if err := s.m.claim(s); err != nil {
		s.close()
		return 0, err
	}
	err := s.add(ctx, o)
	if err == nil {
		err = s.member(ctx)
	}
	if err != nil {
		s.m.unclaim(s)
		s.close()
		return 0, diskError("join", s.name.String(), err)
	}
	s.watch()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation, nil
}

// claim keeps two VGs whose names begin alike out of one lockspace.
func (m *Manager) claim(s *space) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.spaces[s.name]; other != nil {
		err := fmt.Errorf("VG %s has it", other.vg.Name)
		return &lvmlock.Error{Op: "join", What: s.name.String(), Result: lvmwire.Exists, Err: err}
	}
	m.spaces[s.name] = s
	return nil
}

func (m *Manager) unclaim(s *space) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spaces[s.name] == s {
		delete(m.spaces, s.name)
	}
}

// claimed reports whether a lockspace of this name is joined here.
func (m *Manager) claimed(name leases.Name) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spaces[name] != nil
}

// errNoneToAdopt is why AdoptOnly fails.
var errNoneToAdopt = errors.New("the daemon has not joined it, so there is none to adopt")

// add adds the lockspace, or finds it added when it is to be adopted. One that is still being removed, or
// added for a process that has died, is waited for.
func (s *space) add(ctx context.Context, o lvmlock.JoinOptions) error {
	for {
		var err error
		if o.AdoptOnly {
			err = s.inquire(ctx)
			if kindOf(err) == leases.NotFound {
				err = errNoneToAdopt
			}
		} else {
			err = s.addOnce(ctx)
			if kindOf(err) == leases.Exists && o.Adopt {
				err = nil
			}
		}
		if k := kindOf(err); k != leases.Again && k != leases.InProgress {
			return err
		}
		if err := s.inquire(ctx); err != nil && kindOf(err) != leases.NotFound {
			return err
		}
		if err := pause(ctx, retryPause); err != nil {
			return err
		}
	}
}

func (s *space) addOnce(ctx context.Context) error {
	err := s.m.ask(ctx, func(c *client.Conn) error {
		return c.AddLockspace(ctx, s.space(), s.m.cfg.IOTimeout, 0)
	})
	if ctx.Err() == nil || err == nil {
		return err
	}
	// The daemon goes on joining, and nobody would ever leave.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelLimit)
	defer cancel()
	undo := s.m.ask(late, func(c *client.Conn) error {
		return c.RemLockspace(late, s.space(), sanlockwire.RemoveAsync|sanlockwire.RemoveIdle)
	})
	return errors.Join(err, undo)
}

// inquire returns nil if the daemon has joined the lockspace. What is under way is waited for.
func (s *space) inquire(ctx context.Context) error {
	return s.m.ask(ctx, func(c *client.Conn) error {
		return c.InqLockspace(ctx, s.space(), sanlockwire.InquireWait)
	})
}

// member keeps the lockspace from being removed while leases are held that an earlier life of this host left,
// and asks for what is known of our membership.
func (s *space) member(ctx context.Context) error {
	err := s.m.ask(ctx, func(c *client.Conn) error {
		return c.SetConfig(ctx, s.space(), sanlockwire.ConfigUsedByOrphans)
	})
	if err != nil {
		return err
	}
	return s.m.ask(ctx, func(c *client.Conn) error {
		return c.Status(ctx, sanlockwire.StatusLockspaces, func(st sanlockwire.State) error {
			if st.Type != sanlockwire.StateLockspace || !st.Space.Name.Equal(s.name) {
				return nil
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.generation = number(st.Text, "host_generation")
			s.ioTimeout = time.Duration(number(st.Text, "io_timeout")) * time.Second
			return nil
		})
	})
}

// number is a number in the text of a state record, 0 if it is not there.
func number(text, key string) uint64 {
	word, _ := sanlockwire.Word(text, key)
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// enter waits for the registered connection; exit lets others have it.
func (s *space) enter(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *space) exit() { <-s.turn }

// Leave gives back all leases and removes the lockspace, which is refused as Busy while an earlier life of
// this host holds something in it.
func (s *space) Leave(ctx context.Context, free bool) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.exit()
	if s.stop != nil {
		if err := s.orphaned(ctx); err != nil {
			return err
		}
		s.setLeaving(true)
		s.giveBack(free)
		if err := s.remove(ctx); err != nil {
			s.setLeaving(false)
			e := diskError("leave", s.name.String(), err)
			if kindOf(err) == leases.Busy {
				e.Result = lvmwire.Busy
			}
			return e
		}
		s.stop()
		s.watchers.Wait()
		s.m.unclaim(s)
	}
	s.close()
	if free {
		s.erase(ctx)
	}
	return nil
}

// close ends our registration with the daemon. It may have ended it first, and it may be closed already.
func (s *space) close() {
	if err := s.hold.Close(); err != nil {
		s.m.cfg.Log.Debug().Err(err).Stringer("space", s.name).Msg("close the connection to sanlock")
	}
}

// orphaned refuses to leave while an earlier life of this host holds something, before anything is given
// back.
func (s *space) orphaned(ctx context.Context) error {
	names, err := s.orphans(ctx)
	if err != nil || len(names) == 0 {
		return nil // a daemon that does not answer has left already; one that refuses says so again
	}
	return &lvmlock.Error{
		Op: "leave", What: s.name.String(), Result: lvmwire.Busy,
		Err: fmt.Errorf("%d leases of an earlier lvmlockd are held; adopt them first", len(names)),
	}
}

// orphans returns the names of the leases that an earlier life of this host holds.
func (s *space) orphans(ctx context.Context) (names []string, err error) {
	err = s.m.ask(ctx, func(c *client.Conn) error {
		return c.Status(ctx, sanlockwire.StatusAll, func(st sanlockwire.State) error {
			list, _ := sanlockwire.Word(st.Text, "list")
			if st.Type == sanlockwire.StateResource && st.Resource.Space.Equal(s.name) && list == "orphan" {
				names = append(names, st.Resource.Name.String())
			}
			return nil
		})
	})
	return names, err
}

func (s *space) setLeaving(leaving bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = leaving
}

// giveBack releases what we hold. With free the VG's own leases get a name that nobody asks for, so that a
// host that still knows the VG cannot lock it. The caller has turn.
func (s *space) giveBack(free bool) {
	s.mu.Lock()
	held := s.held
	s.held = map[string]lvmwire.Mode{}
	s.mu.Unlock()
	if len(held) == 0 {
		return
	}
	ctx := context.Background() // whoever asked: what is held must be known
	if free {
		for _, name := range []string{globalName, groupName} {
			if held[name] != lvmwire.EX {
				continue
			}
			old := sanlockwire.Resource{Space: s.name, Name: leases.NameOf(name)}
			renamed := sanlockwire.Resource{Space: s.name, Name: leases.NameOf(removedName)}
			if _, err := s.hold.Release(ctx, client.Self, sanlockwire.ReleaseRename, old, renamed); err != nil {
				s.m.cfg.Log.Warn().Err(err).Stringer("space", s.name).Str("name", name).Msg("make a lease invalid")
			}
		}
	}
	if _, err := s.hold.Release(ctx, client.Self, sanlockwire.ReleaseAll); err != nil {
		s.m.cfg.Log.Warn().Err(err).Stringer("space", s.name).Msg("release all leases")
	}
}

// remove takes the lockspace from the daemon. Releases that are still under way are waited for. A daemon that
// does not know it, or has died, has left it.
func (s *space) remove(ctx context.Context) error {
	deadline := time.Now().Add(busyLimit)
	for {
		err := s.m.ask(ctx, func(c *client.Conn) error {
			return c.RemLockspace(ctx, s.space(), sanlockwire.RemoveIdle)
		})
		if ctx.Err() != nil {
			return err
		}
		_, answered := said(err)
		switch k := kindOf(err); {
		case err == nil, !answered, k == leases.NotFound:
			return nil
		case k == leases.InProgress:
			if err := s.inquire(ctx); err != nil && kindOf(err) != leases.NotFound {
				return err
			}
			return nil
		case k != leases.Busy || time.Now().After(deadline):
			return err
		}
		if err := pause(ctx, retryPause); err != nil {
			return err
		}
	}
}

// erase makes the lock LV of a VG that is being removed one that no lockspace is on. What cannot be written
// is only noted: the VG is gone.
func (s *space) erase(ctx context.Context) {
	err := s.m.ask(ctx, func(c *client.Conn) error {
		for _, slot := range []int64{globalSlot, groupSlot} {
			r := sanlockwire.Resource{Disks: disk(s.path, s.lay.at(slot))}
			found, err := c.ReadResource(ctx, r)
			if err == nil && found.Name.String() == removedName {
				continue
			}
			if err := c.WriteResource(ctx, s.resource(removedName, s.lay.at(slot)), 0, 0, 0); err != nil {
				return err
			}
		}
		unused := sanlockwire.Lockspace{
			Name: leases.NameOf(freeName), Flags: s.lay.flags(), Disk: sanlockwire.Disk{Path: s.path},
		}
		return c.WriteLockspace(ctx, unused, 0, s.m.cfg.IOTimeout)
	})
	if err != nil {
		s.m.cfg.Log.Warn().Err(err).Stringer("space", s.name).Msg("erase the lockspace of a removed VG")
	}
}

// resource is how requests name the lease at an offset.
func (s *space) resource(name string, offset int64) sanlockwire.Resource {
	return sanlockwire.Resource{
		Space: s.name, Name: leases.NameOf(name), Flags: s.lay.flags(), Disks: disk(s.path, offset),
	}
}

// slotName reads whose lease is in a slot, counted in units of the align size.
func (s *space) slotName(ctx context.Context, slot int64) (string, error) {
	var name string
	err := s.m.ask(ctx, func(c *client.Conn) error {
		r := sanlockwire.Resource{Space: s.name, Disks: disk(s.path, s.lay.at(slot))}
		found, err := c.ReadResource(ctx, r)
		name = found.Name.String()
		return err
	})
	return name, err
}
