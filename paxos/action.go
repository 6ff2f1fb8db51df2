package paxos

import "errors"

// Proposal is the value that a round decides: the incarnation of a host that owns the lease from then on.
// Host 0 means none; Timestamp is seconds of that host's clock, never 0 in a proposal.
type Proposal struct{ Host, Generation, Timestamp uint64 }

// SameOwner reports whether both name the same incarnation of the same host.
func (p Proposal) SameOwner(o Proposal) bool { return p.Host == o.Host && p.Generation == o.Generation }

// Block is what one host says on one disk: its dblock and mode block.
type Block struct {
	Mbal  uint64   // ballot begun
	Bal   uint64   // ballot in which Input was chosen, 0 = none
	Input Proposal // chosen value, Host 0 = none
	Round uint64   // instance that all of this is about (lver)

	Released bool // the host has given back what it owned in Round
	Bad      bool // the checksum is wrong: nothing here may be believed

	Shared           bool   // the host holds the lease shared ...
	SharedGeneration uint64 // ... in this incarnation
}

// Record is what the leader record of one disk says.
type Record struct {
	Round     uint64   // version of the lease (lver)
	Owner     Proposal // Timestamp 0 = free
	Writer    uint64   // host id of who wrote the record
	WriterGen uint64
	WrittenAt uint64 // seconds of the writer's clock
}

// Free reports whether nobody owns the lease exclusively by this record alone.
func (r Record) Free() bool { return r.Owner.Timestamp == 0 }

// View is one disk at one moment: its leader record and the blocks of hosts 1, 2, ... in that order. The
// sectors of a view need not be from the same instant.
type View struct {
	Record Record
	Blocks []Block // nil after ReadLeader
}

// Do says what a machine wants done next.
type Do uint8

// What the caller must do. For the first four, on every disk, in any order or at once, each disk reported by
// its own call; the next action must not be started before all disks have been reported.
const (
	Look        Do = iota + 1 // read leader and all blocks; report Saw
	ReadLeader                // read the leader only; report Saw
	WriteBlock                // write Action.Block as our own block; report Wrote
	WriteLeader               // write Action.Record as the leader; report Wrote
	Ask                       // is Action.Owner alive? report Answered
	Pause                     // wait as Action.Why says; report Resumed
	Done                      // the end: Action.Err is nil if the machine did what it is for
)

// Why says what a Pause is for; the caller knows how long.
type Why uint8

// The reasons to pause.
const (
	Outbid      Why = iota + 1 // another host's ballot is ahead: a short random time
	OwnerSilent                // the owner is silent but not yet dead: a second
)

// Action is what a machine owes. Calling Next again without a report returns the same action.
type Action struct {
	Do     Do
	Block  Block    // WriteBlock
	Record Record   // WriteLeader
	Owner  Proposal // Ask; also set on Done when another host owns the lease
	Why    Why      // Pause
	Err    error    // Done
}

// Verdict answers Ask.
type Verdict uint8

// The answers. Only Gone lets the claim go on.
const (
	Alive  Verdict = iota + 1
	Silent         // may be dead, may come back: ask again later
	Gone           // dead for certain, or its incarnation is over
)

// How a claim or a ballot can end without the lease.
var (
	ErrHeld         = errors.New("the owner is alive")
	ErrOwnerSilent  = errors.New("the owner is silent but not yet dead")
	ErrLostRace     = errors.New("another host committed this version")
	ErrOtherWon     = errors.New("our ballot committed another host's value")
	ErrBadBlock     = errors.New("a host block does not verify")
	ErrNoRead       = errors.New("no majority of disks could be read")
	ErrNoWrite      = errors.New("no majority of disks took our block")
	ErrNoCommit     = errors.New("no majority of disks took the leader record")
	ErrDisagree     = errors.New("the disks disagree about the leader record")
	ErrOutbid       = errors.New("another host's ballot is ahead")
	ErrSuperseded   = errors.New("another host is in a later round")
	ErrNotOurs      = errors.New("the leader record is not ours any more")
	ErrOldRound     = errors.New("the leader record has another version than the lease that was held")
	ErrNoNumber     = errors.New("no ballot number is left for this host above those in use")
	ErrWrongVersion = errors.New("the lease has another version than asked for")
)
