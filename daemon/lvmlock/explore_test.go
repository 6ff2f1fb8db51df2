package lvmlock

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// The explorer walks through every order of events of a small world: some clients with some requests each,
// which may close at any moment, and a lock manager that may refuse every call. After each event it holds the
// machine against the promises in (*world).check, and against a ledger of what the clients were told.

// world is one state.
type world struct {
	l       *Locks
	truth   lvmwire.Mode // what the lock manager holds for this host
	call    *Call
	clients []visitor
	faults  int // how often the lock manager may still say no
	lasting lvmwire.Mode
	fading  bool   // the persistent lock may be given back: its client never heard of it
	told    string // the first broken promise
	past    *event
}

// event is how a state was reached, for the story of a broken promise.
type event struct {
	before *event
	what   string
}

func (e *event) String() string {
	if e == nil {
		return ""
	}
	return e.before.String() + "\n    " + e.what
}

// visitor is a client as the test knows it.
type visitor struct {
	left    int // requests it may still make
	ask     *Ask
	gone    bool
	holds   lvmwire.Mode // in its own name, as it was told
	pending bool         // gone, but its ask is not answered yet
	locked  bool         // its last answer says that an LV was locked for it
	flags   lvmwire.Flags
}

// scope is which worlds are walked through.
type scope struct {
	kind      lvmwire.Kind
	clients   int
	requests  int // of each client
	faults    int
	unheard   bool // answers may be lost
	removed   bool // a value block may say that the VG is removed
	phases    func() []phase
	done      func(*Locks, Outcome)
	statesMax int
	large     bool // too large for -short
}

// walk visits every state that can be reached and returns how many there are, and the first broken promise.
func walk(sc scope) (states, moves int, broken string) {
	w := world{l: NewLocks(Resource{Kind: sc.kind, Name: "r"}), faults: sc.faults}
	if sc.phases != nil {
		w.l.phases = sc.phases()
	}
	if sc.done == nil {
		sc.done = (*Locks).Done
	}
	for range sc.clients {
		w.clients = append(w.clients, visitor{left: sc.requests})
	}
	seen := map[string]bool{w.key(): true}
	todo := []world{w}
	for len(todo) > 0 && len(seen) < sc.statesMax {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, next := range w.moves(sc) {
			moves++
			if next.told != "" {
				return len(seen), moves, next.told + next.past.String()
			}
			if k := next.key(); !seen[k] {
				seen[k] = true
				todo = append(todo, next)
			}
		}
	}
	if len(todo) > 0 {
		return len(seen), moves, "the world is larger than statesMax"
	}
	return len(seen), moves, ""
}

// moves are the states that one event can lead to.
func (w *world) moves(sc scope) []world {
	var out []world
	do := func(what string, happens func(*world)) {
		n := w.clone()
		n.past = &event{before: w.past, what: what}
		happens(&n)
		n.settle()
		out = append(out, n)
	}
	for c := range w.clients {
		v := &w.clients[c]
		if v.gone {
			continue
		}
		do(fmt.Sprint(c+1, " closes"), func(n *world) { n.leave(c) })
		if v.ask != nil || v.left == 0 {
			continue
		}
		for _, a := range requests(sc.kind) {
			what := fmt.Sprintf("%d asks op %d mode %d flags %d", c+1, a.Op, a.Mode, a.Flags)
			do(what, func(n *world) { n.request(c, a) })
		}
		if sc.unheard && v.locked {
			do(fmt.Sprint(c+1, " was not reached"), func(n *world) { n.lose(c) })
		}
	}
	if w.call != nil {
		do("the lock manager agrees", func(n *world) { n.ended(sc, Outcome{}) })
		if w.faults > 0 {
			for _, e := range []*Error{{Result: lvmwire.Again, Retry: true}, {Result: lvmwire.LockIO}} {
				do(fmt.Sprint("the lock manager says ", e.Result), func(n *world) {
					n.faults--
					n.ended(sc, Outcome{Err: e})
				})
			}
		}
		if sc.removed && w.call.Kind == CallLock {
			removed := Outcome{Value: Value{Version: 1, Set: true, Removed: true}}
			do("the VG is removed", func(n *world) { n.ended(sc, removed) })
		}
	} else if w.l.Pause() {
		do("time passes", func(n *world) { n.l.Resume() })
	}
	return out
}

