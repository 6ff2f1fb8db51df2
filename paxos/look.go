package paxos

// survey is what a Look or ReadLeader of all disks comes to, boiled down while the disks report.
type survey struct {
	tally   tally
	records [MaxDisks]Record
	owners  [MaxDisks]Block // the block of the host that the disk's record names

	mbal  uint64 // greatest of all blocks, whatever their round
	round uint64 // greatest of all blocks
	own   Block  // our own block: see learn

	watched  uint64 // host whose block we want to see retired ...
	since    uint64 // ... from this round
	retiring int    // disks that say so
}

// take adds one disk; all is true when it was the last. self is our host id.
func (s *survey) take(disk int, self uint64, v View, err error) (all bool) {
	all = s.tally.report(disk, err)
	if err != nil {
		return all
	}
	s.records[disk] = v.Record
	for i, q := range v.Blocks {
		if q.Bad {
			s.tally.spoil(disk)
			continue
		}
		s.mbal = max(s.mbal, q.Mbal)
		s.round = max(s.round, q.Round)
		host := uint64(i) + 1
		if host == self {
			s.own = learn(s.own, q)
		}
		if host == v.Record.Owner.Host {
			s.owners[disk] = q
		}
		if host == s.watched && retired(q, s.since) {
			s.retiring++
		}
	}
	return all
}

func (s *survey) leader(need int) (Record, error) {
	if s.tally.count() < need {
		return Record{}, s.tally.failed(ErrNoRead)
	}
	return latest(s.records[:s.tally.disks], s.tally.good[:])
}

// agree returns how many disks hold r's round with r's owner, not yet free.
func (s *survey) agree(r Record) int {
	n := 0
	for d := range s.tally.disks {
		o := s.records[d]
		if s.tally.good[d] && o.Round == r.Round && o.Owner == r.Owner {
			n++
		}
	}
	return n
}

// learn joins what two disks hold of our own block: the later round counts; in the same round the vote of
// the greater ballot, and the released mark if either has it. Mbal is the greater of all, so that none of
// our own numbers is used twice.
func learn(a, b Block) Block {
	if b.Round > a.Round || b.Round == a.Round && b.Bal > a.Bal {
		a, b = b, a
	}
	a.Mbal = max(a.Mbal, b.Mbal)
	a.Released = a.Released || b.Released && b.Round == a.Round
	return a
}
