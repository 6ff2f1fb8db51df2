package paxos

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
)

// The world that the explorer walks: disks, hosts that run the shipping machines on them, and everything
// that may go wrong. A world is a value: copying it is a snapshot.

const (
	worldHosts = 3
	worldDisks = 3
	worldRound = 16 // rounds remembered for the one-value-per-round check
)

var errFault = errors.New("fault")

// limits is what is left to happen. Each is spent by one kind of event.
type limits struct {
	claims  [worldHosts]int8 // acquires each host may start
	crashes int8
	joins   int8 // rejoins under a new generation
	faults  int8 // failed transfers without effect
	lates   int8 // writes reported failed that may land later
	losses  int8 // disks that stop answering, and may come back
	rot     int8 // blocks that stop verifying
}

// model is what does not change during a walk.
type model struct {
	name         string
	hosts, disks int
	tries        int
	stock        [worldHosts]bool
	shared       [worldHosts]bool // the host asks for shared mode
	genCheck     bool             // stock hosts check the generation of what they win (they do not)
	mutant       mutant
	torn         tearing // a view is not of one moment
	steady       bool    // transfers of stock hosts do not fail
	hasty        bool    // the driver does not wait for late writes: a mutant of the contract with drivers
	unordered    bool    // the device lets a write overtake an earlier one of the same sector: likewise
	limits       limits
	setup        func(*world) // the walk starts later than at an empty lease
}

type diskState struct {
	record Record
	blocks [worldHosts]Block
	lost   bool
}

// writing is a write that was reported failed, or whose host crashed, and that may still land.
type writing struct {
	block  bool
	leader bool
	b      Block
	r      Record
}

// tearing says which part of a view is read first.
type tearing uint8

const (
	whole tearing = iota
	recordFirst
	blocksFirst
)

type mode uint8

const (
	idle mode = iota
	claiming
	settling // something must be retired, once no write of ours is in flight
	holding
	sharing
	retiring
	crashed // does nothing, but its writes may land and its processes may still run
	gone    // fenced: nothing of it happens any more
)

type hostState struct {
	gen      uint64
	mode     mode
	believes bool // that it owns the lease exclusively
	shares   bool // that it holds the lease shared
	done     [worldDisks]bool
	late     [worldDisks]writing
	half     [worldDisks]bool // the first part of a torn read is done:
	first    [worldDisks]diskState

	claim  Claim
	stock  stockHost
	retire Retire
	job    RetireConfig // what retire does, kept for another try
	job2   mode         // what follows a successful retire
}

type world struct {
	disks   [worldDisks]diskState
	hosts   [worldHosts]hostState
	decided [worldRound]Proposal
	left    limits
	wrong   string // what went wrong, if anything did
}

type kind uint8

const (
	kDo kind = iota
	kFail
	kLate
	kLandBlock
	kLandLeader
	kDrop
	kAnswer
	kRelease
	kCrash
	kFence
	kLose
	kReturn
	kRot
)

// step is one event. Which transfer kDo, kFail and kLate mean follows from the host's machine.
type step struct {
	kind kind
	host int8
	disk int8
}

func newWorld(m *model) world {
	var w world
	w.left = m.limits
	for h := range m.hosts {
		w.hosts[h].gen = 1
	}
	if m.setup != nil {
		m.setup(&w)
	}
	for h := range m.hosts {
		w.settleLocal(m, h)
	}
	return w
}

func (w *world) action(m *model, h int) Action {
	s := &w.hosts[h]
	switch {
	case s.mode == claiming && m.stock[h]:
		return s.stock.next()
	case s.mode == claiming:
		return s.claim.Next()
	case s.mode == retiring:
		return s.retire.Next()
	}
	return Action{}
}

// steps appends every event that may happen now.
func (w *world) steps(m *model, out []step) []step {
	for h := range m.hosts {
		out = w.hostSteps(m, h, out)
	}
	for d := range m.disks {
		if w.disks[d].lost {
			out = append(out, step{kind: kReturn, disk: int8(d)})
		} else if w.left.losses > 0 {
			out = append(out, step{kind: kLose, disk: int8(d)})
		}
		for h := range m.hosts {
			if w.left.rot > 0 && w.disks[d].blocks[h].Mbal > 0 {
				out = append(out, step{kind: kRot, host: int8(h), disk: int8(d)})
			}
		}
	}
	return out
}

