package paxos

// stockHost is a host that follows the rules of stock sanlock 3.8, as far as they matter here (spec ondisk 4.1,
// 4.3, 4.4, 4.8, 4.14): it zeroes its vote in phase 1, raises mbal blindly, skips bad blocks, does not look at the
// leader during a ballot, and asks only for the id of the host that won. Of several disks it needs a majority that
// can be written and read, and one on which the leader is the same; the released mark it reads on the first only.
type stockHost struct {
	self     Proposal
	disks    int
	maxHosts uint64
	genCheck bool
	step     stockStep
	act      Action
	seen     stockSight

	leader  Record // of the first look
	mbal    uint64
	round   uint64
	block   Block
	bal     uint64
	value   Proposal
	exposed bool
	tries   int
}

// stockSight is what the disks have reported of one action.
type stockSight struct {
	reported, good [worldDisks]bool
	records        [worldDisks]Record
	blocks         [worldDisks][worldHosts]Block
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

func newStockHost(self Proposal, disks int, maxHosts uint64, genCheck bool) stockHost {
	self.Timestamp = 7
	s := stockHost{self: self, disks: disks, maxHosts: maxHosts, genCheck: genCheck}
	s.do(stockLook, Action{Do: Look})
	return s
}

func (s *stockHost) next() Action { return s.act }

func (s *stockHost) do(n stockStep, a Action) { s.step, s.act = n, a }

func (s *stockHost) end(err error) { s.act = Action{Do: Done, Err: err} }

// report notes what one disk said. It reports whether all have, and how many did what was asked.
func (s *stockHost) report(disk int, err error) (all bool, good int) {
	s.seen.reported[disk], s.seen.good[disk] = true, err == nil
	all = true
	for d := range s.disks {
		all = all && s.seen.reported[d]
		if s.seen.good[d] {
			good++
		}
	}
	return all, good
}

func (s *stockHost) saw(disk int, v View, err error) {
	s.seen.records[disk] = v.Record
	copy(s.seen.blocks[disk][:], v.Blocks)
	all, good := s.report(disk, err)
	if !all {
		return
	}
	seen := s.seen
	s.seen = stockSight{}
	if good <= s.disks/2 {
		s.end(ErrNoRead)
		return
	}
	if s.step == stockBallot {
		s.read(&seen)
		return
	}
	if s.step == stockMark {
		s.marked(&seen)
		return
	}
	record, same := s.agreed(&seen)
	switch {
	case !same:
		s.end(ErrDisagree)
	case s.step == stockLook:
		s.look(record, &seen)
	case s.step == stockWait && record != s.leader:
		s.do(stockLook, Action{Do: Look})
	case s.step == stockWait:
		s.do(stockAsk, Action{Do: Ask, Owner: s.leader.Owner})
	case s.step == stockAgain:
		s.again(record)
	}
}

// agreed is the leader that a majority of the disks has. Who wrote it does not count.
func (s *stockHost) agreed(seen *stockSight) (Record, bool) {
	for d := range s.disks {
		same := 0
		for o := range s.disks {
			a, b := seen.records[d], seen.records[o]
			if seen.good[d] && seen.good[o] && a.Round == b.Round && a.Owner == b.Owner {
				same++
			}
		}
		if same > s.disks/2 {
			return seen.records[d], true
		}
	}
	return Record{}, false
}

func (s *stockHost) marked(seen *stockSight) {
	if seen.good[0] && seen.blocks[0][s.leader.Owner.Host-1].Released {
		s.begin(true)
		return
	}
	s.end(ErrHeld)
}

func (s *stockHost) look(record Record, seen *stockSight) {
	s.leader, s.mbal = record, 0
	top := uint64(0)
	for d := range s.disks {
		for _, b := range seen.blocks[d] {
			if seen.good[d] && b.Bad {
				s.end(ErrBadBlock)
				return
			}
			if seen.good[d] {
				top = max(top, b.Mbal)
			}
		}
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

func (s *stockHost) wrote(disk int, err error) {
	all, good := s.report(disk, err)
	if !all {
		return
	}
	s.seen = stockSight{}
	switch {
	case good <= s.disks/2:
		s.end(ErrNoWrite)
	case s.act.Do == WriteBlock:
		s.act = Action{Do: Look}
	case s.value.Host != s.self.Host, s.genCheck && !s.value.SameOwner(s.self):
		s.exposed = false
		s.end(ErrOtherWon)
	default:
		s.end(nil)
	}
}

func (s *stockHost) read(seen *stockSight) {
	phase1 := s.block.Bal == 0
	for d := range s.disks {
		if !seen.good[d] {
			continue
		}
		for _, b := range seen.blocks[d] {
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
