package native

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// The places in a lock LV, in units of the align size (spec lvmlockd 4.2). The lockspace is at 0; what lies
// between is not used.
const (
	globalSlot  = 65
	groupSlot   = 66
	firstLVSlot = 67
)

// The names of resources that mean something (spec lvmlockd 4.1.5).
const (
	globalName   = "GLLK"
	disabledName = "_GLLK_disabled"
	groupName    = "VGLK"
	freeName     = "#unused"
	removedName  = "invalid_removed"
)

// spacePrefix begins the name of each lockspace of LVM's.
const spacePrefix = "lvm_"

const mib = 1 << 20

// maxHosts is how many hosts sanlock knows at most.
const maxHosts = 2000

// layout is how large sectors and leases are on a lock LV, in bytes.
type layout struct{ sector, align int64 }

// sizes lists each possible layout with the flags that name it, and how many hosts it has room for.
var sizes = []struct {
	layout
	flags    uint32
	maxHosts uint64
}{
	{layout{512, 1 * mib}, sanlockwire.Sector512 | sanlockwire.Align1M, maxHosts},
	{layout{4096, 1 * mib}, sanlockwire.Sector4K | sanlockwire.Align1M, 250},
	{layout{4096, 2 * mib}, sanlockwire.Sector4K | sanlockwire.Align2M, 500},
	{layout{4096, 4 * mib}, sanlockwire.Sector4K | sanlockwire.Align4M, 1000},
	{layout{4096, 8 * mib}, sanlockwire.Sector4K | sanlockwire.Align8M, maxHosts},
}

// flags are those of resources and lockspaces.
func (l layout) flags() uint32 {
	for _, s := range sizes {
		if s.layout == l {
			return s.flags
		}
	}
	return 0
}

// maxHosts is the highest host id that has a place.
func (l layout) maxHosts() uint64 {
	for _, s := range sizes {
		if s.layout == l {
			return s.maxHosts
		}
	}
	return 0
}

// hasValues reports whether a lease has room for a value block behind the places of 2000 hosts. In a smaller one the
// block would lie in another lease.
func (l layout) hasValues() bool { return l.maxHosts() == maxHosts }

// at is where a slot begins, in bytes.
func (l layout) at(slot int64) int64 { return slot * l.align }

// layoutOf finds the layout that flags name.
func layoutOf(flags uint32) (layout, bool) {
	for _, s := range sizes {
		if s.flags == flags&(sanlockwire.SectorMask|sanlockwire.AlignMask) {
			return s.layout, true
		}
	}
	return layout{}, false
}

// choose is the layout for a new lock LV on a device with sectors of the given size; alignMB is the user's
// wish, 0 none.
func choose(sector, alignMB int64) (layout, error) {
	l := layout{sector, alignMB * mib}
	switch {
	case sector == 512:
		l.align = mib // there is no other
	case alignMB == 0:
		l.align = 8 * mib
	}
	if l.flags() == 0 {
		return l, fmt.Errorf("leases of %d MiB with sectors of %d bytes; 1, 2, 4 and 8 are possible with 4096, 1 with 512",
			alignMB, sector)
	}
	return l, nil
}

// spaceName is the name of a VG's lockspace. sanlock cuts it after 48 bytes.
func spaceName(vg string) leases.Name { return leases.NameOf(spacePrefix + vg) }

// deviceName is what device-mapper calls an LV: a dash in a name is doubled.
func deviceName(vg, lv string) string {
	return strings.ReplaceAll(vg, "-", "--") + "-" + strings.ReplaceAll(lv, "-", "--")
}

// Versions of the arguments that are understood, and the one that is written (spec lvmlockd 4.3).
const (
	maxGroupMajor = 2
	maxLVMajor    = 1
	argsVersion   = "1.0.0"
	maxArgs       = 64 // bytes, in requests and in LVM's metadata
)

// parseArgs splits "1.0.0:lvmlock" or "1.0.0:70254592" behind the version, whose major may be at most the
// given one. What follows after one more colon (notimeout, persist) asks for more than leases of time do: hosts
// that rely on it have no watchdog, or take leases as soon as they have fenced somebody. A host that passed it
// over would hold a lease beside them.
func parseArgs(args string, maxMajor int) (string, error) {
	version, rest, ok := strings.Cut(args, ":")
	parts := strings.Split(version, ".")
	if !ok || len(parts) != 3 || rest == "" {
		return "", fmt.Errorf("lock args %q are not VERSION:VALUE", args)
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || i == 0 && n > uint64(maxMajor) {
			return "", fmt.Errorf("lock args %q: version %s is not understood; up to %d is", args, version, maxMajor)
		}
	}
	value, more, found := strings.Cut(rest, ":")
	if found {
		return "", fmt.Errorf("lock args %q: %q needs a newer sanlock than 3.8", args, more)
	}
	return value, nil
}

// lvArgs are the arguments of an LV whose lease is at an offset.
func lvArgs(offset int64) string { return fmt.Sprintf("%s:%d", argsVersion, offset) }

// offsetOf is where the arguments of an LV say that its lease is, which must be a slot for LVs.
func (l layout) offsetOf(args string) (int64, error) {
	value, err := parseArgs(args, maxLVMajor)
	if err != nil {
		return 0, err
	}
	offset, err := strconv.ParseInt(value, 10, 64)
	if err != nil || offset < l.at(firstLVSlot) || offset%l.align != 0 {
		return 0, fmt.Errorf("lock args %q: no lease of an LV can be at %s; the first is at %d, one each %d bytes",
			args, value, l.at(firstLVSlot), l.align)
	}
	return offset, nil
}

// offset is where the lease of a resource is.
func (l layout) offset(r lvmlock.Resource) (int64, error) {
	switch r.Kind {
	case lvmwire.GL:
		return l.at(globalSlot), nil
	case lvmwire.VG:
		return l.at(groupSlot), nil
	case lvmwire.LV:
		return l.offsetOf(r.Args)
	default:
		return 0, fmt.Errorf("%q is no global, VG or LV lock", r.Name)
	}
}
