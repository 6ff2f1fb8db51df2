package lvmlock

import "github.com/tenurelock/tenure/daemon/lvmwire"

// Validity is what the value block, read with a lock, says of copies that were made under an earlier lock of
// the same resource (spec lvmlockd 3.7.4). The zero Validity says that nothing changed.
type Validity struct {
	// Changed says that another host had the resource in EX since.
	Changed bool
	// Since is the first version that is new: a copy of it is as good as what is on the disk. 0 if nobody can
	// say.
	Since uint32
}

// Fresh reports whether a copy, made when the resource had this version, may be used without being read
// again. A version of 0 is a copy of which nobody knows when it was made.
func (v Validity) Fresh(version uint32) bool {
	switch {
	case !v.Changed:
		return true
	case v.Since == 0 || version == 0:
		return false
	default:
		return version >= v.Since
	}
}

// Cache is what this host knows of a resource's version. A program that keeps copies of a VG's metadata under
// its lock needs one per VG; the zero Cache is that of a VG never looked at.
type Cache struct {
	version uint32
	empty   bool // the block was, when last read
}

// Version is the last version that was seen or written.
func (c *Cache) Version() uint32 { return c.version }

// Read takes note of a value block that came with a lock, and tells what it means for copies. An empty block
// vouches for nothing: nobody wrote it yet, or its writer's host died and the lock manager lost it, or there
// are no value blocks at all (2.03.40 with sanlock). Stock calls the second empty one in a row no news, which
// would be wrong there.
func (c *Cache) Read(block Value) Validity {
	if !block.Set || block.Version == 0 {
		c.empty = true
		return Validity{Changed: true}
	}
	known, wasEmpty := c.version, c.empty
	c.version, c.empty = block.Version, false
	switch {
	case wasEmpty && block.Version <= known:
		// Counted anew since the block was lost: the same number is not the same state.
		return Validity{Changed: true}
	case block.Version == known:
		return Validity{}
	case block.Version < known:
		return Validity{Changed: true}
	default:
		return Validity{Changed: true, Since: block.Version}
	}
}

// Wrote takes note of what this host wrote itself when it gave EX up.
func (c *Cache) Wrote(v Value) { c.version, c.empty = v.Version, false }

// hasValue says which resources have a value block: LVs do without.
func hasValue(k lvmwire.Kind) bool { return k == lvmwire.GL || k == lvmwire.VG }

// next is the value to be written when a holder gives EX up, nil if there is none. The global lock counts how
// often that happened; a VG has the number of its metadata, which the holder told with vg_update. 0 is never
// written, as it would read as an empty block (spec lvmlockd 3.7.3).
func (l *Locks) next(h *Holder) *Value {
	if h.Mode != lvmwire.EX {
		return nil
	}
	var n uint32
	switch l.of.Kind {
	case lvmwire.GL:
		n = l.known.version + 1
	case lvmwire.VG:
		if h.Version > l.known.version {
			n = h.Version
		}
	default:
		return nil
	}
	if n == 0 {
		return nil
	}
	return &Value{Version: n, Set: true}
}
