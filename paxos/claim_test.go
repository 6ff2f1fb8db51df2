package paxos

import (
	"errors"
	"testing"
)

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

func TestJudge(t *testing.T) {
	two := Proposal{Host: 2, Generation: 3, Timestamp: 9}
	free := Proposal{Host: 2, Generation: 3}
	mine := Proposal{Host: 1, Generation: 4, Timestamp: 9}
	newer := Proposal{Host: 1, Generation: 5, Timestamp: 9}
	for _, c := range []struct {
		name string
		rec  Record
		cfg  ClaimConfig
		says Verdict
		do   Do
		err  error
	}{
		{name: "free", rec: Record{Round: 3, Owner: free}, do: WriteBlock},
		{name: "never owned", do: WriteBlock},
		{name: "own leftover", rec: Record{Round: 3, Owner: mine, Writer: 1, WriterGen: 4}, do: WriteBlock},
		{name: "newer self", rec: Record{Round: 3, Owner: newer, Writer: 1, WriterGen: 5}, do: Ask},
		{name: "alive", rec: Record{Round: 3, Owner: two, Writer: 2}, says: Alive, do: Done, err: ErrHeld},
		{name: "gone", rec: Record{Round: 3, Owner: two, Writer: 2}, says: Gone, do: WriteBlock},
		{name: "silent", rec: Record{Round: 3, Owner: two, Writer: 2}, says: Silent, do: Pause},
		{
			name: "silent, no wait", rec: Record{Round: 3, Owner: two, Writer: 2}, says: Silent,
			cfg: ClaimConfig{NoWait: true}, do: Done, err: ErrOwnerSilent,
		},
		{name: "written by another", rec: Record{Round: 3, Owner: two, Writer: 1}, says: Alive, do: Look},
		{name: "version", rec: Record{Round: 3, Owner: free}, cfg: ClaimConfig{Version: 3}, do: WriteBlock},
		{
			name: "wrong version", rec: Record{Round: 3, Owner: free}, cfg: ClaimConfig{Version: 2},
			do: Done, err: ErrWrongVersion,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Self, c.cfg.Disks, c.cfg.MaxHosts = me, 1, 10
			m := NewClaim(c.cfg)
			m.Saw(0, View{Record: c.rec, Blocks: make([]Block, 3)}, nil)
			if c.says != 0 {
				m.Answered(c.says)
			}
			if a := m.Next(); a.Do != c.do || !errors.Is(a.Err, c.err) {
				t.Errorf("got %+v, want %v %v", a, c.do, c.err)
			}
		})
	}
}

