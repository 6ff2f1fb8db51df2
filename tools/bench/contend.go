package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// How long a turn of the throughput and contention sections takes, and how often each takes its turn.
const (
	throughputTime   = 4 * time.Second
	throughputRounds = 3
	throughputN      = 16 // clients, each with a lease of its own
	contentionTime   = 10 * time.Second
	contentionRounds = 3
	pauseMax         = 10 * time.Millisecond
)

// field is a lockspace and leases on one device, and daemons that have joined.
type field struct {
	disk    *loop
	daemons map[string][]*daemon
	close   func(*error)
}

// newField formats a lockspace with leases R1 to Rn and lets daemons of both programs join.
func (b *bench) newField(name string, leases, hosts int) (*field, error) {
	disk, err := b.newLoop(name, int64(leases+1)*mib)
	if err != nil {
		return nil, err
	}
	f := &field{disk: disk, daemons: map[string][]*daemon{}}
	f.close = func(err *error) {
		for _, ds := range f.daemons {
			for _, d := range ds {
				d.stop()
			}
		}
		disk.close(err)
	}
	err = b.init("-s", "LS:0:"+disk.path+":0", "-o", fmt.Sprint(ioTimeout))
	for i := 1; i <= leases && err == nil; i++ {
		r := f.lease(i)
		err = b.init("-r", fmt.Sprintf("%s:%s:%s:%d", r.space, r.name, r.path, r.offset))
	}
	if err == nil {
		err = b.populate(f, hosts)
	}
	if err != nil {
		f.close(&err)
		return nil, err
	}
	return f, nil
}

func (b *bench) populate(f *field, hosts int) error {
	id := uint64(0)
	for _, who := range []string{ours, theirs} {
		for range hosts {
			id++
			d, err := b.start(who, id)
			if err != nil {
				return err
			}
			f.daemons[who] = append(f.daemons[who], d)
			if err := d.join(f.disk.path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *field) lease(i int) resource {
	return resource{space: "LS", name: fmt.Sprintf("R%d", i), path: f.disk.path, offset: int64(i) * mib}
}

// throughputSection counts how many acquire+release cycles 16 clients do together, each on its own lease.
func (b *bench) throughputSection() (err error) {
	const s = "throughput"
	f, err := b.newField(s, throughputN, 1)
	if err != nil {
		return err
	}
	defer f.close(&err)
	b.say("%d clients, a lease each: %d rounds of 2 x %v", throughputN, throughputRounds, throughputTime)
	rates := map[string][]float64{}
	for range throughputRounds {
		for _, who := range []string{ours, theirs} {
			counts, err := together(throughputN, throughputTime, func(i int) (player, error) {
				return freeClient(f.daemons[who][0], f.lease(i+1))
			})
			if err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
			rates[who] = append(rates[who], float64(total(counts))/throughputTime.Seconds())
		}
	}
	mine := b.report.add(s, "16 clients, 16 leases", ours, "cycles/s", rates[ours])
	stock := b.report.add(s, "16 clients, 16 leases", theirs, "cycles/s", rates[theirs])
	b.report.atLeast(s, "cycles over Debian's", mine/stock, limitThroughput)
	return nil
}

// player is a client that takes part for a while. step reports whether it got the lease.
type player struct {
	step func() (bool, error)
	end  func() error
}

// freeClient is a client of a lease that nobody else wants.
func freeClient(d *daemon, r resource) (player, error) {
	c, err := client(d.runDir)
	if err != nil {
		return player{}, err
	}
	return player{func() (bool, error) {
		_, err := cycles(c, r, 1)
		return true, err
	}, c.Close}, nil
}

// fight is a way to contend for one lease: hosts with clients each, all of one program, some of whose asks are
// for a shared hold.
type fight struct {
	what          string
	hosts, each   int
	sharedPercent int
}

var fights = []fight{
	{"2 hosts x 2 clients, 40 % SH", 2, 2, 40},
	{"3 hosts x 1 client, EX", 3, 1, 0},
}

// contentionSection counts the grants when hosts of ours, or of Debian's, fight for one lease, and what the
// client gets that gets least.
func (b *bench) contentionSection() (err error) {
	f, err := b.newField("contention", 1, 3)
	if err != nil {
		return err
	}
	defer f.close(&err)
	for _, g := range fights {
		if err := b.contend(f, g); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) contend(f *field, g fight) error {
	const s = "contention"
	b.say("%s: %d rounds of 2 x %v", g.what, contentionRounds, contentionTime)
	rates := map[string][]float64{}
	worst := map[string][]float64{}
	for range contentionRounds {
		for _, who := range []string{ours, theirs} {
			counts, err := together(g.hosts*g.each, contentionTime, func(i int) (player, error) {
				return greedyClient(f.daemons[who][i/g.each], f.lease(1), g.sharedPercent)
			})
			if err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
			all := total(counts)
			rates[who] = append(rates[who], float64(all)/contentionTime.Seconds())
			share := float64(slices.Min(counts)) * float64(len(counts)) / float64(max(all, 1))
			worst[who] = append(worst[who], share)
		}
	}
	mine := b.report.add(s, g.what, ours, "grants/s", rates[ours])
	stock := b.report.add(s, g.what, theirs, "grants/s", rates[theirs])
	fair := b.report.add(s, g.what, ours, "least over fair share", worst[ours])
	b.report.add(s, g.what, theirs, "least over fair share", worst[theirs])
	b.report.atLeast(s, g.what+", grants over Debian's", mine/stock, limitContention)
	b.report.atLeast(s, g.what+", least over fair share", fair, limitFairness)
	return nil
}

// greedyClient asks again after a short pause when it is refused, and after each release.
func greedyClient(d *daemon, r resource, sharedPercent int) (player, error) {
	c, err := client(d.runDir)
	if err != nil {
		return player{}, err
	}
	return player{func() (bool, error) {
		defer time.Sleep(rand.N(pauseMax))
		r.shared = rand.IntN(100) < sharedPercent
		if rv, err := c.acquire(r, 0); err != nil || rv != 0 {
			return false, err
		}
		if rv, err := c.release(r); err != nil || rv != 0 {
			return false, fmt.Errorf("release: %d, %w", rv, err)
		}
		return true, nil
	}, c.Close}, nil
}

// together lets n clients do steps for some time and returns how many steps of each succeeded.
func together(n int, long time.Duration, enter func(i int) (player, error)) ([]int64, error) {
	counts := make([]int64, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	until := time.Now().Add(long)
	for i := range n {
		p, err := enter(i)
		if err != nil {
			wg.Wait()
			return nil, err
		}
		wg.Go(func() {
			for errs[i] == nil && time.Now().Before(until) {
				var ok bool
				if ok, errs[i] = p.step(); ok {
					counts[i]++
				}
			}
			errs[i] = errors.Join(errs[i], p.end())
		})
	}
	wg.Wait()
	return counts, errors.Join(errs...)
}

func total(counts []int64) (sum int64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}
