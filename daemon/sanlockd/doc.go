// Package sanlockd serves leases to local processes, and stops the processes before their leases expire.
//
// It is the sanlock daemon: the stock socket protocol on top of lockspaces and resource leases. Two promises
// shape it. A client is told that it holds a lease only under the same lock that decides whom to stop when a
// lockspace is lost, so that nobody who holds one can be missed. And nothing that one client does, or leaves
// half done, delays another: each connection has goroutines of its own, and no lock is held across a
// transfer.
package sanlockd
