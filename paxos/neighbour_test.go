package paxos

import "testing"

// A stock host beside ours: what stays safe, and which of its holes reach us (PROOF.md, "Stock neighbours").

func TestStockNeighbour(t *testing.T) {
	c := func(a, b, c int8) [worldHosts]int8 { return [worldHosts]int8{a, b, c} }
	one, two := [worldHosts]bool{true}, [worldHosts]bool{true, true}
	for _, m := range []model{
		{name: "race", tries: 3, stock: one, limits: limits{claims: c(1, 1, 0)}},
		{
			name: "stock crashes and stays away", tries: 2, stock: one,
			limits: limits{claims: c(2, 1, 0), crashes: 1},
		},
		{
			name: "a crash, generation checked", tries: 2, stock: one, genCheck: true,
			limits: limits{claims: c(2, 1, 0), crashes: 1, joins: 1},
		},
		{
			name: "a failed transfer of ours", tries: 2, stock: one, steady: true,
			limits: limits{claims: c(1, 2, 0), faults: 1},
		},
		{name: "two stock hosts", hosts: 3, tries: 1, stock: two, limits: limits{claims: c(1, 1, 1)}},
	} {
		t.Run(m.name, func(t *testing.T) {
			if !deep() && m.hosts == 3 {
				t.Skip("too long: TENURE_EXPLORE=deep walks it")
			}
			m.disks, m.hosts = 1, max(m.hosts, 2)
			survive(t, m, 2e6)
		})
	}
}

// TestStockOnSeveralDisks: a lease on two and on three disks.
func TestStockOnSeveralDisks(t *testing.T) {
	c := func(a, b, c int8) [worldHosts]int8 { return [worldHosts]int8{a, b, c} }
	for _, s := range []struct {
		model
		long bool // too long for every run
	}{
		{model: model{name: "race on 2", disks: 2, limits: limits{claims: c(1, 1, 0)}}},
		{model: model{name: "race on 2, stock twice", disks: 2, limits: limits{claims: c(2, 1, 0)}}},
		{model: model{name: "failed transfer on 2", disks: 2, limits: limits{claims: c(1, 1, 0), faults: 1}}},
		{model: model{name: "crash on 2", disks: 2, limits: limits{claims: c(1, 1, 0), crashes: 1}}},
		{model: model{name: "race on 3", disks: 3, limits: limits{claims: c(1, 1, 0)}}},
		{model{name: "race on 2, 2 tries", disks: 2, tries: 2, limits: limits{claims: c(1, 1, 0)}}, true},
		{model{name: "lost disk of 2", disks: 2, limits: limits{claims: c(1, 1, 0), losses: 1}}, true},
		{model{name: "crash on 3", disks: 3, limits: limits{claims: c(1, 1, 0), crashes: 1}}, true},
		{model{name: "failed transfer on 3", disks: 3, limits: limits{claims: c(1, 1, 0), faults: 1}}, true},
	} {
		t.Run(s.name, func(t *testing.T) {
			if s.long && !deep() {
				t.Skip("too long: TENURE_EXPLORE=deep walks it")
			}
			s.hosts, s.tries, s.stock = 2, max(s.tries, 1), [worldHosts]bool{true}
			survive(t, s.model, 2e6)
		})
	}
}

// TestStockOnSeveralDisksSees: a host of ours that breaks a rule is caught beside a stock host on three disks.
func TestStockOnSeveralDisksSees(t *testing.T) {
	for name, broken := range map[string]mutant{
		"deaf in phase 2": deafInPhase2, "no adoption": noAdoption, "take from the living": takeFromLiving,
	} {
		t.Run(name, func(t *testing.T) {
			m := model{
				hosts: 2, disks: 3, tries: 1, stock: [worldHosts]bool{true}, mutant: broken,
				limits: limits{claims: [worldHosts]int8{1, 1}},
			}
			x := explore(&m, 2e6)
			if x.wrong == "" {
				t.Fatalf("not caught in %d states", len(x.seen))
			}
			t.Logf("%d states: %s", len(x.seen), x.wrong)
		})
	}
}

// TestStockHoles keeps PROOF.md honest: these holes are real, and if one of them closes the text is wrong.
func TestStockHoles(t *testing.T) {
	c := func(a, b, c int8) [worldHosts]int8 { return [worldHosts]int8{a, b, c} }
	one := [worldHosts]bool{true}
	for _, m := range []model{
		{
			name: "stock takes an older generation's value for its own", hosts: 2, stock: one,
			limits: limits{claims: c(2, 1, 0), crashes: 1, joins: 1},
		},
		{
			name: "stock retracts, tries again and is named by a record written meanwhile", hosts: 2, stock: one,
			genCheck: true, limits: limits{claims: c(2, 1, 0), faults: 1},
		},
		{
			name: "stock wins a round again that it gave up, from a stale leader", hosts: 3, stock: one,
			genCheck: true, setup: staleLeader, limits: limits{claims: c(2, 1, 0)},
		},
	} {
		t.Run(m.name, func(t *testing.T) {
			m.disks, m.tries = 1, 2
			x := explore(&m, 2e6)
			if x.wrong == "" {
				t.Fatalf("closed after %d states: say so in PROOF.md", len(x.seen))
			}
			t.Logf("%d states\n%s", len(x.seen), m.tell(shrink(&m, x.path)))
		})
	}
}