// requests are all that a client can ask of a kind of resource.
func requests(k lvmwire.Kind) []Ask {
	var all []Ask
	for _, m := range []lvmwire.Mode{lvmwire.UN, lvmwire.SH, lvmwire.EX} {
		all = append(all, Ask{Op: lvmwire.OpLock, Mode: m})
		if k == lvmwire.LV {
			all = append(all, Ask{Op: lvmwire.OpLock, Mode: m, Flags: lvmwire.Persistent})
		}
	}
	switch k {
	case lvmwire.GL:
		all = append(all, Ask{Op: lvmwire.OpDisable})
	case lvmwire.VG:
		all = append(all, Ask{Op: lvmwire.OpUpdate, Version: 2})
	default:
	}
	return all
}

func (w *world) request(c int, a Ask) {
	a.Client, a.MaxRetries = ClientID(c+1), 0
	v := &w.clients[c]
	v.ask = &a
	v.left--
	w.l.Ask(v.ask)
}

func (w *world) leave(c int) {
	v := &w.clients[c]
	v.gone, v.pending, v.holds = true, v.ask != nil, lvmwire.UN
	w.l.Close(ClientID(c + 1))
}

// lose tells that a client's last answer, a lock, did not reach it; such a client closes.
func (w *world) lose(c int) {
	v := &w.clients[c]
	w.fading = w.fading || v.flags&lvmwire.Persistent != 0
	w.l.Undelivered(Answer{Ask: &Ask{Client: ClientID(c + 1), Flags: v.flags}, Flags: lvmwire.LVLock})
	w.leave(c)
}

// ended is what the lock manager does with the call that is under way.
func (w *world) ended(sc scope, o Outcome) {
	if o.Err == nil && w.call.Kind <= CallUnlock {
		w.truth = w.call.To
	}
	w.call = nil
	sc.done(w.l, o)
	w.hear(nil)
}

// settle is Step, with a look at the ledger after each phase that did something.
func (w *world) settle() {
	for w.l.under == nil {
		before := slices.Clone(w.l.queue)
		if !w.l.pass() {
			break
		}
		w.hear(before)
		if w.l.under != nil {
			w.called(w.l.under.call)
		}
	}
	if _, due := w.l.Step(); due && w.told == "" {
		w.broken("Step began a second call")
	}
	w.check()
}

func (w *world) broken(format string, args ...any) {
	if w.told == "" {
		w.told = fmt.Sprintf(format, args...)
	}
}

// called looks whether a call makes sense to the lock manager.
func (w *world) called(c Call) {
	ok := true
	switch c.Kind {
	case CallLock:
		ok = w.truth == lvmwire.UN && c.From == lvmwire.UN && c.To > lvmwire.NL
	case CallConvert:
		ok = w.truth == c.From && c.From > lvmwire.NL && c.To > lvmwire.NL && c.From != c.To
	case CallUnlock:
		ok = w.truth == c.From && c.From > lvmwire.NL && c.To == lvmwire.UN
	case CallEnable, CallDisable:
		ok = w.truth == lvmwire.UN
	}
	if !ok || w.call != nil {
		w.broken("call %+v while the lock manager holds %v, under way %v", c, w.truth, w.call)
	}
	w.call = &c
}

