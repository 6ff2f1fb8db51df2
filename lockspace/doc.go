// Package lockspace keeps this host a member and tells which other hosts are alive.
//
// A Space renews its delta lease in one goroutine and judges its own expiry in another, which does no I/O and
// writes no log, so that nothing that hangs can delay the news that the lease is lost. Once lost it is never
// held again.
package lockspace
