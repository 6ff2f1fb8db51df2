package faulty

import (
	"sync"
)

// Rule decides over transfers. The rules of this package count what they see, also over several devices that
// share them.
type Rule interface {
	// decide is asked once about each transfer; settled means that another rule has decided already.
	decide(op Op, settled bool) (Action, bool)
}

// Match is a rule for the transfers that fit its conditions. Conditions are set before it is used.
type Match struct {
	kind     Kind
	off, end int64
	first    int // the first matching transfer that it decides over, from 0
	times    int // for how many; 0 means for ever
	action   Action

	mu    sync.Mutex
	seen  int
	fired int
	last  Op
}

// On is a rule for every transfer of a kind.
func On(k Kind, a Action) *Match { return &Match{kind: k, action: a} }

// OnIndex is a rule for one transfer of any kind: the n-th, counted from 0.
func OnIndex(n int, a Action) *Match { return On(Any, a).From(n).Times(1) }

// In limits the rule to transfers that touch [off, off+n).
func (m *Match) In(off, n int64) *Match {
	m.off, m.end = off, off+n
	return m
}

// From lets the first n matching transfers pass.
func (m *Match) From(n int) *Match {
	m.first = n
	return m
}

// Times limits the rule to n matching transfers.
func (m *Match) Times(n int) *Match {
	m.times = n
	return m
}

// Fired returns over how many transfers the rule has decided.
func (m *Match) Fired() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fired
}

// Seen returns how many transfers fitted the rule's kind and range.
func (m *Match) Seen() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen
}

// Last returns the transfer that the rule decided over last.
func (m *Match) Last() Op {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

func (m *Match) decide(op Op, settled bool) (Action, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kind != Any && m.kind != op.Kind || m.action.writesOnly() && op.Kind != Write {
		return Action{}, false
	}
	if m.end > m.off && (op.Off >= m.end || m.off >= op.Off+int64(op.Len)) {
		return Action{}, false
	}
	n := m.seen
	m.seen++
	if settled || n < m.first || m.times > 0 && n >= m.first+m.times {
		return Action{}, false
	}
	m.fired++
	m.last = op
	return m.action, true
}

// Counter is a rule made of rules, of which the first that matches decides. It knows whether any did.
type Counter struct {
	rules []Rule

	mu    sync.Mutex
	fired int
	last  Op
}

// Count returns a Counter of the given rules.
func Count(rules ...Rule) *Counter { return &Counter{rules: rules} }

// Fired returns over how many transfers the rules have decided.
func (c *Counter) Fired() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fired
}

// Last returns the transfer that was decided over last.
func (c *Counter) Last() Op {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *Counter) decide(op Op, settled bool) (action Action, ok bool) {
	for _, r := range c.rules {
		if a, fits := r.decide(op, settled || ok); fits && !ok {
			action, ok = a, true
		}
	}
	if ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fired++
		c.last = op
	}
	return action, ok
}
