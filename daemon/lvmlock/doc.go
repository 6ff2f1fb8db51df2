// Package lvmlock turns LVM's lock requests into calls on a lock manager.
//
// The Engine knows lockspaces, resources and who holds what on this host; a LockManager knows the other hosts.
// Nothing
// here knows sockets or which lock managers there are. Source: spec lvmlockd 3.
package lvmlock
