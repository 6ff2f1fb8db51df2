package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// How long a turn of the throughput and contention sections takes, and how often each takes its turn.
const (
	throughputTime   = 4 * time.Second
	throughputRounds = 3
	throughputN      = 16 // clients, each with a lease of its own
	contentionTime   = 10 * time.Second
	contentionRounds = 3
	contentionN      = 2 // clients per host, all on one lease
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
	return resource{"LS", fmt.Sprintf("R%d", i), f.disk.path, int64(i) * mib}
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
			n, err := together(throughputN, throughputTime, func(i int) (player, error) {
				return freeClient(f.daemons[who][0], f.lease(i+1))
			})
			if err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
			rates[who] = append(rates[who], float64(n)/throughputTime.Seconds())
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

// contentionSection counts the grants when two hosts with two clients each fight for one lease: two hosts of
// ours, two of Debian's.
func (b *bench) contentionSection() (err error) {
	const s = "contention"
	f, err := b.newField(s, 1, 2)
	if err != nil {
		return err
	}
	defer f.close(&err)
	b.say("2 hosts x %d clients on one lease: %d rounds of 2 x %v", contentionN, contentionRounds,
		contentionTime)
	rates := map[string][]float64{}
	for range contentionRounds {
		for _, who := range []string{ours, theirs} {
			n, err := together(2*contentionN, contentionTime, func(i int) (player, error) {
				return greedyClient(f.daemons[who][i/contentionN], f.lease(1))
			})
			if err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
			rates[who] = append(rates[who], float64(n)/contentionTime.Seconds())
		}
	}
	mine := b.report.add(s, "2 hosts x 2 clients, 1 lease", ours, "grants/s", rates[ours])
	stock := b.report.add(s, "2 hosts x 2 clients, 1 lease", theirs, "grants/s", rates[theirs])
	b.report.note(s, "grants over Debian's", mine/stock)
	return nil
}

// greedyClient asks again after a short pause when it is refused, and after each release.
func greedyClient(d *daemon, r resource) (player, error) {
	c, err := client(d.runDir)
	if err != nil {
		return player{}, err
	}
	return player{func() (bool, error) {
		defer time.Sleep(rand.N(pauseMax))
		if rv, err := c.acquire(r, 0); err != nil || rv != 0 {
			return false, err
		}
		if rv, err := c.release(r); err != nil || rv != 0 {
			return false, fmt.Errorf("release: %d, %w", rv, err)
		}
		return true, nil
	}, c.Close}, nil
}

// together lets n clients do steps for some time and returns how many steps succeeded.
func together(n int, long time.Duration, enter func(i int) (player, error)) (int64, error) {
	var count atomic.Int64
	var wg sync.WaitGroup
	errs := [64]error{}
	until := time.Now().Add(long)
	for i := range n {
		p, err := enter(i)
		if err != nil {
			return 0, err
		}
		wg.Go(func() {
			for errs[i] == nil && time.Now().Before(until) {
				var ok bool
				if ok, errs[i] = p.step(); ok {
					count.Add(1)
				}
			}
			errs[i] = errors.Join(errs[i], p.end())
		})
	}
	wg.Wait()
	return count.Load(), errors.Join(errs[:]...)
}