func (w *world) hostSteps(m *model, h int, out []step) []step {
	s := &w.hosts[h]
	add := func(k kind, d int) { out = append(out, step{kind: k, host: int8(h), disk: int8(d)}) }
	for d := range m.disks {
		if s.late[d].block {
			add(kLandBlock, d)
		}
		if s.late[d].leader {
			add(kLandLeader, d)
		}
		if s.mode != crashed && (s.late[d].block || s.late[d].leader) {
			add(kDrop, d)
		}
	}
	switch s.mode {
	case holding, sharing:
		add(kRelease, 0)
	case claiming, retiring:
		out = w.transfers(m, h, out)
	case crashed:
		add(kFence, 0)
	}
	if w.left.crashes > 0 && s.mode != crashed && s.mode != gone {
		add(kCrash, 0)
	}
	return out
}

func (w *world) transfers(m *model, h int, out []step) []step {
	s := &w.hosts[h]
	a := w.action(m, h)
	add := func(k kind, d int) { out = append(out, step{kind: k, host: int8(h), disk: int8(d)}) }
	if a.Do == Ask {
		add(kAnswer, 0)
	}
	if a.Do == Ask || a.Do == 0 {
		return out
	}
	for d := range m.disks {
		if s.done[d] {
			continue
		}
		write := a.Do == WriteBlock || a.Do == WriteLeader
		queued := !m.unordered &&
			(a.Do == WriteBlock && s.late[d].block || a.Do == WriteLeader && s.late[d].leader)
		if w.disks[d].lost {
			add(kFail, d)
			continue
		}
		if !queued {
			add(kDo, d)
			if write && w.left.lates > 0 && w.canBeLate(h, d, a.Do) && !m.stock[h] {
				add(kLate, d)
			}
		}
		if w.left.faults > 0 && (!m.steady || !m.stock[h]) {
			add(kFail, d)
		}
	}
	return out
}

// canBeLate: one late write per sector is enough to show what lateness does.
func (w *world) canBeLate(h, d int, do Do) bool {
	l := w.hosts[h].late[d]
	return do == WriteBlock && !l.block || do == WriteLeader && !l.leader
}

func (w *world) inFlight(h int) bool {
	for _, l := range w.hosts[h].late {
		if l.block || l.leader {
			return true
		}
	}
	return false
}

// apply lets one event happen.
func (w *world) apply(m *model, e step) {
	h, d := int(e.host), int(e.disk)
	s := &w.hosts[h]
	switch e.kind {
	case kDo, kFail, kLate:
		w.transfer(m, h, d, e.kind)
	case kLandBlock:
		w.disks[d].blocks[h] = s.late[d].b
		s.late[d].block, s.late[d].b = false, Block{}
		w.settleLocal(m, h)
	case kLandLeader:
		w.disks[d].record = s.late[d].r
		s.late[d].leader, s.late[d].r = false, Record{}
		w.settleLocal(m, h)
	case kDrop:
		s.late[d] = writing{}
		w.settleLocal(m, h)
	case kAnswer:
		w.answer(m, h)
		w.settleLocal(m, h)
	case kRelease:
		w.release(m, h)
	case kCrash:
		w.crash(m, h)
	case kFence:
		*s = hostState{gen: s.gen, mode: gone}
		if w.left.joins > 0 {
			w.left.joins--
			*s = hostState{gen: s.gen + 1}
			w.settleLocal(m, h)
		}
	case kLose:
		w.left.losses--
		w.disks[d].lost = true
	case kReturn:
		w.disks[d].lost = false
	case kRot:
		w.left.rot--
		w.disks[d].blocks[h] = Block{Bad: true}
	}
	w.judge(m)
}

// judge is the property: never two believers.
func (w *world) judge(m *model) {
	ex, sh := 0, 0
	for h := range m.hosts {
		if w.hosts[h].believes {
			ex++
		}
		if w.hosts[h].shares {
			sh++
		}
	}
	if ex > 1 || ex == 1 && sh > 0 {
		w.wrong = fmt.Sprintf("%d hosts believe they own the lease, %d that they share it", ex, sh)
	}
}

// decide notes what a host takes to be decided. Stock hosts forget votes, so with them around a round may be
// decided twice without anybody believing both.
func (w *world) decide(m *model, round uint64, v Proposal) {
	if slices.Contains(m.stock[:], true) {
		return
	}
	if round >= worldRound {
		panic("more rounds than the explorer remembers")
	}
	v.Timestamp = 0
	was := &w.decided[round]
	if was.Host == 0 {
		*was = v
	} else if !was.SameOwner(v) {
		w.wrong = fmt.Sprintf("round %d was decided for %v and for %v", round, *was, v)
	}
}