// hear books the answers. before is the queue that the phase found.
func (w *world) hear(before []*Ask) {
	for _, a := range w.l.Answers() {
		v := &w.clients[a.Ask.Client-1]
		if v.ask != a.Ask || v.gone && !v.pending {
			w.broken("client %d hears of a request that it did not make, or twice: %+v", a.Ask.Client, a)
			continue
		}
		v.ask, v.pending = nil, false
		v.locked, v.flags = a.Flags&lvmwire.LVLock != 0, a.Ask.Flags
		if a.Result == lvmwire.OK && a.Ask.Op == lvmwire.OpLock {
			w.book(v, a.Ask, before)
		}
	}
	w.compare()
}

// book is the naive second machine: what a client may believe after OK.
func (w *world) book(v *visitor, a *Ask, before []*Ask) {
	mine := &v.holds
	if v.gone {
		mine = new(lvmwire.Mode) // the machine gives it back
	}
	switch {
	case a.Flags&lvmwire.Persistent != 0 && a.Mode == lvmwire.UN:
		w.lasting = lvmwire.UN
	case a.Flags&lvmwire.Persistent != 0:
		if w.lasting == lvmwire.UN && *mine == lvmwire.UN {
			w.inTurn(a, before)
		} else if w.lasting == lvmwire.UN {
			*mine = lvmwire.UN
		}
		w.lasting, w.fading = a.Mode, v.gone
	case a.Mode == lvmwire.UN:
		*mine = lvmwire.UN
	case *mine == lvmwire.UN && w.lasting != lvmwire.UN:
		if w.lasting != lvmwire.EX && a.Mode == lvmwire.EX {
			w.broken("EX was granted off a persistent SH")
		}
	default:
		if *mine == lvmwire.UN {
			w.inTurn(a, before)
		}
		*mine = a.Mode
	}
}

// inTurn looks whether a new lock passed someone who wanted EX before.
func (w *world) inTurn(a *Ask, before []*Ask) {
	for _, b := range before {
		if b == a {
			return
		}
		if b.Op == lvmwire.OpLock && b.Mode == lvmwire.EX && w.l.queued(b) && a.Mode == lvmwire.SH {
			w.broken("client %d got SH past client %d, which wants EX", a.Client, b.Client)
		}
	}
}

func (l *Locks) queued(a *Ask) bool { return slices.Contains(l.queue, a) }

// compare holds the machine's holders against the ledger.
func (w *world) compare() {
	var lasting lvmwire.Mode
	own := make([]lvmwire.Mode, len(w.clients))
	for _, h := range w.l.Holders() {
		if h.Mode == lvmwire.EX && len(w.l.Holders()) > 1 {
			w.broken("EX is not alone: %v", w.l.Holders())
		}
		if h.Mode != w.truth {
			w.broken("a holder has %v, the lock manager %v", h.Mode, w.truth)
		}
		place := &lasting
		if !h.Persistent {
			place = &own[h.Client-1]
		}
		if *place != lvmwire.UN {
			w.broken("two locks of one: %v", w.l.Holders())
		}
		*place = h.Mode
	}
	if w.fading && lasting == lvmwire.UN {
		w.lasting = lvmwire.UN
	}
	if lasting != w.lasting {
		w.broken("the persistent lock is %v, told was %v", lasting, w.lasting)
	}
	for c, v := range w.clients {
		if !v.gone && own[c] != v.holds {
			w.broken("client %d holds %v, told was %v", c+1, own[c], v.holds)
		}
	}
}

// check is what must be true whenever nothing can be done any more without the lock manager or time.
func (w *world) check() {
	if w.l.Mode() != w.truth {
		w.broken("mode is %v, the lock manager holds %v", w.l.Mode(), w.truth)
	}
	if w.call != nil || w.l.Pause() {
		return
	}
	holders := w.l.Holders()
	if w.truth != lvmwire.UN && len(holders) == 0 {
		w.broken("nobody has the lock that the lock manager holds")
	}
	for _, h := range holders {
		if !h.Persistent && w.clients[h.Client-1].gone {
			w.broken("client %d is gone and holds %v", h.Client, h.Mode)
		}
	}
	writer := false // someone who wants EX waits
	for _, a := range w.l.Waiting() {
		writer = writer || a.Mode == lvmwire.EX
		if a.Op != lvmwire.OpLock || w.truth == lvmwire.UN || w.truth == lvmwire.SH && !writer {
			w.broken("client %d waits for nothing: %+v", a.Client, *a)
		}
	}
	for c, v := range w.clients {
		if v.ask != nil && (v.gone || !w.l.queued(v.ask)) {
			w.broken("client %d will never be answered", c+1)
		}
	}
}

