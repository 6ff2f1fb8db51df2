// Package delta claims, renews and frees a host's own sector in a lockspace.
//
// The algorithm is that of Chockler and Malkhi, "Light-Weight Leases for Storage-Centric Coordination": write
// the claim, wait as long as another claimant may need to be seen, read whether it still stands. Every
// renewal reads before it writes, so that a sector taken over by somebody else is found and never overwritten
// (spec ondisk 3).
package delta
