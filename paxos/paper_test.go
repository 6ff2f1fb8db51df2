package paxos

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What Gafni and Lamport, "Disk Paxos" (Distributed Computing 16, 2003), ask of a processor, sentence by
// sentence, in our words. Phases are theirs.

var me = Proposal{Host: 1, Generation: 4, Timestamp: 7}

func ballotOf(disks int, own Block) *Ballot {
	return NewBallot(BallotConfig{Self: me, Round: 5, Mbal: 31, Disks: disks, Own: own})
}

// wrote reports a write: a disk fails if its place in ok is false.
func wrote(m machine, ok ...bool) {
	for d := range ok {
		var err error
		if !ok[d] {
			err = errFault
		}
		m.Wrote(d, err)
	}
}

func saw(m machine, views ...View) {
	for d, v := range views {
		m.Saw(d, v, nil)
	}
}

func vote(round, mbal, bal, host uint64) Block {
	b := Block{Round: round, Mbal: mbal, Bal: bal}
	if host != 0 {
		b.Input = Proposal{Host: host, Generation: 1, Timestamp: 9}
	}
	return b
}

func blocks(b ...Block) View { return View{Blocks: b} }

// Phases 1, 2: in each a processor first writes its own block and then reads everybody's; no more phases.
func TestPaperWriteThenRead(t *testing.T) {
	b := ballotOf(1, Block{})
	var got []Do
	for b.Next().Do != Done {
		got = append(got, b.Next().Do)
		if b.Next().Do == WriteBlock {
			wrote(b, true)
		} else {
			saw(b, blocks(Block{}))
		}
	}
	if want := []Do{WriteBlock, Look, WriteBlock, Look}; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if b.Value() != me || b.Next().Err != nil {
		t.Errorf("got %v, %v", b.Value(), b.Next().Err)
	}
}

// Phases 1, 2: a phase is complete when write and reads are done on one and the same majority of the disks.
func TestPaperMajorityOfWholeDisks(t *testing.T) {
	b := ballotOf(3, Block{})
	wrote(b, true, true, false)
	b.Saw(0, View{}, errFault)
	b.Saw(1, blocks(Block{}), nil)
	b.Saw(2, blocks(Block{}), nil)
	if err := b.Next().Err; !errors.Is(err, ErrNoRead) || !errors.Is(err, errFault) {
		t.Errorf("written on disks 0, 1 and read from 1, 2: got %v, want ErrNoRead", err)
	}
}

// Phases 1, 2: two majorities meet; two halves need not.
func TestPaperHalfIsNone(t *testing.T) {
	for disks, fail := range map[int]int{1: 1, 2: 1, 3: 2, 4: 2} {
		ok := []bool{true, true, true, true}[:disks]
		ok = append([]bool(nil), ok...)
		for d := range fail {
			ok[d] = false
		}
		b := ballotOf(disks, Block{})
		wrote(b, ok...)
		if err := b.Next().Err; !errors.Is(err, ErrNoWrite) {
			t.Errorf("%d of %d disks: got %v, want ErrNoWrite", disks-fail, disks, err)
		}
	}
}

// Phases 1, 2: a processor that reads a larger mbal gives the ballot up, in either phase.
func TestPaperLargerMbalAborts(t *testing.T) {
	for _, c := range []struct {
		block Block
		want  error
	}{
		{vote(5, 32, 0, 0), ErrOutbid},
		{vote(5, 31, 0, 0), nil},
		{vote(5, 30, 0, 0), nil},
		{vote(4, 99, 0, 0), nil}, // another instance
		{vote(6, 1, 0, 0), ErrSuperseded},
	} {
		one := ballotOf(1, Block{})
		wrote(one, true)
		saw(one, blocks(Block{}, c.block))
		if err := one.Next().Err; !errors.Is(err, c.want) {
			t.Errorf("phase 1 %+v: got %v, want %v", c.block, err, c.want)
		}
		two := ballotOf(1, Block{})
		wrote(two, true)
		saw(two, blocks(Block{}, Block{}))
		wrote(two, true)
		saw(two, blocks(Block{}, c.block))
		if err := two.Next().Err; !errors.Is(err, c.want) {
			t.Errorf("phase 2 %+v: got %v, want %v", c.block, err, c.want)
		}
	}
}