// clone copies a state so that the copy can go on by itself.
func (w *world) clone() world {
	n := *w
	asks := map[*Ask]*Ask{nil: nil}
	twin := func(a *Ask) *Ask {
		if asks[a] == nil && a != nil {
			b := *a
			asks[a] = &b
		}
		return asks[a]
	}
	l := *w.l
	l.holders, l.closing, l.queue = slices.Clone(l.holders), slices.Clone(l.closing), slices.Clone(l.queue)
	for i := range l.queue {
		l.queue[i] = twin(l.queue[i])
	}
	if l.under != nil {
		j := *l.under
		j.ask = twin(j.ask)
		l.under = &j
	}
	n.l = &l
	n.clients = slices.Clone(w.clients)
	for i := range n.clients {
		n.clients[i].ask = twin(n.clients[i].ask)
	}
	return n
}

// key tells states apart. All its numbers are small.
func (w *world) key() string {
	b := make([]byte, 0, 128)
	flag := func(is ...bool) {
		for _, f := range is {
			b = append(b, '0')
			if f {
				b[len(b)-1] = '1'
			}
		}
	}
	number := func(ns ...int) {
		for _, n := range ns {
			b = append(strconv.AppendInt(b, int64(n), 10), ' ')
		}
	}
	l := w.l
	number(int(w.truth), int(l.mode), int(l.known.version), int(l.last), w.faults, int(w.lasting))
	flag(l.known.empty, l.stray, w.fading)
	for _, h := range l.holders {
		b = append(b, " h"...)
		number(int(h.Client), int(h.Mode), int(h.Version))
	}
	for _, d := range l.closing {
		b = append(b, " c"...)
		number(int(d.client))
		flag(d.paused)
	}
	for _, a := range l.queue {
		b = append(b, " q"...)
		number(int(a.Client), int(a.Op), int(a.Mode), int(a.Flags), a.retries, int(ResultOf(a.said)))
		flag(a.paused, l.under != nil && l.under.ask == a)
	}
	if w.call != nil {
		b = append(b, " call"...)
		number(int(w.call.Kind), int(w.call.To))
		flag(l.under.ask == nil, l.under.holder == nil, w.call.Value == nil)
	}
	for _, v := range w.clients {
		b = append(b, " v"...)
		number(v.left, int(v.holds), int(v.flags))
		flag(v.ask != nil, v.gone, v.pending, v.locked)
	}
	return string(b)
}

func TestLocksExplored(t *testing.T) {
	for _, sc := range []scope{
		{kind: lvmwire.LV, clients: 2, requests: 2, faults: 2, unheard: true},
		{kind: lvmwire.LV, clients: 3, requests: 1, faults: 1, unheard: true, large: true},
		{kind: lvmwire.VG, clients: 2, requests: 3, faults: 2, removed: true},
		{kind: lvmwire.VG, clients: 3, requests: 2, large: true},
		{kind: lvmwire.GL, clients: 3, requests: 1, faults: 2},
	} {
		if sc.large && testing.Short() {
			continue
		}
		sc.statesMax = 2_000_000
		states, moves, broken := walk(sc)
		name := fmt.Sprintf("kind %d, %d clients, %d requests each, %d faults",
			sc.kind, sc.clients, sc.requests, sc.faults)
		if broken != "" {
			t.Errorf("%s: %s", name, broken)
		}
		t.Logf("%s: %d states, %d moves", name, states, moves)
	}
}
