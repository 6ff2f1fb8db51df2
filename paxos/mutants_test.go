package paxos

import (
	"testing"
	"time"
)

// staleLeader is a lease whose version 1 is over, with a host that crashed while it committed version 1 for
// the owner: at any time from now on its write may put the old record back.
func staleLeader(w *world) {
	one := Proposal{Host: 1, Generation: 1, Timestamp: 7}
	free := one
	free.Timestamp = 0
	w.disks[0].record = Record{Round: 1, Owner: free, Writer: 1, WriterGen: 1, WrittenAt: 7}
	w.disks[0].blocks[0] = Block{Mbal: 1, Bal: 1, Input: one, Round: 1, Released: true}
	w.disks[0].blocks[2] = Block{Mbal: 3, Bal: 3, Input: one, Round: 1}
	w.decided[1] = free
	w.hosts[2].mode = crashed
	w.hosts[2].late[0].leader = true
	w.hosts[2].late[0].r = Record{Round: 1, Owner: one, Writer: 3, WriterGen: 1, WrittenAt: 7}
}

// heldOverStale is staleLeader after host 1 has won version 2.
func heldOverStale(w *world) {
	staleLeader(w)
	one := Proposal{Host: 1, Generation: 1, Timestamp: 7}
	block := Block{Mbal: 4, Bal: 4, Input: one, Round: 2}
	w.disks[0].record = Record{Round: 2, Owner: one, Writer: 1, WriterGen: 1, WrittenAt: 7}
	w.disks[0].blocks[0] = block
	w.decided[2] = w.decided[1]
	w.hosts[0].mode, w.hosts[0].believes = holding, true
	w.hosts[0].job = RetireConfig{Self: w.decided[1], Round: 2, Block: block, Disks: 1}
}

// broken says which model notices that a rule is broken. Some rules stand behind one another: only with the
// first one broken too does breaking the second one show.
type broken struct {
	rule  string
	model model
}

// ballotMutants are about one round.
func ballotMutants() []broken {
	two := limits{claims: [3]int8{1, 1}}
	return []broken{
		{
			"a larger mbal in phase 2 stops the ballot",
			model{hosts: 2, disks: 1, mutant: deafInPhase2, limits: two},
		},
		{
			"a value seen in phase 1 is taken over",
			model{hosts: 2, disks: 1, mutant: noAdoption, limits: two},
		},
		{
			"half of the disks is no majority",
			model{
				hosts: 2, disks: 2, mutant: minority, limits: limits{claims: [3]int8{1, 1}, losses: 1},
				setup: func(w *world) { w.disks[1].lost = true },
			},
		},
		{
			"a value of an older generation of ours is not ours",
			model{
				hosts: 2, disks: 1, tries: 2, mutant: anyGeneration,
				limits: limits{claims: [3]int8{2, 1}, crashes: 1, joins: 1},
			},
		},
		{
			"phase 1 keeps our own vote",
			model{
				hosts: 2, disks: 1, mutant: forgetVote,
				limits: limits{claims: [3]int8{2, 2}, crashes: 1, joins: 1},
			},
		},
		{
			"phase 2 ends with a read",
			model{hosts: 2, disks: 1, mutant: commitUnread, limits: two},
		},
		{
			"a disk with a bad block does not count",
			model{hosts: 2, disks: 1, mutant: skipBad, limits: limits{claims: [3]int8{1, 1}, rot: 1}},
		},
		{
			"no two hosts share a ballot number",
			model{hosts: 2, disks: 1, mutant: commonNumbers, limits: two},
		},
	}
}

// ownerMutants are about who owns the lease, and about giving it back.
func ownerMutants() []broken {
	two := limits{claims: [3]int8{1, 1}}
	return []broken{
		{
			"a live owner whose record another host wrote must be marked released",
			model{hosts: 2, disks: 1, mutant: trustWriter, limits: two},
		},
		{
			"a live owner keeps the lease",
			model{hosts: 2, disks: 1, mutant: takeFromLiving, limits: two},
		},
		{
			"a release frees only its own record",
			model{hosts: 3, disks: 1, mutant: freeAnyRecord, limits: limits{claims: [3]int8{1, 2, 1}}},
		},
		{
			"a withdrawn proposal cannot win (stale leader)",
			model{
				hosts: 3, disks: 1, tries: 1, mutant: reuseWithdrawn, setup: staleLeader,
				limits: limits{claims: [3]int8{2, 1}, faults: 1},
			},
		},
		{
			"a withdrawn proposal cannot win (leader and mark not looked at again)",
			model{
				hosts: 2, disks: 1, mutant: reuseWithdrawn | deafToRecord | dropRecheck,
				limits: limits{claims: [3]int8{2, 1}, faults: 1},
			},
		},
		{
			"the leader is freed only under a released mark",
			model{
				hosts: 3, disks: 1, tries: 1, mutant: freeUnmarked | dropRecheck, setup: heldOverStale,
				limits: limits{claims: [3]int8{1, 1}, faults: 1},
			},
		},
		{
			"a write does not overtake an earlier one of the same sector",
			model{
				hosts: 2, disks: 1, tries: 2, hasty: true, unordered: true,
				limits: limits{claims: [3]int8{2, 1}, lates: 1},
			},
		},
	}
}

func TestMutants(t *testing.T) {
	for _, b := range append(ballotMutants(), ownerMutants()...) {
		t.Run(b.rule, func(t *testing.T) {
			m := b.model
			m.name = b.rule
			if m.tries == 0 {
				m.tries = 3
			}
			begin := time.Now()
			x := explore(&m, 1e6)
			t.Logf("%d states, %.1f s", len(x.seen), time.Since(begin).Seconds())
			if x.wrong == "" {
				t.Fatalf("broken rule not noticed: %s", b.rule)
			}
			t.Logf("%s", m.tell(shrink(&m, x.path)))
		})
	}
}
