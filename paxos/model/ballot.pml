/*
 * One round of the ballot of PROOF.md, section 2: HOSTS hosts decide on DISKS disks who owns the lease next.
 * It was written from PROOF.md and not from the code, to be a second opinion about the rules; the explorer
 * of explore_test.go walks the code. What is checked: all ballots that end have the same value.
 *
 *   spin -a -DHOSTS=2 -DDISKS=3 ballot.pml && cc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m1000000
 *
 * FAULTS transfers may fail; a write that failed may land later, before the next one to its sector. CRASHES
 * times a host may lose its memory and come back as a new generation, whose earlier writes are over.
 * -DFORGET, -DDEAF, -DNOADOPT and a smaller -DMAJORITY each break a rule; spin_test.go has what shows it.
 */
#ifndef HOSTS
#define HOSTS 2
#endif
#ifndef DISKS
#define DISKS 1
#endif
#ifndef TRIES
#define TRIES 2
#endif
#ifndef FAULTS
#define FAULTS 0
#endif
#ifndef CRASHES
#define CRASHES 0
#endif

#ifndef MAJORITY
#define MAJORITY (DISKS / 2 + 1)
#endif

/* A host's block: the ballot that it has begun, and its vote: ballot and value, 0 for none. */
typedef Block { byte mbal; byte bal; byte val };
typedef Disk { Block by[HOSTS] };
Disk disk[DISKS];

/* A write that was reported failed and is still on its way. */
typedef Writing { bit on; Block b };
typedef Lane { Writing to[DISKS] };
Lane late[HOSTS];

byte faults = FAULTS, crashes = CRASHES;
byte decided;

/* Writes our block to disk d. wrote says whether we were told that it is there. */
inline put() {
	atomic {
		!late[me].to[d].on ->
		if
		:: disk[d].by[me].mbal = mbal; disk[d].by[me].bal = bal; disk[d].by[me].val = val;
			wrote[d] = 1
		:: faults > 0 -> faults--; wrote[d] = 0
		:: faults > 0 -> faults--; wrote[d] = 0;
			late[me].to[d].on = 1;
			late[me].to[d].b.mbal = mbal; late[me].to[d].b.bal = bal; late[me].to[d].b.val = val
		fi
	}
}

/* Writes to every disk, in any order as far as the others can tell, and counts those that took it. */
inline putAll() {
	d = 0; good = 0;
	do
	:: d < DISKS -> put(); d_step { good = good + wrote[d]; d++ }
	:: else -> break
	od;
	d = 0
}

/* Reads disk d: all blocks, which may be of different moments where there are more than two hosts. */
inline get() {
	if
	:: h = 0;
		do
		:: h < HOSTS -> d_step {
				top = (disk[d].by[h].mbal > top -> disk[d].by[h].mbal : top);
				if
				:: disk[d].by[h].bal > best -> best = disk[d].by[h].bal; found = disk[d].by[h].val
				:: else
				fi;
				h++
			}
		:: else -> break
		od;
		h = 0; good = good + wrote[d]
	:: atomic { faults > 0 -> faults-- }
	fi
}

inline getAll() {
	d = 0; good = 0; top = 0;
	do
	:: d < DISKS -> get(); d++
	:: else -> break
	od;
	d = 0
}

/* Learns from a majority of disks what we have said in the round; memory is joined. */
inline look() {
	d = 0; good = 0; top = 0;
	do
	:: d < DISKS ->
		if
		:: d_step {
				h = 0;
				do
				:: h < HOSTS -> top = (disk[d].by[h].mbal > top -> disk[d].by[h].mbal : top); h++
				:: else -> break
				od;
				h = 0;
				if
				:: disk[d].by[me].bal > bal -> bal = disk[d].by[me].bal; val = disk[d].by[me].val
				:: else
				fi;
				good++
			}
		:: atomic { faults > 0 -> faults-- }
		fi;
		d++
	:: else -> break
	od;
	d = 0
}

/* The host may crash here. What of its writes was on the way is over when it comes back. */
inline maybeCrash() {
	if
	:: atomic {
			crashes > 0 -> crashes--;
			d = 0;
			do
			:: d < DISKS -> (!late[me].to[d].on); wrote[d] = 0; d++
			:: else -> break
			od;
			d = 0; h = 0; good = 0; top = 0; best = 0; found = 0; mbal = 0; bal = 0; val = 0;
			self = self + HOSTS; /* the next generation */
			goto join
		}
	:: skip
	fi
}

proctype host(byte me) {
	byte self = me + 1;
	byte mbal, bal, val;       /* our block */
	byte top, best, found;     /* of what was read */
	byte d, h, good, tries;
	bit wrote[DISKS];

join:
	do
	:: tries == TRIES -> break
	:: tries < TRIES ->
		tries++;
		look();
		if
		:: good < MAJORITY -> goto again
		:: else
		fi;
		d_step {
			top = (mbal > top -> mbal : top);
			mbal = (top / HOSTS) * HOSTS + HOSTS + me + 1; /* above all seen, and ours alone */
#ifdef FORGET
			bal = 0; val = 0
#endif
		}
		putAll();
		if
		:: good < MAJORITY -> goto again
		:: else
		fi;
		maybeCrash();
		d_step { best = bal; found = val }
		getAll();
		if
		:: good < MAJORITY || top > mbal -> goto again
		:: else
		fi;
		d_step {
			bal = mbal;
#ifdef NOADOPT
			val = self;
#else
			val = (best > 0 -> found : self);
#endif
			best = 0; found = 0
		}
		putAll();
		if
		:: good < MAJORITY -> goto again
		:: else
		fi;
		maybeCrash();
		getAll();
		d_step { best = 0; found = 0 }
		if
#ifdef DEAF
		:: good < MAJORITY -> goto again
#else
		:: good < MAJORITY || top > mbal -> goto again
#endif
		:: else
		fi;
		d_step {
			assert(decided == 0 || decided == val);
			decided = val
		}
		maybeCrash();
		break;
again:		skip;
		d_step { best = 0; found = 0; good = 0; top = 0; d = 0; h = 0 }
	od
}

/* Late writes land, or never do. */
proctype storage() {
	byte h, d;
end:
	do
	:: atomic {
		select(h : 0 .. HOSTS - 1); select(d : 0 .. DISKS - 1);
		if
		:: late[h].to[d].on ->
			if
			:: disk[d].by[h].mbal = late[h].to[d].b.mbal; disk[d].by[h].bal = late[h].to[d].b.bal;
				disk[d].by[h].val = late[h].to[d].b.val
			:: skip
			fi;
			late[h].to[d].on = 0;
			late[h].to[d].b.mbal = 0; late[h].to[d].b.bal = 0; late[h].to[d].b.val = 0
		:: else
		fi;
		h = 0; d = 0
	}
	od
}

init {
	byte i = 0;
	atomic {
		do
		:: i < HOSTS -> run host(i); i++
		:: else -> break
		od;
		if
		:: FAULTS > 0 -> run storage()
		:: else
		fi
	}
}
