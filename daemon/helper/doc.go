// Package helper runs programs and sends signals from a process that storage cannot stall.
//
// The process is a second start of our own binary, under the name of stock's helper. It opens nothing, reads
// nothing but orders, and has its memory locked where that is allowed, so it can stop the users of a lease
// when the disk that the daemon's own pages come from is the one that hangs.
//
// Nothing depends on it. An order that it does not confirm in time, because it is dead, stopped or behind, is
// carried out by the daemon itself; an order that it reads too late it refuses, so that none is carried out
// twice, or on a process that came later. It is not started again when it dies, as in stock: the moment at
// which it dies is likely one at which memory is short, and all that it does the daemon can do as well.
package helper
