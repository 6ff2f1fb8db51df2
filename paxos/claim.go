package paxos

import "fmt"

// DefaultTries bounds the pauses and fresh starts of a claim that others keep disturbing.
const DefaultTries = 64

// ClaimConfig says who wants the lease and how.
type ClaimConfig struct {
	Self Proposal // host and generation; the timestamp comes by SetTime

	// MaxHosts is how far apart the ballot numbers of one host are. It may be left 0 and be given by
	// SetSizes once the leader has been read. NumHosts is how many blocks a View has; it is not used here.
	MaxHosts, NumHosts uint64

	Disks      int    // 1..MaxDisks
	Version    uint64 // if not 0, the lease must have this version, else ErrWrongVersion
	NoWait     bool   // ErrOwnerSilent instead of Pause(OwnerSilent)
	KeepShared bool   // our blocks say that we hold the lease shared: for converting shared to exclusive
	MaxTries   int    // 0 means DefaultTries

	mutant mutant
}

type claimStep uint8

const (
	looking    claimStep = iota // Look to judge the owner
	asking                      // Ask
	waiting                     // for a silent owner: Pause, then ReadLeader
	balloting                   // the ballot's own actions
	yielding                    // to a ballot that is ahead: Pause, then ReadLeader
	catchingUp                  // with a round that is ahead: Pause, then Look
	checking                    // ReadLeader before committing what is not ours
	committing                  // WriteLeader
	ended
)

// Claim takes a lease exclusively: it looks who owns it, waits until that owner is gone if it may, decides
// the next owner in a ballot, publishes the result, and starts over while the result is not ours and not
// another live host's (spec ondisk 4.3, with the differences that PROOF.md lists).
//
// A copy of a Claim is independent of the original.
type Claim struct {
	cfg  ClaimConfig
	now  uint64
	step claimStep
	act  Action

	survey survey
	record Record // as last judged
	second bool   // the look that is under way is the second one at record
	asked  Verdict
	own    Block  // what we know to have said ourselves, on disk or in memory
	mbal   uint64 // greatest seen
	top    uint64 // greatest round seen in a block

	ballot    Ballot
	round     uint64   // of the ballot
	value     Proposal // that the ballot decided
	former    uint64   // host whose word alone made the lease free, 0 = none
	formers   [MaxDisks]Block
	withdrawn bool // we gave up a proposal in this very round once: it cannot become ours any more

	tries     int
	raced     bool // the record changed under us
	otherWon  bool // a ballot of ours decided for another host
	exposed   bool
	exposedIn uint64 // round
	won       bool
	sharers   sharers
}

// NewClaim starts a claim. It panics if the configuration breaks its rules.
func NewClaim(cfg ClaimConfig) *Claim {
	if cfg.Self.Host == 0 || cfg.Self.Generation == 0 || cfg.Disks < 1 || cfg.Disks > MaxDisks {
		panic(fmt.Sprintf("paxos: impossible claim %+v", cfg))
	}
	if cfg.MaxTries == 0 {
		cfg.MaxTries = DefaultTries
	}
	c := &Claim{cfg: cfg}
	c.look()
	return c
}

// SetTime tells the present second of our clock, which must not be 0. Call it before every Next.
func (c *Claim) SetTime(now uint64) {
	c.now = now
	c.cfg.Self.Timestamp = now
	c.ballot.SetTime(now)
}

// SetSizes gives MaxHosts and NumHosts as the leader states them. Call it before the first Look is reported.
func (c *Claim) SetSizes(maxHosts, numHosts uint64) {
	c.cfg.MaxHosts, c.cfg.NumHosts = maxHosts, numHosts
}

// Next returns what is owed.
func (c *Claim) Next() Action { return c.act }

// Exposed reports whether a proposal of ours may yet be committed, by us or by somebody else. If so after
// Done with an error, a Retire must come before anything else.
func (c *Claim) Exposed() bool { return c.exposed && !c.won }

// Block returns our block as last written, for Retire.
func (c *Claim) Block() Block { return c.own }

// Round returns the round of the last ballot: the version of the lease if it was won.
func (c *Claim) Round() uint64 { return c.round }

// Record returns the record that makes us the owner: ours, or the one another host wrote for us.
func (c *Claim) Record() Record { return c.record }

// Sharers returns the other hosts that held the lease shared when our ballot looked, in ascending order.
func (c *Claim) Sharers() []Sharer { return c.sharers.list() }

func (c *Claim) need() int { return c.cfg.mutant.majority(c.cfg.Disks) }

func (c *Claim) expect(ok bool, call string) {
	if !ok {
		panic(fmt.Sprintf("paxos: %s does not answer %+v", call, c.act))
	}
}

func (c *Claim) do(s claimStep, a Action) {
	c.step, c.act = s, a
}

func (c *Claim) read(s claimStep, what Do) {
	c.survey = survey{tally: newTally(c.cfg.Disks)}
	c.do(s, Action{Do: what})
}

func (c *Claim) look() {
	c.read(looking, Look)
}

func (c *Claim) end(err error) {
	a := Action{Do: Done, Err: err}
	if err != nil && !c.record.Free() && c.record.Owner.Host != c.cfg.Self.Host {
		a.Owner = c.holder()
	}
	c.do(ended, a)
}

// again counts a disturbance and reports whether the claim may go on; if not it has ended with err.
func (c *Claim) again(err error) bool {
	c.tries++
	if c.tries < c.cfg.MaxTries {
		return true
	}
	c.end(err)
	return false
}

// Saw reports what a disk held.
func (c *Claim) Saw(disk int, v View, err error) {
	c.expect(c.act.Do == Look || c.act.Do == ReadLeader, "Saw")
	if c.step == balloting {
		c.ballot.Saw(disk, v, err)
		c.follow()
		return
	}
	if !c.survey.take(disk, c.cfg.Self.Host, v, err) {
		return
	}
	rec, err := c.survey.leader(c.need())
	if err != nil {
		c.end(err)
		return
	}
	if c.step == looking {
		c.looked(rec)
		return
	}
	if c.step == checking {
		c.checked(rec)
		return
	}
	c.reread(rec)
}

// Wrote reports what became of a write on one disk.
func (c *Claim) Wrote(disk int, err error) {
	c.expect(c.act.Do == WriteBlock || c.act.Do == WriteLeader, "Wrote")
	if c.step == balloting {
		c.ballot.Wrote(disk, err)
		c.follow()
		return
	}
	if c.survey.tally.report(disk, err) {
		c.committed()
	}
}

// Answered reports whether the owner asked about is alive.
func (c *Claim) Answered(v Verdict) {
	c.expect(c.act.Do == Ask, "Answered")
	c.asked = v
	switch {
	case v == Gone || v == Alive && c.cfg.mutant.breaks(takeFromLiving):
		c.propose()
	case c.record.Writer != c.record.Owner.Host:
		c.second = true
		c.read(looking, Look)
		c.survey.watched, c.survey.since = c.record.Owner.Host, c.record.Round
	default:
		c.held()
	}
}

// Resumed reports that a Pause is over.
func (c *Claim) Resumed() {
	c.expect(c.act.Do == Pause, "Resumed")
	if c.step == catchingUp {
		c.look()
		return
	}
	c.read(c.step, ReadLeader)
}
