package paxos

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts plays the stories of testdata. A story has one lease and hosts that take turns:
//
//	disks n=1 hosts=3            a new lease
//	claim host=1 [gen=2] [nowait]    a claim begins
//	retire host=1 [strict]       what the host's last claim won, or left exposed, is given back
//	run host=1 [n=3]             n actions on all disks, or all until the machine waits or ends
//	fail host=1 disk=0           the next action fails on that disk; others succeed
//	answer host=1 alive          silent, gone; resume host=1 ends a pause
//	block host=2 disk=0 round=1 mbal=2 bal=2 value=1.1 [released] [bad]    put a block on a disk
//	leader round=1 owner=1.1 writer=2 [gen=1] [free]                        put a leader on all disks
//
// The output is what the machines said and what came of it.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &stage{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.play(d)
			return s.out.String()
		})
	})
}

type actor struct {
	m     machine
	claim *Claim
	self  Proposal
}

type stage struct {
	t      *testing.T
	board  *board
	actors map[int]*actor
	out    strings.Builder
}

func (s *stage) play(d *datadriven.TestData) {
	host := number(d, "host", 0)
	switch d.Cmd {
	case "disks":
		s.board = newBoard(number(d, "n", 1), number(d, "hosts", 3))
		s.actors = map[int]*actor{}
	case "claim":
		self := Proposal{Host: uint64(host), Generation: uint64(number(d, "gen", 1))}
		c := NewClaim(ClaimConfig{
			Self: self, Disks: len(s.board.disks), MaxHosts: uint64(len(s.board.disks[0].Blocks)),
			NoWait: d.HasArg("nowait"),
		})
		s.actors[host] = &actor{m: c, claim: c, self: self}
	case "retire":
		a := s.actors[host]
		a.m = NewRetire(RetireConfig{
			Self: a.self, Round: a.claim.Round(), Block: a.claim.Block(), Disks: len(s.board.disks),
			Strict: d.HasArg("strict"),
		})
	case "run":
		s.run(host, number(d, "n", 100), -1)
	case "fail":
		s.run(host, 1, number(d, "disk", 0))
	case "answer":
		verdicts := map[string]Verdict{"alive": Alive, "silent": Silent, "gone": Gone}
		s.actors[host].claim.Answered(verdicts[d.CmdArgs[1].Key])
	case "resume":
		s.actors[host].claim.Resumed()
	case "block":
		s.board.disks[number(d, "disk", 0)].Blocks[host-1] = Block{
			Round: uint64(number(d, "round", 0)), Mbal: uint64(number(d, "mbal", 0)),
			Bal: uint64(number(d, "bal", 0)), Input: owner(d, "value"),
			Released: d.HasArg("released"), Bad: d.HasArg("bad"),
		}
	case "leader":
		s.leader(d)
	default:
		d.Fatalf(s.t, "unknown command %s", d.Cmd)
	}
}

func (s *stage) leader(d *datadriven.TestData) {
	r := Record{
		Round: uint64(number(d, "round", 0)), Owner: owner(d, "owner"),
		Writer: uint64(number(d, "writer", 0)), WriterGen: uint64(number(d, "gen", 1)), WrittenAt: 7,
	}
	if d.HasArg("free") {
		r.Owner.Timestamp = 0
	}
	for i := range s.board.disks {
		s.board.disks[i].Record = r
	}
}

func (s *stage) run(host, n, broken int) {
	a := s.actors[host]
	for range n {
		a.m.SetTime(7)
		do := a.m.Next()
		switch do.Do {
		case Done:
			fmt.Fprintf(&s.out, "%d: %s\n", host, s.ending(a, do))
			return
		case Ask:
			fmt.Fprintf(&s.out, "%d: is %s alive?\n", host, do.Owner.tell())
			return
		case Pause:
			why := map[Why]string{Outbid: "outbid", OwnerSilent: "the owner is silent"}[do.Why]
			fmt.Fprintf(&s.out, "%d: pause, %s\n", host, why)
			return
		}
		fmt.Fprintf(&s.out, "%d: %s\n", host, do.tell())
		for d := range s.board.disks {
			if d != broken {
				s.board.do(a.m, do, d, uint64(host))
				continue
			}
			fmt.Fprintf(&s.out, "   disk %d fails\n", d)
			if do.Do == WriteBlock || do.Do == WriteLeader {
				a.m.Wrote(d, errFault)
			} else {
				a.m.Saw(d, View{}, errFault)
			}
		}
	}
}

func (s *stage) ending(a *actor, do Action) string {
	c, isClaim := a.m.(*Claim)
	switch {
	case do.Err == nil && isClaim:
		return fmt.Sprintf("owner of round %d", c.Round())
	case do.Err == nil:
		return "given back"
	case isClaim && c.Exposed():
		return do.Err.Error() + " (exposed)"
	case do.Owner.Host != 0:
		return fmt.Sprintf("%v (%s)", do.Err, do.Owner.tell())
	}
	return do.Err.Error()
}

func number(d *datadriven.TestData, key string, otherwise int) int {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			n, err := strconv.Atoi(a.Vals[0])
			if err != nil {
				panic(err)
			}
			return n
		}
	}
	return otherwise
}

func owner(d *datadriven.TestData, key string) Proposal {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			p := Proposal{Timestamp: 7}
			if _, err := fmt.Sscanf(a.Vals[0], "%d.%d", &p.Host, &p.Generation); err != nil {
				panic(errors.New("owner is host.generation: " + a.Vals[0]))
			}
			return p
		}
	}
	return Proposal{}
}
