// Package dlm keeps LVM's locks in the kernel's distributed lock manager.
//
// A lockspace of the kernel is a misc character device: requests are written to it, and how they ended is read from it.
// Every resource is a lock in mode NL that is converted up and down and never queues behind other hosts. What is held is
// persistent: it survives this process as an orphan, which its next life can adopt. Who is a member is decided by
// dlm_controld, for which the kernel waits when a lockspace is created or removed.
// Source: spec lvmlockd 5.
package dlm
