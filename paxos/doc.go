// Package paxos decides a Disk Paxos ballot from what disks were reported to hold; it never touches one.
//
// It follows Gafni and Lamport, "Disk Paxos" (2003), in the variant of sanlock (spec ondisk 4): each lease
// version is one instance (here: round), the value decided is the next owner, and a leader record publishes
// the result. Three machines share one shape, Next tells what is owed and the caller reports what came of it:
//
//   - Ballot runs the two phases of one ballot.
//   - Claim takes a lease: it looks, judges the present owner, runs ballots, commits.
//   - Retire gives a lease back, or withdraws a proposal that others may still commit.
//
// The package has no clock, no I/O, no logger, no randomness and no goroutine. Why it never grants a lease
// twice is argued in PROOF.md and walked through by the explorer in explore_test.go.
package paxos
