// Package resource takes, converts and gives back a lease that a majority of disks agree on.
//
// It is the shell around paxos.Claim and paxos.Retire: it moves the sectors that the machines ask for,
// translates records, and keeps the two rules that their proof leaves to it. A claim starts only while no
// write of ours to the leader or to our own host block is in flight; and what a failed operation left for
// others to find is withdrawn, after such writes have ended, before anything else is done (Settle).
package resource
