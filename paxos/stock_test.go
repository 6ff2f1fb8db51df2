package paxos

// stockHost is a host that follows the rules of stock sanlock 3.8 on one disk, as far as they matter here
// (spec ondisk 4.1, 4.3, 4.4, 4.8): it zeroes its vote in phase 1, raises mbal blindly, skips bad blocks,
// does not look at the leader during a ballot, and asks only for the id of the host that won.
type stockHost struct {
	self     Proposal
	maxHosts uint64
	genCheck bool
	step     stockStep
	act      Action

	leader  Record // of the first look
	mbal    uint64
	round   uint64
	block   Block
	bal     uint64
	value   Proposal
	exposed bool
	tries   int
}

type stockStep uint8

const (
	stockLook stockStep = iota
	stockAsk
	stockMark // read the owner's block for its released mark
	stockWait
	stockAgain // read the leader before the ballot
	stockBallot
)

// stockTries is when we stop following a stock host that is outbid again and again. It would go on; here it
// does nothing more.
const stockTries = 3

func newStockHost(self Proposal, maxHosts uint64, genCheck bool) stockHost {
	self.Timestamp = 7
	s := stockHost{self: self, maxHosts: maxHosts, genCheck: genCheck}
	s.do(stockLook, Action{Do: Look})
	return s
}

func (s *stockHost) next() Action { return s.act }

func (s *stockHost) do(n stockStep, a Action) { s.step, s.act = n, a }

func (s *stockHost) end(err error) { s.act = Action{Do: Done, Err: err} }

func (s *stockHost) saw(v View, err error) {
	if err != nil {
		s.end(err)
		return
	}
	switch s.step {
	case stockLook:
		s.look(v)
	case stockMark:
		if v.Blocks[s.leader.Owner.Host-1].Released {
			s.begin(true)
			return
		}
		s.end(ErrHeld)
	case stockWait:
		if v.Record != s.leader {
			s.do(stockLook, Action{Do: Look})
			return
		}
		s.do(stockAsk, Action{Do: Ask, Owner: s.leader.Owner})
	case stockAgain:
		s.again(v.Record)
	case stockBallot:
		s.read(v)
	}
}

func (s *stockHost) look(v View) {
	s.leader, s.mbal = v.Record, 0
	top := uint64(0)
	for _, b := range v.Blocks {
		if b.Bad {
			s.end(ErrBadBlock)
			return
		}
		top = max(top, b.Mbal)
	}
	s.mbal = s.self.Host
	if top > 0 {
		s.mbal += top - top%s.maxHosts + s.maxHosts
	}
	o := s.leader.Owner
	if s.leader.Free() || o.Host == s.self.Host && o.Generation <= s.self.Generation {
		s.begin(false)
		return
	}
	s.do(stockAsk, Action{Do: Ask, Owner: o})
}

func (s *stockHost) answered(v Verdict) {
	switch {
	case v == Gone:
		s.begin(true)
	case v == Silent:
		s.do(stockWait, Action{Do: ReadLeader})
	case s.leader.Writer != s.leader.Owner.Host:
		s.do(stockMark, Action{Do: Look})
	default:
		s.end(ErrHeld)
	}
}

func (s *stockHost) begin(reread bool) {
	s.round = s.leader.Round + 1
	if reread {
		s.do(stockAgain, Action{Do: ReadLeader})
		return
	}
	s.vote()
}

func (s *stockHost) again(r Record) {
	switch {
	case r.Round == s.round && r.Owner.SameOwner(s.self):
		s.value = r.Owner
		s.end(nil)
	case r.Round == s.round:
		s.end(ErrLostRace)
	case r != s.leader:
		s.do(stockLook, Action{Do: Look})
	default:
		s.vote()
	}
}

func (s *stockHost) vote() {
	s.bal, s.value = 0, Proposal{}
	s.block = Block{Mbal: s.mbal, Round: s.round}
	s.do(stockBallot, Action{Do: WriteBlock, Block: s.block})
}

func (s *stockHost) wrote(err error) {
	switch {
	case err != nil:
		s.end(err)
	case s.act.Do == WriteBlock:
		s.act = Action{Do: Look}
	case s.value.Host != s.self.Host, s.genCheck && !s.value.SameOwner(s.self):
		s.exposed = false
		s.end(ErrOtherWon)
	default:
		s.end(nil)
	}
}

func (s *stockHost) read(v View) {
	phase1 := s.block.Bal == 0
	for _, b := range v.Blocks {
		if b.Bad || b.Round < s.round {
			continue
		}
		if b.Round > s.round || b.Mbal > s.mbal {
			s.retry()
			return
		}
		if phase1 && b.Input.Host != 0 && b.Bal > s.bal {
			s.bal, s.value = b.Bal, b.Input
		}
	}
	if !phase1 {
		s.act = Action{Do: WriteLeader, Record: Record{
			Round: s.round, Owner: s.value, Writer: s.self.Host, WriterGen: s.self.Generation, WrittenAt: 7,
		}}
		return
	}
	if s.bal == 0 {
		s.value = s.self
	}
	s.exposed = true
	s.block.Bal, s.block.Input = s.mbal, s.value
	s.act = Action{Do: WriteBlock, Block: s.block}
}

func (s *stockHost) retry() {
	s.tries++
	if s.tries == stockTries {
		s.act = Action{}
		return
	}
	s.mbal += s.maxHosts
	s.do(stockAgain, Action{Do: ReadLeader})
}

func (s *stockHost) resumed() {}
