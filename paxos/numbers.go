package paxos

import "math"

// MaxDisks is the greatest number of disks a lease can lie on (spec ondisk 4.14).
const MaxDisks = 4

// Majority returns how many of n disks make a majority. Half is none: two halves need not meet.
func Majority(n int) int { return n/2 + 1 }

// NextMbal returns the smallest ballot number that host may use and that is greater than seen. The numbers
// of a host are those congruent to it modulo maxHosts, so no two hosts ever share one (spec ondisk 4.1).
// It reports false if there is none: host is not in 1..maxHosts, or the numbers have run out.
//
// Unlike stock, which adds maxHosts to its own number however far it is behind, this jumps past everything
// seen, so that an outbid host needs one more ballot and not several (spec ondisk 9.11).
func NextMbal(host, maxHosts, seen uint64) (uint64, bool) {
	if host == 0 || host > maxHosts {
		return 0, false
	}
	if seen < host {
		return host, true
	}
	above := (seen-host)/maxHosts + 1
	if above > (math.MaxUint64-host)/maxHosts {
		return 0, false
	}
	return host + above*maxHosts, true
}
