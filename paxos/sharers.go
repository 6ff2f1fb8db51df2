package paxos

import "slices"

// Sharer is an incarnation that holds the lease shared.
type Sharer struct{ Host, Generation uint64 }

// sharers collects sharers in ascending order of host. Of two incarnations of one host the older is over, so
// the newer stands for both. It is replaced and never changed in place, so that copies stay independent.
type sharers struct{ all *[]Sharer }

func (s *sharers) list() []Sharer {
	if s.all == nil {
		return nil
	}
	return slices.Clone(*s.all)
}

func (s *sharers) add(n Sharer) {
	all := s.list()
	i, found := slices.BinarySearchFunc(all, n, func(a, b Sharer) int { return int(a.Host) - int(b.Host) })
	if found {
		all[i].Generation = max(all[i].Generation, n.Generation)
	} else {
		all = slices.Insert(all, i, n)
	}
	s.all = &all
}
