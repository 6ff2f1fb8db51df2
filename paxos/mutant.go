package paxos

// mutant breaks safety rules. Only tests set it, to show that the explorer would notice: the zero value,
// which is all that production ever has, breaks none.
type mutant uint32

const (
	deafInPhase2   mutant = 1 << iota // a greater mbal seen in phase 2 does not stop the ballot
	noAdoption                        // a value seen in phase 1 is not taken over
	minority                          // one disk is enough
	anyGeneration                     // an older incarnation's value counts as ours (spec ondisk 9.2)
	forgetVote                        // phase 1 zeroes our own bal and input (spec ondisk 9.5)
	commitUnread                      // the ballot ends with the phase 2 write
	skipBad                           // a bad block is skipped
	commonNumbers                     // ballot numbers are not reserved per host
	trustWriter                       // an owner whose record another host wrote need not be marked released
	takeFromLiving                    // the owner is alive: go on
	freeAnyRecord                     // a release clears whatever record it finds
	reuseWithdrawn                    // a round in which we gave up a proposal can still be won by us
	freeUnmarked                      // the leader is freed although our released mark did not get to a majority
	deafToRecord                      // the leader record in phase reads is ignored
	dropRecheck                       // the released mark is not looked at again in phase 1
	stayBehind                        // the round is the leader's plus one, whatever rounds the blocks show
)

func (m mutant) breaks(rule mutant) bool { return m&rule != 0 }

// majority is Majority, unless the mutant breaks it.
func (m mutant) majority(disks int) int {
	if m.breaks(minority) {
		return 1
	}
	return Majority(disks)
}
