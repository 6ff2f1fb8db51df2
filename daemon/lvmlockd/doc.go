// Package lvmlockd is LVM's lock daemon: the socket that LVM commands talk to, and the files that tell of it.
//
// A Server reads requests and writes what a lvmlock.Engine answers; Run adds what makes a process a daemon. What a lock
// is, and who may have it, is decided elsewhere. Source: spec lvmlockd 1, 3.9-3.13.
package lvmlockd