// Phase 1: the value is that of the block with the largest bal among all read, its own included; if none has
// one, the processor is free to take its own input.
func TestPaperChoosesLargestBal(t *testing.T) {
	for _, c := range []struct {
		name string
		own  Block
		seen []Block
		want uint64 // host
	}{
		{"none", Block{}, []Block{{}, vote(5, 3, 0, 0)}, 1},
		{"largest", Block{}, []Block{{}, vote(5, 3, 3, 2), vote(5, 20, 9, 3)}, 3},
		{"largest first", Block{}, []Block{{}, vote(5, 20, 9, 3), vote(5, 30, 3, 2)}, 3},
		{"own vote", vote(5, 21, 21, 4), []Block{{}, vote(5, 20, 9, 3)}, 4},
		{"own vote on disk only", Block{}, []Block{vote(5, 21, 21, 4), vote(5, 20, 9, 3)}, 4},
		{"other instance", vote(4, 21, 21, 4), []Block{{}, vote(3, 20, 9, 3)}, 1},
		{"bal without value", Block{}, []Block{{}, vote(5, 20, 9, 0)}, 1},
	} {
		b := ballotOf(1, c.own)
		wrote(b, true)
		saw(b, blocks(c.seen...))
		a := b.Next()
		if a.Do != WriteBlock || a.Block.Input.Host != c.want || a.Block.Bal != 31 || a.Block.Mbal != 31 {
			t.Errorf("%s: got %+v, want host %d", c.name, a.Block, c.want)
		}
		if want := c.want == 1; b.Exposed() != want {
			t.Errorf("%s: exposed %v, want %v", c.name, b.Exposed(), want)
		}
	}
}

// Phase 1: beginning a new ballot raises mbal and changes neither bal nor inp.
func TestPaperNewBallotKeepsVote(t *testing.T) {
	got := ballotOf(1, vote(5, 21, 21, 4)).Next().Block
	want := vote(5, 31, 21, 4)
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := ballotOf(1, vote(4, 21, 21, 4)).Next().Block; got != vote(5, 31, 0, 0) {
		t.Errorf("vote of another instance: got %+v", got)
	}
}

// Phase 1: different processors never use the same ballot number, and there is always a larger one.
func TestPaperNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.Uint64Range(1, 2000).Draw(t, "hosts")
		host := rapid.Uint64Range(1, hosts).Draw(t, "host")
		seen := rapid.Uint64Range(0, 1<<62).Draw(t, "seen")
		n, ok := NextMbal(host, hosts, seen)
		if !ok || n <= seen || n%hosts != host%hosts {
			t.Fatalf("got %d, %v", n, ok)
		}
		if n > seen+hosts && n != host {
			t.Fatalf("got %d: there is a smaller one", n)
		}
	})
	for _, c := range []struct{ host, hosts, seen uint64 }{{0, 9, 0}, {10, 9, 0}, {1, 9, 1<<64 - 3}} {
		if n, ok := NextMbal(c.host, c.hosts, c.seen); ok {
			t.Errorf("%+v: got %d", c, n)
		}
	}
}

// Phase 0: a processor that has failed and starts again reads its own blocks from a majority of the disks and
// goes on from what they say.
func TestPaperRestart(t *testing.T) {
	c := NewClaim(ClaimConfig{Self: me, MaxHosts: 10, Disks: 3})
	rec := Record{Round: 4}
	saw(c,
		View{Record: rec, Blocks: []Block{vote(5, 11, 11, 2)}},
		View{Record: rec, Blocks: []Block{vote(5, 21, 0, 0)}},
		View{Record: rec, Blocks: []Block{vote(4, 41, 41, 3)}})
	got, want := c.Next().Block, vote(5, 51, 11, 2)
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	c = NewClaim(ClaimConfig{Self: me, MaxHosts: 10, Disks: 3})
	c.Saw(0, View{}, errFault)
	c.Saw(1, blocks(Block{}), nil)
	c.Saw(2, View{}, errFault)
	if err := c.Next().Err; !errors.Is(err, ErrNoRead) {
		t.Errorf("one disk of three: got %v, want ErrNoRead", err)
	}
}

// Failures: disks may fail; a block that cannot be read in full does not stand for a read.
func TestPaperBadBlockIsNoRead(t *testing.T) {
	for disks, want := range map[int]error{1: ErrBadBlock, 2: ErrBadBlock, 3: nil} {
		b := ballotOf(disks, Block{})
		wrote(b, []bool{true, true, true}[:disks]...)
		views := []View{blocks(Block{}, Block{Bad: true}), blocks(Block{}), blocks(Block{})}
		saw(b, views[:disks]...)
		if err := b.Next().Err; !errors.Is(err, want) {
			t.Errorf("%d disks: got %v, want %v", disks, err, want)
		}
	}
}