func (w *world) start(m *model, h int) {
	s := &w.hosts[h]
	w.left.claims[h]--
	s.mode = claiming
	self := Proposal{Host: uint64(h) + 1, Generation: s.gen}
	if m.stock[h] {
		s.stock = newStockHost(self, m.disks, uint64(m.hosts), m.genCheck)
	} else {
		s.claim = *NewClaim(ClaimConfig{
			Self: self, MaxHosts: uint64(m.hosts), Disks: m.disks, MaxTries: m.tries, mutant: m.mutant,
		})
		s.claim.SetTime(7)
	}
}

// transfer does, or fails, one disk's part of what the host's machine wants.
func (w *world) transfer(m *model, h, d int, k kind) {
	s := &w.hosts[h]
	a := w.action(m, h)
	disk := &w.disks[d]
	var err error
	if k != kDo {
		err = errFault
		if k == kFail && !disk.lost {
			w.left.faults--
		}
	}
	var v View
	if a.Do == Look && err == nil && m.torn != whole && !s.half[d] {
		s.half[d], s.first[d] = true, *disk
		if m.torn == recordFirst {
			s.first[d].blocks = [worldHosts]Block{}
		} else {
			s.first[d].record = Record{}
		}
		return
	}
	switch {
	case a.Do == Look && err == nil:
		v = w.view(m, h, d)
	case a.Do == ReadLeader && err == nil:
		v = View{Record: disk.record}
	case a.Do == WriteBlock && err == nil:
		disk.blocks[h] = a.Block
	case a.Do == WriteLeader && err == nil:
		disk.record = a.Record
	case k == kLate && a.Do == WriteBlock:
		w.left.lates--
		s.late[d].block, s.late[d].b = true, a.Block
	case k == kLate && a.Do == WriteLeader:
		w.left.lates--
		s.late[d].leader, s.late[d].r = true, a.Record
	}
	if a.Do == WriteLeader {
		w.decide(m, a.Record.Round, a.Record.Owner)
	}
	s.done[d] = true
	s.half[d], s.first[d] = false, diskState{}
	w.report(m, h, d, a, v, err)
	for d := range m.disks {
		if !s.done[d] {
			return
		}
	}
	s.done = [worldDisks]bool{}
	w.settleLocal(m, h)
}

// view is what a read ends with. Of a torn one the first part is older.
func (w *world) view(m *model, h, d int) View {
	s := &w.hosts[h]
	record, blocks := w.disks[d].record, w.disks[d].blocks
	switch m.torn {
	case recordFirst:
		record = s.first[d].record
	case blocksFirst:
		blocks = s.first[d].blocks
	case whole:
	}
	return View{Record: record, Blocks: append([]Block(nil), blocks[:m.hosts]...)}
}

func (w *world) report(m *model, h, d int, a Action, v View, err error) {
	s := &w.hosts[h]
	write := a.Do == WriteBlock || a.Do == WriteLeader
	switch {
	case s.mode == retiring && write:
		s.retire.Wrote(d, err)
	case s.mode == retiring:
		s.retire.Saw(d, v, err)
	case m.stock[h] && write:
		s.stock.wrote(d, err)
	case m.stock[h]:
		s.stock.saw(d, v, err)
	case write:
		s.claim.Wrote(d, err)
	default:
		s.claim.Saw(d, v, err)
	}
}

func (w *world) answer(m *model, h int) {
	s := &w.hosts[h]
	v := w.verdict(m, w.action(m, h).Owner)
	if m.stock[h] {
		s.stock.answered(v)
	} else {
		s.claim.Answered(v)
	}
}

// verdict is the oracle: it says Gone only when nothing of that incarnation can happen any more.
func (w *world) verdict(m *model, o Proposal) Verdict {
	if o.Host == 0 || o.Host > uint64(m.hosts) {
		return Gone
	}
	s := &w.hosts[o.Host-1]
	switch {
	case s.gen > o.Generation, s.gen == o.Generation && s.mode == gone:
		return Gone
	case s.mode == crashed || s.mode == gone:
		return Silent
	}
	return Alive
}

