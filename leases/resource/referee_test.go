package resource

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tenurelock/tenure/leases"
)

// referee knows who believes to hold the lease, from the moment that it was told to the moment that it began
// to give it back or was reset, and which values the value block may have. It sees nothing of the disk.
type referee struct {
	began time.Time

	mu      sync.Mutex
	belief  map[leases.HostID]leases.Mode
	highest [2]uint64 // versions granted so far: all, and exclusive ones
	granted map[uint64]bool
	values  map[uint64]bool // of which one is on the disk
	dropped map[uint64]bool // that were written and then not found
	newest  uint64          // written last
	last    uint64          // ticket
	story   []string
	wrong   string // the first rule that was broken
	counts  map[string]int
}

func newReferee() *referee {
	return &referee{
		began: time.Now(), belief: map[leases.HostID]leases.Mode{}, granted: map[uint64]bool{},
		values: map[uint64]bool{0: true}, dropped: map[uint64]bool{}, counts: map[string]int{},
	}
}

// say adds a line to the story, up to the first foul. mu is held.
func (r *referee) say(format string, args ...any) {
	if r.wrong != "" {
		return
	}
	at := time.Since(r.began).Seconds()
	r.story = append(r.story, fmt.Sprintf("%10.4f  ", at)+fmt.Sprintf(format, args...))
}

func (r *referee) tell(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.say(format, args...)
}

// foul notes a broken rule. mu is held.
func (r *referee) foul(format string, args ...any) {
	r.say("WRONG: "+format, args...)
	if r.wrong == "" {
		r.wrong = fmt.Sprintf(format, args...)
	}
}

func (r *referee) protest(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.foul(format, args...)
}

// broken returns what went wrong first, with the story up to there, or "".
func (r *referee) broken() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrong == "" {
		return ""
	}
	const last = 60
	return r.wrong + "\n" + strings.Join(r.story[max(0, len(r.story)-last):], "\n")
}

func (r *referee) count(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what]++
}

// believes is called when a host comes to believe that it holds the lease in a mode, or, with 0, that it does
// not.
func (r *referee) believes(who leases.Owner, mode leases.Mode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if mode == r.belief[who.Host] {
		return
	}
	r.say("%v believes %v", who, mode)
	r.belief[who.Host] = mode
	for other, m := range r.belief {
		if other != who.Host && m != 0 && mode != 0 && (m == leases.Exclusive || mode == leases.Exclusive) {
			r.foul("%v holds the lease %v while host %d holds it %v", who, mode, other, m)
		}
	}
}

// grant is called with each version that a host was given. Every version is given once. An exclusive one is
// later than all that were given before; a shared one is later than all exclusive ones.
func (r *referee) grant(who leases.Owner, mode leases.Mode, version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.say("%v was given version %d %v", who, version, mode)
	r.counts[mode.String()]++
	before := r.highest[1]
	if mode == leases.Exclusive {
		before = r.highest[0]
	}
	if r.granted[version] || version <= before {
		r.foul("%v was given version %d after %d", who, version, before)
	}
	r.granted[version] = true
	r.highest[0] = max(r.highest[0], version)
	if mode == leases.Exclusive {
		r.highest[1] = version
	}
}

// ticket returns a value that was never written before.
func (r *referee) ticket() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	return r.last
}

// sees is called with the value that a holder has read: from now on it is that one.
func (r *referee) sees(who leases.Owner, value uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.say("%v finds the value %d", who, value)
	if !r.values[value] {
		r.foul("%v finds the value %d, which can only be of %v", who, value, r.values)
	}
	for v := range r.values {
		if v != value {
			r.dropped[v] = true
		}
	}
	r.values = map[uint64]bool{value: true}
}

// writes is called before a holder lets a new value be written, and wrote when it was told that this is on
// the disk. In between, or if it failed, the value may be there or not.
func (r *referee) writes(who leases.Owner, value uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.say("%v writes the value %d", who, value)
	r.values[value] = true
	delete(r.dropped, value) // this is another try
	r.newest = value
}

func (r *referee) wrote(who leases.Owner, value uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.say("%v has written the value %d", who, value)
	r.counts["value"]++
	switch {
	case r.dropped[value]:
		r.foul("%v has written the value %d, and others found an older one", who, value)
	case r.newest == value:
		r.values = map[uint64]bool{value: true}
	}
}
