package fake

import (
	"slices"
	"sync"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// remoteHost stands for another host that SetRemote invents.
const remoteHost = 1 << 20

// The slots of LVs begin behind those of the lockspace, the GL and the VG.
const (
	slotFirst = 67 << 20
	slotSize  = 1 << 20
)

// cluster is what its hosts agree about.
type cluster struct {
	mu    sync.Mutex
	areas map[string]*area // by the name of the lockspace
	lvs   int64            // slots given so far
}

// area is one lockspace as all hosts see it.
type area struct {
	members     map[uint64]*space // whose daemon joined it; one that restarted is no longer this one
	generations map[uint64]uint64 // by host, how often it joined
	resources   map[string]*resource
	slots       map[string]int64 // by the UUID of an LV
	enabled     bool             // the global lock is here
	decided     bool             // whether it is was said by InitVG or SetGlobal
}

// resource is one lock.
type resource struct {
	holders map[uint64]holder // by host
	value   lvmlock.Value
}

// holder is a host's lock. One whose space is not the daemon's own any more is an orphan.
type holder struct {
	mode lvmwire.Mode
	by   *space
}

func newCluster() *cluster { return &cluster{areas: map[string]*area{}} }

func newArea() *area {
	return &area{
		members: map[uint64]*space{}, generations: map[uint64]uint64{}, resources: map[string]*resource{},
		slots: map[string]int64{},
	}
}

// area returns a lockspace, made when it is first named. c.mu is held, here and below.
func (c *cluster) area(name string) *area {
	if c.areas[name] == nil {
		c.areas[name] = newArea()
	}
	return c.areas[name]
}

// joined are the lockspaces that a host is a member of.
func (c *cluster) joined(host uint64) []string {
	var names []string
	for name, a := range c.areas {
		if a.members[host] != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// anyEnabled says that some joined lockspace has the global lock.
func (c *cluster) anyEnabled() bool {
	for _, a := range c.areas {
		if a.enabled && len(a.members) > 0 {
			return true
		}
	}
	return false
}

func (c *cluster) nextSlot() int64 {
	c.lvs++
	return slotFirst + (c.lvs-1)*slotSize
}

func (a *area) resource(name string) *resource {
	if a.resources[name] == nil {
		a.resources[name] = &resource{holders: map[uint64]holder{}}
	}
	return a.resources[name]
}

// conflict returns another host whose lock does not allow this mode.
func (r *resource) conflict(host uint64, mode lvmwire.Mode) (other uint64, found bool) {
	for id, h := range r.holders {
		if id != host && (h.mode == lvmwire.EX || mode == lvmwire.EX) && (!found || id < other) {
			other, found = id, true
		}
	}
	return other, found
}

// orphans says that a host has locks here that a daemon of earlier left.
func (a *area) orphans(host uint64, daemon *space) bool {
	for _, r := range a.resources {
		if h, ok := r.holders[host]; ok && h.by != daemon {
			return true
		}
	}
	return false
}

// drop takes away a host's locks: all of them, or those of one daemon only.
func (a *area) drop(host uint64, only *space) {
	for _, r := range a.resources {
		if h, ok := r.holders[host]; ok && (only == nil || h.by == only) {
			delete(r.holders, host)
		}
	}
}