func TestMarkOnMajority(t *testing.T) {
	two := Proposal{Host: 2, Generation: 3, Timestamp: 9}
	rec := Record{Round: 3, Owner: two, Writer: 1}
	marked := Block{Round: 3, Mbal: 2, Bal: 2, Input: two, Released: true}
	held := Block{Round: 3, Mbal: 2, Bal: 2, Input: two}
	for _, c := range []struct {
		name   string
		blocks [3]Block
		want   error
	}{
		{"all", [3]Block{marked, marked, marked}, nil},
		{"two", [3]Block{marked, held, marked}, nil},
		{"one", [3]Block{held, held, marked}, ErrHeld},
		{"stock's zeros", [3]Block{{Released: true}, {Released: true}, held}, nil},
		{"later round", [3]Block{{Round: 4}, {Round: 4}, held}, nil},
		{"older round", [3]Block{{Round: 2, Released: true}, {Round: 2, Released: true}, held}, ErrHeld},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewClaim(ClaimConfig{Self: me, Disks: 3, MaxHosts: 10})
			for range 2 {
				for d := range 3 {
					m.Saw(d, View{Record: rec, Blocks: []Block{{}, c.blocks[d]}}, nil)
				}
				if m.Next().Do == Ask {
					m.Answered(Alive)
				}
			}
			if err := m.Next().Err; !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestResolveLeader(t *testing.T) {
	two, three := Proposal{2, 1, 9}, Proposal{3, 1, 9}
	held := Record{Round: 3, Owner: two, Writer: 2}
	foreign := Record{Round: 3, Owner: two, Writer: 1}
	free := Record{Round: 3, Owner: Proposal{2, 1, 0}, Writer: 2}
	old := Record{Round: 2, Owner: three, Writer: 3}
	other := Record{Round: 3, Owner: three, Writer: 3}
	all := []bool{true, true, true}
	for _, c := range []struct {
		name string
		recs []Record
		ok   []bool
		want Record
		err  error
	}{
		{"agree", []Record{held, held, held}, all, held, nil},
		{"highest round", []Record{old, held, old}, all, held, nil},
		{"free after held", []Record{held, free, held}, all, free, nil},
		{"owner's own record first", []Record{foreign, held, foreign}, all, held, nil},
		{"unread", []Record{held, free, held}, []bool{true, false, true}, held, nil},
		{"half", []Record{held, held}, []bool{true, false}, Record{}, ErrNoRead},
		{"disagree", []Record{held, other, held}, all, Record{}, ErrDisagree},
		{"old disagreement", []Record{old, held, held}, all, held, nil},
	} {
		got, err := ResolveLeader(c.recs, c.ok)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
	}
}

func TestRetireJudges(t *testing.T) {
	held := Record{Round: 3, Owner: me, Writer: 1, WriterGen: 4}
	change := func(f func(*Record)) Record { r := held; f(&r); return r }
	for _, c := range []struct {
		name          string
		rec           Record
		frees         bool
		strict, loose error
	}{
		{"ours", held, true, nil, nil},
		{"freed before", change(func(r *Record) { r.Owner.Timestamp = 0 }), false, nil, nil},
		{"written by another", change(func(r *Record) { r.Writer = 2 }), false, nil, nil},
		{"another's", change(func(r *Record) { r.Owner.Host = 2 }), false, ErrNotOurs, nil},
		{"older self's", change(func(r *Record) { r.Owner.Generation = 3 }), false, ErrNotOurs, nil},
		{"other round", change(func(r *Record) { r.Round = 4 }), false, ErrOldRound, nil},
	} {
		for _, strict := range []bool{true, false} {
			m := NewRetire(RetireConfig{Self: me, Round: 3, Block: vote(3, 11, 11, 1), Disks: 1, Strict: strict})
			if b := m.Next().Block; !b.Released || b.Bal != 11 || b.Shared {
				t.Errorf("%s: block %+v", c.name, b)
			}
			m.Wrote(0, nil)
			m.Saw(0, View{Record: c.rec}, nil)
			want := c.loose
			if strict {
				want = c.strict
			}
			if a := m.Next(); (a.Do == WriteLeader) != c.frees || !errors.Is(a.Err, want) {
				t.Errorf("%s, strict %v: got %+v", c.name, strict, a)
			}
		}
	}
	m := NewRetire(RetireConfig{Self: me, Round: 3, Disks: 1})
	m.Wrote(0, errFault)
	if err := m.Next().Err; !errors.Is(err, ErrNoWrite) {
		t.Errorf("mark not written: got %v, want ErrNoWrite", err)
	}
}

// A leader that is behind sends a claim that looks only at it to a round that is over, again and again.
func TestStaleLeaderDoesNotStop(t *testing.T) {
	for rules, want := range map[mutant]error{0: nil, stayBehind: ErrSuperseded} {
		b := newBoard(1, 3)
		b.disks[0].Record = Record{Round: 4, Owner: Proposal{Host: 3, Generation: 1}, Writer: 3}
		b.disks[0].Blocks[2] = Block{Round: 7, Mbal: 3}
		c := NewClaim(ClaimConfig{Self: me, Disks: 1, MaxHosts: 3, mutant: rules})
		if err := b.drive(t, c, 1, Alive); !errors.Is(err, want) {
			t.Errorf("rules %d: got %v, want %v", rules, err, want)
		}
	}
}
