package paxos

import "errors"

// This file is the part of Claim that judges: who owns the lease, and what follows.

// looked judges the owner after a full look.
func (c *Claim) looked(rec Record) {
	c.own = learn(c.own, c.survey.own)
	c.mbal = max(c.mbal, c.survey.mbal)
	c.top = max(c.top, c.survey.round, c.own.Round)
	second := c.second && rec == c.record
	c.second = false
	c.record, c.former, c.formers = rec, 0, c.survey.owners
	c.acquit()
	switch self := c.cfg.Self; {
	case c.mine():
		c.value, c.round = rec.Owner, rec.Round
		c.publish()
	case c.cfg.Version != 0 && c.version() != c.cfg.Version:
		c.end(ErrWrongVersion)
	case rec.Owner.Host == self.Host && (rec.Free() || rec.Owner.Generation <= self.Generation):
		c.propose()
	case rec.Free():
		c.former = rec.Owner.Host
		c.propose()
	case !second:
		c.ask()
	case c.cfg.mutant.breaks(trustWriter):
		c.propose()
	case c.survey.retiring >= c.need():
		c.former = rec.Owner.Host
		c.propose()
	default:
		c.held()
	}
}

func (c *Claim) ask() { c.do(asking, Action{Do: Ask, Owner: c.holder()}) }

// holder is the incarnation that may believe it owns the lease by the record. Normally that is the owner. But
// a stock host that finds a proposal of an older incarnation of itself publishes that and takes it for its
// own (spec ondisk 9.2): the record then says that a later incarnation of the owner wrote it.
func (c *Claim) holder() Proposal {
	o := c.record.Owner
	if c.record.Writer == o.Host {
		o.Generation = max(o.Generation, c.record.WriterGen)
	}
	return o
}

// version is what the lease's version must be by now: a round begins only once the one before it is decided,
// so blocks may know better than a stale record.
func (c *Claim) version() uint64 { return max(c.record.Round, max(c.top, 1)-1) }

// mine reports whether the record says that the round in which we proposed was decided for us.
func (c *Claim) mine() bool {
	return c.exposed && !c.withdrawn && c.record.Round == c.exposedIn && !c.record.Free() &&
		c.record.Owner.SameOwner(c.cfg.Self)
}

// acquit clears exposed when the record shows that the round of our proposal was decided otherwise.
func (c *Claim) acquit() {
	if c.record.Round >= c.exposedIn && !c.record.Owner.SameOwner(c.cfg.Self) {
		c.exposed = false
	}
}

// held ends the claim, or pauses it, on an owner that is alive or silent.
func (c *Claim) held() {
	switch {
	case c.asked == Silent && c.cfg.NoWait:
		c.end(ErrOwnerSilent)
	case c.asked == Silent:
		c.do(waiting, Action{Do: Pause, Why: OwnerSilent, Owner: c.holder()})
	case c.otherWon:
		c.end(ErrOtherWon)
	case c.raced:
		c.end(ErrLostRace)
	default:
		c.end(ErrHeld)
	}
}

// reread goes on after a pause if the record is still the same, else starts over.
func (c *Claim) reread(rec Record) {
	switch {
	case rec != c.record:
		c.restart()
	case c.step == waiting:
		c.ask()
	default:
		c.vote()
	}
}

// restart begins again at Look because the record changed.
func (c *Claim) restart() {
	c.raced = true
	if c.again(ErrLostRace) {
		c.look()
	}
}

// propose picks the round. Normally that is the one after the record's. A block of a later round proves that
// the record is stale: its host could begin that round only when all earlier ones were over, so we join it.
func (c *Claim) propose() {
	c.round = c.record.Round + 1
	if !c.cfg.mutant.breaks(stayBehind) {
		c.round = max(c.round, c.top)
	}
	c.withdrawn = c.own.Round == c.round && c.own.Released && !c.cfg.mutant.breaks(reuseWithdrawn)
	c.vote()
}

