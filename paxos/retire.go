package paxos

import "fmt"

// RetireConfig says what is given back.
type RetireConfig struct {
	Self  Proposal // host and generation
	Round uint64   // round that was won, or in which the proposal to withdraw was made
	Block Block    // our block as last written: Claim.Block
	Disks int      // 1..MaxDisks

	Shared bool // leave the mark that this incarnation holds the lease shared
	Strict bool // a lease was held: that the leader is not ours any more is an error, not a success

	mutant mutant
}

// Retire gives a lease back or withdraws a proposal: it marks our block released, keeping the vote in it,
// and then frees the leader if we were the one who wrote it (spec ondisk 4.6). In this order: whoever finds
// the leader freed must also find that we cannot win that round again.
//
// It may be run again after an error.
type Retire struct {
	cfg     RetireConfig
	now     uint64
	act     Action
	tally   tally
	records [MaxDisks]Record
}

// NewRetire starts a release or a withdrawal. It panics if the configuration breaks its rules.
func NewRetire(cfg RetireConfig) *Retire {
	if cfg.Self.Host == 0 || cfg.Self.Generation == 0 || cfg.Disks < 1 || cfg.Disks > MaxDisks {
		panic(fmt.Sprintf("paxos: impossible retirement %+v", cfg))
	}
	b := cfg.Block
	b.Released = true
	b.Shared, b.SharedGeneration = false, 0
	if cfg.Shared {
		b.Shared, b.SharedGeneration = true, cfg.Self.Generation
	}
	r := &Retire{cfg: cfg}
	r.do(Action{Do: WriteBlock, Block: b})
	return r
}

// SetTime tells the present second of our clock. Call it before every Next.
func (r *Retire) SetTime(now uint64) { r.now = now }

// Next returns what is owed.
func (r *Retire) Next() Action { return r.act }

func (r *Retire) do(a Action) {
	r.act = a
	r.tally = newTally(r.cfg.Disks)
}

func (r *Retire) end(err error) { r.act = Action{Do: Done, Err: err} }

// Wrote reports what became of a write on one disk.
func (r *Retire) Wrote(disk int, err error) {
	do := r.act.Do
	if do != WriteBlock && do != WriteLeader {
		panic("paxos: Wrote without a write")
	}
	if !r.tally.report(disk, err) {
		return
	}
	enough := r.tally.count() >= r.cfg.mutant.majority(r.cfg.Disks)
	switch {
	case do == WriteBlock && (enough || r.cfg.mutant.breaks(freeUnmarked)):
		r.do(Action{Do: ReadLeader})
	case do == WriteBlock:
		r.end(r.tally.failed(ErrNoWrite))
	case !enough:
		r.end(r.tally.failed(ErrNoCommit))
	default:
		r.end(nil)
	}
}

// Saw reports what a disk's leader said.
func (r *Retire) Saw(disk int, v View, err error) {
	if r.act.Do != ReadLeader {
		panic("paxos: Saw without ReadLeader")
	}
	if err == nil {
		r.records[disk] = v.Record
	}
	if !r.tally.report(disk, err) {
		return
	}
	if r.tally.count() < r.cfg.mutant.majority(r.cfg.Disks) {
		r.end(r.tally.failed(ErrNoRead))
		return
	}
	rec, err := latest(r.records[:r.cfg.Disks], r.tally.good[:])
	if err != nil {
		r.end(err)
		return
	}
	r.judge(rec)
}

// judge frees the leader if we wrote it for ourselves. One that another host wrote for us is left alone: our
// released mark says the same, and freeing it could hide a leader that came after (spec ondisk 4.6).
func (r *Retire) judge(rec Record) {
	self := r.cfg.Self
	ours := rec.Round == r.cfg.Round && rec.Owner.SameOwner(self)
	switch {
	case r.cfg.mutant.breaks(freeAnyRecord):
	case rec.Writer != self.Host, ours && rec.Free():
		r.end(nil)
		return
	case !ours && !r.cfg.Strict:
		r.end(nil)
		return
	case rec.Round != r.cfg.Round:
		r.end(ErrOldRound)
		return
	case !ours:
		r.end(ErrNotOurs)
		return
	}
	rec.Owner.Timestamp = 0
	rec.Writer, rec.WriterGen, rec.WrittenAt = self.Host, self.Generation, r.now
	r.do(Action{Do: WriteLeader, Record: rec})
}
