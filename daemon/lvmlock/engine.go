package lvmlock

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// Bounds of what an Engine keeps. Beyond them it answers NoMemory.
const (
	maxClients   = 4096
	maxSpaces    = 1024
	maxLanes     = 1 << 16 // resources of one lockspace
	maxCalls     = 32      // calls on the lock manager under way for one lockspace
	maxRefusals  = 64      // refused locks that a lockspace remembers
	maxAdoptions = 8       // lockspaces that are adopted side by side
)

// Config says what an Engine is made of.
type Config struct {
	// Managers are the lock managers, at most one of a type, in the order in which they are looked for.
	Managers []LockManager
	Log      zerolog.Logger
	// GL is the type of the global lock; NoType: that of the first request that names one.
	GL lvmwire.LockType
	// HostID is given to VGs that are started without one, 0: none.
	HostID uint64
	// Dialect is the habit to follow where the two versions differ and a reply cannot be both; 0 means
	// Dialect40.
	Dialect lvmwire.Dialect
	// Test makes running_lm answer the type of the global lock, as lvmlockd --test does.
	Test bool
	// Adopt says that Adopt will be called. Until it has found out which VGs it will take over, they are
	// starting.
	Adopt bool
	// Active returns the device-mapper UUIDs of the active LVs, for adoption. nil: every LV counts as active.
	Active func(ctx context.Context) ([]string, error)
}

// Validate returns every complaint.
func (c Config) Validate() error {
	var errs []error
	seen := map[lvmwire.LockType]bool{}
	for _, m := range c.Managers {
		if t := m.Type(); seen[t] || t == lvmwire.NoType || t == lvmwire.UnknownType {
			errs = append(errs, fmt.Errorf("lock managers: type %d is given twice or is none", t))
		}
		seen[m.Type()] = true
	}
	if len(c.Managers) == 0 {
		errs = append(errs, errors.New("lock managers: give at least one"))
	}
	if c.GL != lvmwire.NoType && !seen[c.GL] {
		errs = append(errs, fmt.Errorf("global lock: no lock manager of type %d is given", c.GL))
	}
	if c.Dialect != 0 && c.Dialect != lvmwire.Dialect16 && c.Dialect != lvmwire.Dialect40 {
		errs = append(errs, fmt.Errorf("dialect: %d is neither 16 nor 40", c.Dialect))
	}
	return errors.Join(errs...)
}

// Engine knows the lockspaces of this host and who holds which lock. Its methods may be called from anywhere.
type Engine struct {
	cfg        Config
	log        zerolog.Logger
	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	changed    chan struct{}
	discovered chan struct{} // closed when it is known what will be adopted

	mu         sync.Mutex
	work       sync.WaitGroup // of all goroutines; added to only while not closed
	closed     bool
	lastClient ClientID
	lastSpace  uint64
	clients    map[ClientID]*Client
	spaces     map[string]*space
	global     global
	news       chan struct{} // closed, and replaced, when the state of a lockspace changed
	claims     map[string]chan struct{}
	adopting   bool // discovered is not closed yet
	// accompanying is how many VGs were started of which lvm_global is not in spaces yet.
	accompanying int
	missed       []*adoptVG // what could not be adopted: it stays in the adopt file for the next try
	updates      int        // LV locks taken so far
}

// New returns an Engine without lockspaces.
func New(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("lvmlock: %w", err)
	}
	if cfg.Dialect == 0 {
		cfg.Dialect = lvmwire.Dialect40
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Engine{
		cfg: cfg, log: cfg.Log, ctx: ctx, cancel: cancel,
		changed: make(chan struct{}, 1), discovered: make(chan struct{}),
		clients: map[ClientID]*Client{}, spaces: map[string]*space{}, news: make(chan struct{}),
		claims: map[string]chan struct{}{}, global: global{typ: cfg.GL, preset: cfg.GL != lvmwire.NoType},
		adopting: cfg.Adopt,
	}
	if !cfg.Adopt {
		close(e.discovered)
	}
	return e, nil
}

// Close ends the Engine and waits for its goroutines. Lockspaces stay joined and locks stay held, as if the
// process had died; what waits is answered Canceled.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.work.Wait()
}

// spawn runs f in a goroutine that Close waits for, and says whether it did.
func (e *Engine) spawn(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.work.Go(f)
	return true
}

// manager returns the lock manager of a type, nil if there is none.
func (e *Engine) manager(t lvmwire.LockType) LockManager {
	for _, m := range e.cfg.Managers {
		if m.Type() == t {
			return m
		}
	}
	return nil
}

// unsupported says that a type is one that lvmlockd knows, and this Engine has no lock manager for it.
func (e *Engine) unsupported(t lvmwire.LockType) bool {
	return t > lvmwire.NoType && e.manager(t) == nil
}

// Changed tells that AdoptText has news: the adopt file should be written.
func (e *Engine) Changed() <-chan struct{} { return e.changed }

// touch makes Changed tell.
func (e *Engine) touch() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// announce wakes those who wait for a lockspace to start or end. e.mu is held.
func (e *Engine) announce() {
	close(e.news)
	e.news = make(chan struct{})
}

// await calls f, with e.mu held, until it says true: at once and after every change of a lockspace.
func (e *Engine) await(ctx context.Context, f func() bool) error {
	for {
		e.mu.Lock()
		ok, news := f(), e.news
		e.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
	}
}

// claim waits until nobody else does slow work on a VG's lock area; release must be called.
func (e *Engine) claim(ctx context.Context, vg string) (release func(), err error) {
	for {
		e.mu.Lock()
		busy, taken := e.claims[vg]
		if !taken {
			mine := make(chan struct{})
			e.claims[vg] = mine
			e.mu.Unlock()
			return func() {
				e.mu.Lock()
				delete(e.claims, vg)
				e.mu.Unlock()
				close(mine)
			}, nil
		}
		e.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Quit says whether the daemon may end: false while lockspaces exist.
func (e *Engine) Quit() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.spaces) == 0
}
