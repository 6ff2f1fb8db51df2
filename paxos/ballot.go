package paxos

import "fmt"

// BallotConfig says what one ballot is about.
type BallotConfig struct {
	Self  Proposal // our own proposal; its Timestamp may come later, by SetTime
	Round uint64
	Mbal  uint64 // from NextMbal
	Disks int    // 1..MaxDisks

	// Own is our block as an acceptor: if it is of this round its Bal and Input are our vote so far, which
	// must not be forgotten, and Released stays set. Shared is written as it is here.
	Own Block

	// Former is the host that the round before this one belonged to, if it counts as over only because its
	// host said so; 0 otherwise. FormerRound is that round, FormerBlocks what the host's block on each disk
	// was when we concluded that. See returned.
	Former       uint64
	FormerRound  uint64
	FormerBlocks [MaxDisks]Block

	mutant mutant
}

type ballotStep uint8

const (
	write1 ballotStep = iota
	read1
	write2
	read2
	finished
)

// Ballot runs the two phases of one ballot in one round (Gafni and Lamport, "Disk Paxos": Disk Synod).
// Its actions are WriteBlock, Look, WriteBlock, Look, Done; it is the same for 1..MaxDisks disks.
//
// Invariant: a disk counts for a phase only if our block got there and what that disk held afterwards was
// read in full, every block verified.
type Ballot struct {
	cfg   BallotConfig
	step  ballotStep
	block Block // ours, as written last or about to be
	act   Action

	tally tally
	wrote [MaxDisks]bool // in this phase

	bal   uint64 // greatest bal of this round seen in phase 1 ...
	value Proposal

	seenMbal  uint64 // greatest of this round
	seenRound uint64 // greatest of the blocks
	published bool   // a leader record of this round or a later one was seen
	still     int    // disks on which the former owner's block has not come to life again
	exposed   bool
	sharers   sharers
}

// NewBallot starts a ballot. It panics if the configuration breaks its rules.
func NewBallot(cfg BallotConfig) *Ballot {
	b := newBallot(cfg)
	return &b
}

func newBallot(cfg BallotConfig) Ballot {
	if cfg.Disks < 1 || cfg.Disks > MaxDisks || cfg.Self.Host == 0 || cfg.Round == 0 || cfg.Mbal == 0 {
		panic(fmt.Sprintf("paxos: impossible ballot %+v", cfg))
	}
	own := cfg.Own
	if own.Round != cfg.Round {
		own.Bal, own.Input, own.Released = 0, Proposal{}, false
	}
	own.Round, own.Mbal = cfg.Round, cfg.Mbal
	b := Ballot{cfg: cfg, block: own, bal: own.Bal, value: own.Input}
	b.exposed = own.Bal != 0 && own.Input.SameOwner(cfg.Self)
	if cfg.mutant.breaks(forgetVote) {
		b.block.Bal, b.block.Input, b.bal, b.value = 0, Proposal{}, 0, Proposal{}
	}
	b.begin(write1)
	return b
}

// SetTime tells the present second of our clock, which becomes the timestamp of our own proposal.
func (b *Ballot) SetTime(now uint64) { b.cfg.Self.Timestamp = now }

// Next returns what is owed.
func (b *Ballot) Next() Action { return b.act }

// Value returns the decided value once Next is Done without an error.
func (b *Ballot) Value() Proposal { return b.value }

// Block returns our block as last written, or about to be written.
func (b *Ballot) Block() Block { return b.block }

// Exposed reports whether our own proposal may be on a disk, where another host may find and commit it.
func (b *Ballot) Exposed() bool { return b.exposed }

// SeenMbal returns the greatest mbal that a block of this round showed.
func (b *Ballot) SeenMbal() uint64 { return b.seenMbal }

// Sharers returns the other hosts whose blocks said in phase 1 that they hold the lease shared.
func (b *Ballot) Sharers() []Sharer { return b.sharers.list() }

func (b *Ballot) need() int { return b.cfg.mutant.majority(b.cfg.Disks) }

func (b *Ballot) begin(s ballotStep) {
	b.step = s
	b.tally = newTally(b.cfg.Disks)
	switch s {
	case write1, write2:
		b.act = Action{Do: WriteBlock, Block: b.block}
	case read1, read2:
		b.still = 0
		b.act = Action{Do: Look}
	case finished:
		b.act = Action{Do: Done}
	}
}

func (b *Ballot) fail(err error) {
	b.step = finished
	b.act = Action{Do: Done, Err: err}
}

