package paxos

// mutant breaks one safety rule. Only tests set it, to show that the explorer would notice: the zero value,
// which is all that production ever has, breaks nothing.
type mutant uint8

const (
	sound          mutant = iota
	deafInPhase2          // a higher mbal seen in phase 2 does not stop the ballot
	noAdoption            // a value seen in phase 1 is not taken over
	minority              // one disk is enough
	anyGeneration         // a value of an older incarnation of our host counts as ours (spec ondisk 9.2)
	forgetVote            // phase 1 zeroes our own bal and input (spec ondisk 9.5)
	commitUnread          // the ballot ends with the phase 2 write
	skipBad               // a bad block is skipped
	commonNumbers         // ballot numbers are not reserved per host
	trustWriter           // an owner whose record another host wrote need not be marked released
	takeFromLiving        // the owner is alive: go on
	freeAnyRecord         // a release clears whatever record it finds
	reuseWithdrawn        // a round in which we withdrew a proposal can still be won by us
	freeUnmarked          // a release frees the leader although our released mark did not get to a majority
	stayBehind            // the round is the leader's plus one, whatever rounds the blocks show
	deafToRecord          // the leader record in phase reads is ignored
	dropRecheck           // the released mark is not looked at again in phase 1
)
