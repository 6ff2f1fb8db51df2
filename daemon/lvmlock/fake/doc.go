// Package fake is a lock manager that lives in memory: lvmlockd --test runs on it, and tests break it.
//
// Hosts that share one Manager's cluster agree through it as they would through a disk or a network. Where
// the two real lock managers differ it is like the one whose type it has: as Sanlock it has a place for the
// global lock in each VG, slots for LVs and generations; as DLM it has value blocks that are lost with a host
// that dies in EX. Source: spec lvmlockd 3.15, and 4 and 5 for what the real ones answer.
package fake