// Wrote reports what became of WriteBlock on one disk. After an error the block may still get there later.
func (b *Ballot) Wrote(disk int, err error) {
	if b.step != write1 && b.step != write2 {
		panic("paxos: Wrote without WriteBlock")
	}
	if !b.tally.report(disk, err) {
		return
	}
	if b.tally.count() < b.need() {
		b.fail(b.tally.failed(ErrNoWrite))
		return
	}
	b.wrote = b.tally.good
	if b.step == write2 && b.cfg.mutant.breaks(commitUnread) {
		b.begin(finished)
		return
	}
	b.begin(b.step + 1)
}

// Saw reports what a disk held. v.Blocks must have a block for every host that may take part, ours included.
func (b *Ballot) Saw(disk int, v View, err error) {
	if b.step != read1 && b.step != read2 {
		panic("paxos: Saw without Look")
	}
	all := b.tally.report(disk, err)
	if err == nil {
		b.watch(disk, v)
	}
	if all {
		b.judge()
	}
}

// watch takes in one disk. A block that does not verify may hide a vote, so its disk does not count (stock
// skips the block). What the other blocks of that disk say can only make us more careful, and is heard.
func (b *Ballot) watch(disk int, v View) {
	if v.Record.Round >= b.cfg.Round && !b.cfg.mutant.breaks(deafToRecord) {
		b.published = true
	}
	for i, q := range v.Blocks {
		host := uint64(i) + 1
		if q.Bad {
			if !b.cfg.mutant.breaks(skipBad) {
				b.tally.spoil(disk)
			}
			continue
		}
		b.seenRound = max(b.seenRound, q.Round)
		if q.Round == b.cfg.Round {
			b.seenMbal = max(b.seenMbal, q.Mbal)
		}
		if host == b.cfg.Former && (retired(q, b.cfg.FormerRound) || q == b.cfg.FormerBlocks[disk]) {
			b.still++
		}
		if b.step == read1 {
			b.hear(host, q)
		}
	}
}

// hear is phase 1's part of watch: who shares the lease, and what was chosen before.
func (b *Ballot) hear(host uint64, q Block) {
	if q.Shared && q.SharedGeneration != 0 && host != b.cfg.Self.Host {
		b.sharers.add(Sharer{Host: host, Generation: q.SharedGeneration})
	}
	voted := q.Round == b.cfg.Round && q.Bal != 0 && q.Input.Host != 0
	if voted && q.Bal > b.bal && !b.cfg.mutant.breaks(noAdoption) {
		b.bal, b.value = q.Bal, q.Input
	}
}

// judge ends a phase. News that the round is over comes before everything else: it stays true whatever the
// other disks say.
func (b *Ballot) judge() {
	outbid := b.seenMbal > b.cfg.Mbal && (b.step == read1 || !b.cfg.mutant.breaks(deafInPhase2))
	b.tally.and(b.wrote)
	switch {
	case b.published:
		b.fail(ErrLostRace)
	case b.seenRound > b.cfg.Round:
		b.fail(ErrSuperseded)
	case outbid:
		b.fail(ErrOutbid)
	case b.tally.count() < b.need():
		b.fail(b.tally.failed(ErrNoRead))
	case b.returned():
		b.fail(ErrLostRace)
	case b.step == read1:
		b.choose()
		b.begin(write2)
	default:
		b.begin(finished)
	}
}

// returned reports whether the former owner, who we concluded is done with its round, has begun a ballot
// since. A stock host may do that: it retracts a proposal and tries again, or reads a stale leader, and may
// win the very round that we take to be over. To look here, when our block of the later round is out, settles
// it: either we see its new block, or its next read sees ours and it gives up.
func (b *Ballot) returned() bool {
	return b.cfg.Former != 0 && b.still < b.need() && !b.cfg.mutant.breaks(dropRecheck)
}

func (b *Ballot) choose() {
	if b.bal == 0 {
		b.value = b.cfg.Self
	}
	b.block.Bal, b.block.Input = b.cfg.Mbal, b.value
	b.exposed = b.exposed || b.value.SameOwner(b.cfg.Self)
}

// retired reports whether a block says that its host no longer owns round, if it ever did: it carries the
// released mark of that round or a later one, or it is about a later round, which a host begins only when
// it owns nothing. Round 0 with the mark is what stock leaves when it retracts (spec ondisk 4.8).
func retired(b Block, round uint64) bool {
	if b.Bad {
		return false
	}
	return b.Round > round || b.Released && (b.Round == round || b.Round == 0)
}