// settleLocal lets a host do at once what no other host can tell from doing it later: what needs no disk, up
// to where its next transfer can begin.
func (w *world) settleLocal(m *model, h int) {
	s := &w.hosts[h]
	for {
		a := w.action(m, h)
		switch {
		case s.mode == idle && w.left.claims[h] > 0 && (m.hasty || !w.inFlight(h)):
			w.start(m, h)
		case s.mode == settling && (m.hasty || !w.inFlight(h)):
			w.beginRetire(m, h)
		case a.Do == Pause && m.stock[h]:
			s.stock.resumed()
		case a.Do == Pause:
			s.claim.Resumed()
		case a.Do == Ask && w.left.crashes == 0 && w.verdict(m, a.Owner) != Silent:
			w.answer(m, h)
		case a.Do == Done:
			w.finish(m, h, a.Err)
		default:
			return
		}
	}
}

func (w *world) finish(m *model, h int, err error) {
	s := &w.hosts[h]
	switch {
	case s.mode == retiring && err == nil:
		s.mode = s.job2
		s.shares = s.mode == sharing
		s.retire = Retire{}
		if s.mode == idle {
			s.job = RetireConfig{}
		}
	case s.mode == retiring:
		s.mode, s.retire = settling, Retire{}
	case m.stock[h]:
		w.finishStock(m, h, err)
	default:
		w.finishClaim(m, h, err)
	}
}

// finishStock: a stock host that fails after its phase 2 write retracts, with a block of zeros.
func (w *world) finishStock(m *model, h int, err error) {
	s := &w.hosts[h]
	c := &s.stock
	s.mode = idle
	s.job = RetireConfig{Self: c.self, Round: c.round, Disks: m.disks}
	switch {
	case err == nil:
		s.mode, s.believes, s.job.Block = holding, true, c.block
	case c.exposed:
		s.mode = settling
	default:
		s.job = RetireConfig{}
	}
	s.job2, s.stock = idle, stockHost{}
}

func (w *world) finishClaim(m *model, h int, err error) {
	s := &w.hosts[h]
	c := &s.claim
	s.job = RetireConfig{
		Self: Proposal{Host: uint64(h) + 1, Generation: s.gen}, Round: c.Round(), Block: c.Block(),
		Disks: m.disks, mutant: m.mutant,
	}
	s.job2 = idle
	switch {
	case err != nil && c.Exposed():
		s.mode = settling
	case err != nil:
		s.mode, s.job = idle, RetireConfig{}
	case m.shared[h]:
		s.mode, s.job.Shared, s.job2 = settling, true, sharing
		w.decide(m, c.Round(), c.Record().Owner)
	case w.sharersAlive(c):
		s.mode = settling
		w.decide(m, c.Round(), c.Record().Owner)
	default:
		s.mode, s.believes = holding, true
		w.decide(m, c.Round(), c.Record().Owner)
	}
	s.claim = Claim{}
}

// sharersAlive is what a driver asks after a win; it does not look again at the blocks, which only makes it
// give way more often.
func (w *world) sharersAlive(c *Claim) bool {
	for _, o := range c.Sharers() {
		s := &w.hosts[o.Host-1]
		if s.gen == o.Generation && s.mode != gone {
			return true
		}
	}
	return false
}

func (w *world) release(m *model, h int) {
	s := &w.hosts[h]
	if s.mode == sharing {
		s.job.Shared, s.job2 = false, idle
	}
	s.believes, s.shares = false, false
	w.beginRetire(m, h)
}

func (w *world) beginRetire(m *model, h int) {
	s := &w.hosts[h]
	s.mode = retiring
	s.retire = *NewRetire(s.job)
	s.retire.cfg.mutant = m.mutant
}

// crash stops a host: what it was about to write may land as long as it is not fenced.
func (w *world) crash(m *model, h int) {
	w.left.crashes--
	s := &w.hosts[h]
	a := w.action(m, h)
	for d := range m.disks {
		if s.done[d] || w.disks[d].lost {
			continue
		}
		if a.Do == WriteBlock && !s.late[d].block {
			s.late[d].block, s.late[d].b = true, a.Block
		}
		if a.Do == WriteLeader && !s.late[d].leader {
			s.late[d].leader, s.late[d].r = true, a.Record
		}
	}
	*s = hostState{gen: s.gen, mode: crashed, believes: s.believes, shares: s.shares, late: s.late}
}

var seed = maphash.MakeSeed()

