package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// InitVG formats a lock LV: the lockspace, the leases of the global lock and of the VG, and one free lease in
// every slot that is left. vg.Args is the lock LV's name (spec lvmlockd 4.4).
func (m *Manager) InitVG(ctx context.Context, vg lvmlock.VG, o lvmlock.InitOptions) (string, error) {
	name := spaceName(vg.Name)
	fail := func(r lvmwire.Result, err error) (string, error) {
		return "", &lvmlock.Error{Op: "init", What: name.String(), Result: r, Err: err}
	}
	args := argsVersion + ":" + vg.Args
	switch {
	case m.claimed(name):
		return fail(lvmwire.Exists, errors.New("a lockspace of this name is in use"))
	case vg.Args == "":
		return fail(lvmwire.BadArgs, errors.New("no lock LV is named"))
	case o.SetArgs != "":
		return fail(lvmwire.BadArgs, fmt.Errorf("setlockargs %q need a newer sanlock than 3.8", o.SetArgs))
	case len(args) > maxArgs:
		return fail(lvmwire.BadRequest, fmt.Errorf("lock args %q are longer than %d bytes", args, maxArgs))
	}
	if err := fitsKillpath(vg.Name); err != nil {
		return fail(lvmwire.BadArgs, err)
	}
	if err := m.Running(ctx); err != nil {
		return "", err
	}
	f := formatter{m: m, name: name, path: m.device(vg.Name, vg.Args)}
	err := m.awaitDevice(ctx, f.path)
	if err == nil {
		f.lay, err = layoutFor(f.path, o.AlignMB)
	}
	if err != nil {
		return fail(lvmwire.BadArgs, err)
	}
	size, err := sizeOf(f.path)
	if err != nil {
		return fail(lvmwire.DeviceOpen, err)
	}
	if least := f.lay.at(firstLVSlot); size < least {
		return fail(lvmwire.TooLong, fmt.Errorf("%s has %d bytes; leases of this size take %d at least", f.path, size, least))
	}
	global := disabledName
	if o.Global {
		global = globalName
	}
	if err := f.format(ctx, global); err != nil {
		return "", diskError("init", name.String(), err)
	}
	return args, nil
}

// formatter writes a whole lock LV.
type formatter struct {
	m    *Manager
	name leases.Name // of the lockspace
	path string
	lay  layout
}

// format writes everything, the slots of LVs free.
func (f formatter) format(ctx context.Context, global string) error {
	err := f.m.ask(ctx, func(c *client.Conn) error {
		if err := f.lockspace(ctx, c); err != nil {
			return err
		}
		if err := f.lease(ctx, c, global, f.lay.at(globalSlot)); err != nil {
			return err
		}
		return f.lease(ctx, c, groupName, f.lay.at(groupSlot))
	})
	if err != nil {
		return err
	}
	return f.m.eachSlot(ctx, f.path, f.lay.at(firstLVSlot), f.lay.align, func(c *client.Conn, offset int64) error {
		return f.lease(ctx, c, freeName, offset)
	})
}

func (f formatter) lockspace(ctx context.Context, c *client.Conn) error {
	l := sanlockwire.Lockspace{Name: f.name, Flags: f.lay.flags(), Disk: sanlockwire.Disk{Path: f.path}}
	return c.WriteLockspace(ctx, l, 0, f.m.cfg.IOTimeout)
}

func (f formatter) lease(ctx context.Context, c *client.Conn, name string, offset int64) error {
	r := sanlockwire.Resource{
		Space: f.name, Name: leases.NameOf(name), Flags: f.lay.flags(), Disks: disk(f.path, offset),
	}
	return c.WriteResource(ctx, r, 0, 0, 0)
}

// sizeOf is the size in bytes of a device or file, as it is now: others make it larger.
func sizeOf(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	return size, nil
}

// beyondEnd reports whether an answer means that the device ends before the slot does.
func beyondEnd(err error) bool {
	k := kindOf(err)
	return k == leases.ShortTransfer || k == leases.NoSpace
}

// eachSlot calls f for each slot from an offset up to the end of the device, over a few connections side by
// side. It goes on after errors, unless the storage is at fault, and returns the first.
func (m *Manager) eachSlot(
	ctx context.Context, path string, from, step int64, f func(c *client.Conn, offset int64) error,
) error {
	size, err := sizeOf(path)
	if err != nil {
		return err
	}
	var next atomic.Int64
	var end atomic.Bool
	var workers sync.WaitGroup
	found := make([]error, formatters)
	for i := range formatters {
		workers.Go(func() {
			err := m.ask(ctx, func(c *client.Conn) error {
				for !end.Load() {
					offset := from + (next.Add(1)-1)*step
					if offset+step > size {
						return nil
					}
					err := f(c, offset)
					switch _, answered := said(err); {
					case err == nil:
					case beyondEnd(err):
						end.Store(true)
					case !answered, storage(kindOf(err)):
						return err
					case found[i] == nil:
						found[i] = err
					}
				}
				return nil
			})
			if err != nil {
				end.Store(true)
				found[i] = err
			}
		})
	}
	workers.Wait()
	for _, err := range found {
		if err != nil {
			return err
		}
	}
	return nil
}

// RenameVG writes the new name into every lease of a lock LV whose lockspace nobody has joined, and forgets
// all hosts (spec lvmlockd 4.8). Slots that were never written stay so. One that cannot be written fails the
// call, in the end.
func (m *Manager) RenameVG(ctx context.Context, vg lvmlock.VG) error {
	name := spaceName(vg.Name)
	fail := func(r lvmwire.Result, err error) error {
		return &lvmlock.Error{Op: "rename", What: name.String(), Result: r, Err: err}
	}
	lv, err := parseArgs(vg.Args, maxGroupMajor)
	if err != nil {
		return fail(lvmwire.BadRequest, err)
	}
	if m.claimed(name) {
		return fail(lvmwire.Exists, errors.New("a lockspace of this name is in use"))
	}
	f := formatter{m: m, name: name, path: m.device(vg.Name, lv)}
	if err := m.awaitDevice(ctx, f.path); err != nil {
		return fail(lvmwire.BadArgs, err)
	}
	if f.lay, err = m.readLayout(ctx, leases.Name{}, f.path); err == nil {
		err = m.ask(ctx, func(c *client.Conn) error { return f.lockspace(ctx, c) })
	}
	if err == nil {
		err = m.eachSlot(ctx, f.path, f.lay.at(globalSlot), f.lay.align, func(c *client.Conn, offset int64) error {
			return f.rename(ctx, c, offset)
		})
	}
	if err != nil {
		return diskError("rename", name.String(), err)
	}
	return nil
}

func (f formatter) rename(ctx context.Context, c *client.Conn, offset int64) error {
	found, err := c.ReadResource(ctx, sanlockwire.Resource{Disks: disk(f.path, offset)})
	if kindOf(err) == leases.BadMagic && offset >= f.lay.at(firstLVSlot) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.lease(ctx, c, found.Name.String(), offset)
}
