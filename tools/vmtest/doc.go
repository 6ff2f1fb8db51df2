// Package vmtest loses hosts in virtual machines, while a program on them holds a lease, and measures when what
// they had is over: the only tests with a real watchdog that really resets a host.
//
// Everything in it is a test; make vmtest runs them. Each scenario prints its timeline, in seconds from the
// fault, and asserts the margins that the leases promise. make vmlvm runs those with LVM or DLM in their name, which
// let Debian's LVM commands work on two hosts with our lvmlockd or Debian's; make vmtest plays one of each of them too.
package vmtest
