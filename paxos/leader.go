package paxos

// ResolveLeader makes one record out of those of all disks; ok says which disks could be read. It needs a
// majority of readable disks (ErrNoRead) whose records do not contradict each other (ErrDisagree).
//
// Each record alone is true, because a leader is only written once its round is decided, and as free only
// by the owner that gave it up. So the highest round is the latest news, and in one round "free" is later
// than "held". If the owner itself wrote one of the records the result says so: the lease then counts as
// held until the owner clears that record, whatever its block says.
func ResolveLeader(recs []Record, ok []bool) (Record, error) {
	n := 0
	for d := range recs {
		if ok[d] {
			n++
		}
	}
	if n < Majority(len(recs)) {
		return Record{}, ErrNoRead
	}
	return latest(recs, ok)
}

// latest is ResolveLeader without the majority.
func latest(recs []Record, ok []bool) (Record, error) {
	var best Record
	first := true
	for d, r := range recs {
		if ok[d] && (first || later(r, best)) {
			best, first = r, false
		}
	}
	for d, r := range recs {
		if ok[d] && r.Round == best.Round && !r.Owner.SameOwner(best.Owner) {
			return Record{}, ErrDisagree
		}
	}
	return best, nil
}

func later(a, b Record) bool {
	if a.Round != b.Round {
		return a.Round > b.Round
	}
	if a.Free() != b.Free() {
		return a.Free()
	}
	return a.Writer == a.Owner.Host && b.Writer != b.Owner.Host
}
