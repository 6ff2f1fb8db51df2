package paxos

import "testing"

// board is a set of disks in memory for tests that need no interleaving.
type board struct {
	disks []View
}

func newBoard(disks, hosts int) *board {
	b := &board{disks: make([]View, disks)}
	for d := range b.disks {
		b.disks[d].Blocks = make([]Block, hosts)
	}
	return b
}

type machine interface {
	Next() Action
	SetTime(uint64)
	Saw(int, View, error)
	Wrote(int, error)
}

// drive runs a machine to its end; every owner is what verdict says.
func (b *board) drive(t *testing.T, m machine, host uint64, verdict Verdict) error {
	t.Helper()
	for range 1000 {
		m.SetTime(100)
		a := m.Next()
		switch a.Do {
		case Done:
			return a.Err
		case Ask:
			m.(*Claim).Answered(verdict)
			continue
		case Pause:
			m.(*Claim).Resumed()
			continue
		}
		for d := range b.disks {
			b.do(m, a, d, host)
		}
	}
	t.Fatal("no end")
	return nil
}

func (b *board) do(m machine, a Action, d int, host uint64) {
	v := &b.disks[d]
	switch a.Do {
	case Look:
		m.Saw(d, View{Record: v.Record, Blocks: append([]Block(nil), v.Blocks...)}, nil)
	case ReadLeader:
		m.Saw(d, View{Record: v.Record}, nil)
	case WriteBlock:
		v.Blocks[host-1] = a.Block
		m.Wrote(d, nil)
	case WriteLeader:
		v.Record = a.Record
		m.Wrote(d, nil)
	}
}

func TestTakeAndGiveBack(t *testing.T) {
	for disks := 1; disks <= MaxDisks; disks++ {
		b := newBoard(disks, 3)
		for round := uint64(1); round < 4; round++ {
			for host := uint64(1); host <= 3; host++ {
				self := Proposal{Host: host, Generation: 1}
				c := NewClaim(ClaimConfig{Self: self, MaxHosts: 3, Disks: disks})
				if err := b.drive(t, c, host, Alive); err != nil {
					t.Fatalf("%d disks, host %d: %v", disks, host, err)
				}
				want := (round-1)*3 + host
				if c.Round() != want || c.Exposed() || !c.Record().Owner.SameOwner(self) {
					t.Fatalf("round %d, want %d; %+v", c.Round(), want, c.Record())
				}
				r := NewRetire(RetireConfig{Self: self, Round: want, Block: c.Block(), Disks: disks, Strict: true})
				if err := b.drive(t, r, host, Alive); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