// vote runs a ballot in the round that was picked.
func (c *Claim) vote() {
	mbal, ok := NextMbal(c.cfg.Self.Host, c.cfg.MaxHosts, c.mbal)
	if c.cfg.mutant.breaks(commonNumbers) {
		mbal = c.mbal + 1
	}
	if !ok {
		c.end(ErrNoNumber)
		return
	}
	if c.round > c.exposedIn {
		c.exposed = false
	}
	own := c.own
	own.Shared, own.SharedGeneration = false, 0
	if c.cfg.KeepShared {
		own.Shared, own.SharedGeneration = true, c.cfg.Self.Generation
	}
	c.step = balloting
	c.ballot = newBallot(BallotConfig{
		Self: c.cfg.Self, Round: c.round, Mbal: mbal, Disks: c.cfg.Disks, Own: own,
		Former: c.former, FormerRound: c.record.Round, FormerBlocks: c.formers, mutant: c.cfg.mutant,
	})
	c.follow()
}

// follow takes over what the ballot wants next.
func (c *Claim) follow() {
	c.act, c.own = c.ballot.Next(), c.ballot.Block()
	if c.ballot.Exposed() {
		c.exposed, c.exposedIn = true, c.round
	}
	if c.act.Do != Done {
		return
	}
	c.mbal = max(c.mbal, c.ballot.SeenMbal(), c.own.Mbal)
	for _, s := range c.ballot.Sharers() {
		c.sharers.add(s)
	}
	switch err := c.act.Err; {
	case err == nil:
		c.decided(c.ballot.Value())
	case errors.Is(err, ErrLostRace):
		c.restart()
	case errors.Is(err, ErrOutbid):
		if c.again(err) {
			c.do(yielding, Action{Do: Pause, Why: Outbid})
		}
	case errors.Is(err, ErrSuperseded):
		if c.again(err) {
			c.do(catchingUp, Action{Do: Pause, Why: Outbid})
		}
	default:
		c.end(err)
	}
}

// decided publishes the value if it is ours. Another's value is published for it, but only after one more
// look at the leader: a write that comes late would hide a newer one. Which is safe, and costs a round.
func (c *Claim) decided(v Proposal) {
	c.value = v
	if c.ours(v) {
		c.publish()
		return
	}
	c.exposed = false
	c.otherWon = c.otherWon || v.Host != c.cfg.Self.Host
	c.read(checking, ReadLeader)
}

// ours asks for the generation too: an older incarnation's proposal, committed under our name, would be
// free for all at once, because that incarnation is gone (spec ondisk 9.2).
func (c *Claim) ours(v Proposal) bool {
	if c.cfg.mutant.breaks(anyGeneration) {
		return v.Host == c.cfg.Self.Host
	}
	return v.SameOwner(c.cfg.Self)
}

// void reports whether a decided value is ours and yet nobody will ever own the lease by it, so that it can
// be published as free: it was proposed by an incarnation before us, or we withdrew it.
func (c *Claim) void(v Proposal) bool {
	return v.Host == c.cfg.Self.Host && (!c.ours(v) || c.withdrawn)
}

func (c *Claim) checked(rec Record) {
	if rec.Round >= c.round {
		c.restart()
		return
	}
	c.publish()
}

// publish writes the leader, unless a majority of disks already has it.
func (c *Claim) publish() {
	if c.step == looking && c.survey.agree(c.record) >= c.need() {
		c.won = true
		c.end(nil)
		return
	}
	rec := Record{
		Round: c.round, Owner: c.value,
		Writer: c.cfg.Self.Host, WriterGen: c.cfg.Self.Generation, WrittenAt: c.now,
	}
	if c.void(c.value) {
		rec.Owner.Timestamp = 0
	}
	c.survey = survey{tally: newTally(c.cfg.Disks)}
	c.do(committing, Action{Do: WriteLeader, Record: rec})
}

// committed ends the claim if the leader names us; else the version has grown by one and we look again.
func (c *Claim) committed() {
	if c.survey.tally.count() < c.need() {
		c.end(c.survey.tally.failed(ErrNoCommit))
		return
	}
	rec := c.act.Record
	if c.ours(rec.Owner) && !rec.Free() {
		c.record, c.won = rec, true
		c.end(nil)
		return
	}
	if c.again(ErrOtherWon) {
		c.look()
	}
}