// key is the same for two worlds that can only do the same from now on. What no machine will look at again
// is left out, and disks are interchangeable. 64 bits: among a million worlds two share a key by accident
// with a probability of one in ten million. c is room for a copy.
//
//go:norace
func (w *world) key(m *model, c *world) uint64 {
	*c = *w
	var sharing [worldHosts][worldHosts]uint64
	for h := range m.hosts {
		s := &c.hosts[h]
		if s.mode == claiming && !m.stock[h] {
			for _, o := range append(s.claim.Sharers(), s.claim.ballot.Sharers()...) {
				sharing[h][o.Host-1] = o.Generation
			}
			s.claim.tidy()
		}
	}
	var sigs [worldDisks]uint64
	if m.disks > 1 {
		for d := range m.disks {
			sigs[d] = maphash.Comparable(seed, c.part(d, m))
			c.clearPart(d, m)
		}
		if !slices.Contains(m.stock[:], true) { // for stock the first disk is not like the others
			slices.Sort(sigs[:m.disks])
		}
	}
	var hash maphash.Hash
	hash.SetSeed(seed)
	maphash.WriteComparable(&hash, c.decided)
	maphash.WriteComparable(&hash, c.left)
	maphash.WriteComparable(&hash, sigs)
	maphash.WriteComparable(&hash, sharing)
	for d := range m.disks {
		maphash.WriteComparable(&hash, c.disks[d])
	}
	for h := range m.hosts {
		c.hosts[h].hash(&hash)
	}
	return hash.Sum64()
}

// hash takes in only the machine that is running: the others are zero.
//
//go:norace
func (s *hostState) hash(hash *maphash.Hash) {
	maphash.WriteComparable(hash, hostHead{s.gen, s.mode, s.believes, s.shares, s.done, s.late, s.job, s.job2})
	maphash.WriteComparable(hash, s.half)
	maphash.WriteComparable(hash, s.first)
	switch {
	case s.mode == retiring:
		maphash.WriteComparable(hash, s.retire)
	case s.stock.self.Host != 0:
		maphash.WriteComparable(hash, s.stock)
	case s.mode == claiming:
		maphash.WriteComparable(hash, s.claim)
	}
}

// hostHead is hostState without its machines.
type hostHead struct {
	gen      uint64
	mode     mode
	believes bool
	shares   bool
	done     [worldDisks]bool
	late     [worldDisks]writing
	job      RetireConfig
	job2     mode
}

// tidy clears what a claim will not read again.
func (c *Claim) tidy() {
	c.sharers, c.ballot.sharers = sharers{}, sharers{}
	c.survey.tally.cause, c.ballot.tally.cause = nil, nil
	if c.step != balloting {
		c.ballot = Ballot{}
	} else {
		c.survey = survey{}
	}
	if c.former == 0 {
		c.formers, c.ballot.cfg.FormerBlocks = [MaxDisks]Block{}, [MaxDisks]Block{}
	}
}

// diskPart is everything in a world that is about one disk.
type diskPart struct {
	state diskState
	done  [worldHosts]bool
	late  [worldHosts]writing

	reported, good, breported, bgood, wrote, rreported, rgood [worldHosts]bool
	records, rrecords                                         [worldHosts]Record
	owners, formers, bformers                                 [worldHosts]Block
}

//go:norace
func (w *world) part(d int, m *model) diskPart {
	p := diskPart{state: w.disks[d]}
	for h := range m.hosts {
		s := &w.hosts[h]
		p.done[h], p.late[h] = s.done[d], s.late[d]
		p.reported[h], p.good[h] = s.claim.survey.tally.reported[d], s.claim.survey.tally.good[d]
		p.breported[h], p.bgood[h] = s.claim.ballot.tally.reported[d], s.claim.ballot.tally.good[d]
		p.wrote[h] = s.claim.ballot.wrote[d]
		p.rreported[h], p.rgood[h] = s.retire.tally.reported[d], s.retire.tally.good[d]
		p.records[h], p.rrecords[h] = s.claim.survey.records[d], s.retire.records[d]
		p.owners[h], p.formers[h] = s.claim.survey.owners[d], s.claim.formers[d]
		p.bformers[h] = s.claim.ballot.cfg.FormerBlocks[d]
	}
	return p
}

//go:norace
func (w *world) clearPart(d int, m *model) {
	w.disks[d] = diskState{}
	for h := range m.hosts {
		s := &w.hosts[h]
		s.done[d], s.late[d] = false, writing{}
		s.claim.survey.tally.reported[d], s.claim.survey.tally.good[d] = false, false
		s.claim.ballot.tally.reported[d], s.claim.ballot.tally.good[d] = false, false
		s.claim.ballot.wrote[d] = false
		s.retire.tally.reported[d], s.retire.tally.good[d] = false, false
		s.claim.survey.records[d], s.retire.records[d] = Record{}, Record{}
		s.claim.survey.owners[d], s.claim.formers[d] = Block{}, Block{}
		s.claim.ballot.cfg.FormerBlocks[d] = Block{}
	}
}
