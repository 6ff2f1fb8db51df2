package resource

import (
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/paxos"
)

// This file translates between what lies on disk and what paxos reasons about.

func record(l *ondisk.Leader) paxos.Record {
	return paxos.Record{
		Round:  l.LVer,
		Owner:  paxos.Proposal{Host: l.OwnerID, Generation: l.OwnerGeneration, Timestamp: l.Timestamp},
		Writer: l.WriteID, WriterGen: l.WriteGeneration, WrittenAt: l.WriteTimestamp,
	}
}

// put changes only what r says; names, sizes, flags and everything unknown stay.
func put(l *ondisk.Leader, r paxos.Record) {
	l.LVer = r.Round
	l.OwnerID, l.OwnerGeneration, l.Timestamp = r.Owner.Host, r.Owner.Generation, r.Owner.Timestamp
	l.WriteID, l.WriteGeneration, l.WriteTimestamp = r.Writer, r.WriterGen, r.WrittenAt
}

func block(b *ondisk.HostBlock, bad bool) paxos.Block {
	return paxos.Block{
		Mbal: b.MBal, Bal: b.Bal, Round: b.LVer,
		Input:    paxos.Proposal{Host: b.Inp, Generation: b.Inp2, Timestamp: b.Inp3},
		Released: b.Released(), Bad: bad,
		Shared: b.Shared(), SharedGeneration: b.Mode.Generation,
	}
}

func hostBlock(b paxos.Block) ondisk.HostBlock {
	hb := ondisk.HostBlock{DBlock: ondisk.DBlock{
		MBal: b.Mbal, Bal: b.Bal, LVer: b.Round,
		Inp: b.Input.Host, Inp2: b.Input.Generation, Inp3: b.Input.Timestamp,
	}}
	if b.Released {
		hb.Flags = ondisk.DBlockReleased
	}
	if b.Shared {
		hb.Mode = ondisk.ModeBlock{Flags: ondisk.ModeBlockShared, Generation: b.SharedGeneration}
	}
	return hb
}

// verdict is what a claim is told of an owner. One that cannot have missed a renewal since we saw it first is
// silent to a claim that waits: it waits until that is known. One that does not wait is told what is likely, that
// the owner lives, as stock tells it; for either, only Gone is reason to grant.
func verdict(v leases.Verdict, noWait bool) paxos.Verdict {
	switch {
	case v.Gone():
		return paxos.Gone
	case v == leases.Alive, v == leases.Unknown && noWait:
		return paxos.Alive
	}
	return paxos.Silent
}
