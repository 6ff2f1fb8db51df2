package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/tools/rig/record"
)

// holderOptions are the holder's flags.
type holderOptions struct {
	name, device, space, resource string
	records                       string
	offset, area                  int64
	every                         time.Duration
	ignoreTerm, guarded, enforced bool
	version                       uint64
}

// holder takes a lease from the daemon of this guest and writes records to a shared area as long as it lives,
// saying what it does and whether the area holds anything else than it should.
func holder(args []string) error {
	o := holderOptions{}
	flags := flag.NewFlagSet("holder", flag.ContinueOnError)
	flags.StringVar(&o.name, "name", "", "who writes: the host's name")
	flags.StringVar(&o.device, "device", "/dev/rig/disk0", "the disk of the lease")
	flags.StringVar(&o.records, "records", "", "the disk of the records; the lease's if empty")
	flags.StringVar(&o.space, "space", "LS", "lockspace, which the daemon has joined")
	flags.StringVar(&o.resource, "resource", "RES", "resource")
	flags.Int64Var(&o.offset, "offset", 1<<20, "of the lease, in bytes")
	flags.Int64Var(&o.area, "area", 16<<20, "offset of the records, in bytes")
	flags.DurationVar(&o.every, "every", 200*time.Millisecond, "time between records")
	flags.BoolVar(&o.ignoreTerm, "ignore-term", false, "do not end by SIGTERM")
	flags.BoolVar(&o.guarded, "guard", false, "ask whether the lease is still valid right before each record, and end if not")
	flags.BoolVar(&o.enforced, "enforce", false, "let the kernel kill the holder when the daemon would")
	flags.Uint64Var(&o.version, "no-lease", 0, "write without a lease, as if one of this version were held")
	if err := flags.Parse(args); err != nil {
		return err
	}
	go o.terminate()
	rests := make(chan os.Signal, 1)
	signal.Notify(rests, syscall.SIGUSR1)
	version := o.version
	if version == 0 {
		lease, granted, err := o.acquire(context.Background())
		if err != nil {
			return fmt.Errorf("acquire: %w", err)
		}
		defer lease.Close()
		version = granted
	}
	fmt.Println("granted lver", version)
	if o.records == "" {
		o.records = o.device
	}
	log, err := openRecords(o.records, o.area)
	if err != nil {
		return err
	}
	return o.write(log, version, rests)
}

// terminate says each SIGTERM, and ends the holder by it as long as its disk lets a process end.
func (o holderOptions) terminate() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	for range signals {
		fmt.Println("got SIGTERM")
		if !o.ignoreTerm {
			os.Exit(0)
		}
	}
}

// acquire returns the connection whose end gives the lease back, and the lease's version: the number that
// grows with each owner.
func (o holderOptions) acquire(ctx context.Context) (*client.Conn, uint64, error) {
	conn, err := client.Dial(ctx, "")
	if err != nil {
		return nil, 0, err
	}
	r := sanlockwire.Resource{
		Space: leases.NameOf(o.space), Name: leases.NameOf(o.resource), Disks: []sanlockwire.Disk{{Path: o.device, Offset: uint64(o.offset)}},
	}
	if err := conn.Register(ctx); err != nil {
		return nil, 0, errors.Join(err, conn.Close())
	}
	if err := conn.Acquire(ctx, client.Self, 0, o.name, r); err != nil {
		return nil, 0, errors.Join(err, conn.Close())
	}
	var version uint64
	err = client.Do(ctx, "", func(c *client.Conn) error {
		held, err := c.Inquire(ctx, uint32(os.Getpid()))
		if err == nil && len(held) != 1 {
			err = fmt.Errorf("the daemon says that we hold %d leases", len(held))
		}
		if err == nil {
			version = held[0].LVer
		}
		return err
	})
	return conn, version, err
}

// rest keeps still right before a record, for long enough to be frozen meanwhile. It looks at the time so often that of
// all that a thawed machine's timers call, it comes first.
func rest() {
	const resting, look = 20 * time.Second, 10 * time.Millisecond
	fmt.Println("rests")
	for began := time.Now(); time.Since(began) < resting; {
		time.Sleep(look)
	}
}

// write adds a record, looks at all others, and says what is wrong, for ever. An error of the disk is said and
// tried again: whether the holder may go on is for the lease daemon to decide.
func (o holderOptions) write(log *records, version uint64, rests <-chan os.Signal) error {
	if err := log.read(); err != nil {
		return fmt.Errorf("read the records: %w", err)
	}
	guard := client.NewGuard("", o.space, monotime.System())
	if o.enforced {
		if err := guard.Enforce(); err != nil {
			return err
		}
	}
	journal := record.NewJournal(o.name, version, log.image(), log.sector)
	for {
		for _, text := range journal.Check(log.image()) {
			fmt.Println(text)
		}
		slot, r := journal.Next()
		select {
		case <-rests:
			rest()
		default:
		}
		if o.guarded || o.enforced {
			if err := check(guard); err != nil && o.guarded {
				return err
			}
		}
		err := log.write(slot, r)
		if err == nil {
			fmt.Println("wrote", r.Sequence)
			journal.Wrote(slot, r)
		} else {
			fmt.Println("write error", r.Sequence, err)
			journal.Maybe(slot, r)
		}
		time.Sleep(o.every)
		for err := log.read(); err != nil; err = log.read() {
			fmt.Println("read error", err)
			time.Sleep(o.every)
		}
	}
}

// guardWait is how long the daemon may take to say whether the lease is valid.
const guardWait = 2 * time.Second

func check(g *client.Guard) error {
	ctx, cancel := context.WithTimeout(context.Background(), guardWait)
	defer cancel()
	return g.Check(ctx)
}

// records is the shared area, read and written past the page cache of the guest.
type records struct {
	fd      int
	base    int64
	sector  int
	area    []byte // aligned, as O_DIRECT needs
	scratch []byte
}

func openRecords(device string, base int64) (*records, error) {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	sector, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
	if err != nil {
		return nil, fmt.Errorf("sector size of %s: %w", device, err)
	}
	memory, err := unix.Mmap(-1, 0, (record.Slots+1)*sector, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	cut := record.Slots * sector
	return &records{fd: fd, base: base, sector: sector, area: memory[:cut], scratch: memory[cut:]}, nil
}

func (r *records) image() []byte { return r.area }

func (r *records) read() error { return whole(unix.Pread(r.fd, r.area, r.base))(len(r.area)) }

func (r *records) write(slot int, content record.Record) error {
	clear(r.scratch)
	content.Encode(r.scratch)
	return whole(unix.Pwrite(r.fd, r.scratch, r.base+int64(slot*r.sector)))(len(r.scratch))
}

// whole makes an error of a transfer that moved less than want.
func whole(n int, err error) func(want int) error {
	return func(want int) error {
		if err == nil && n != want {
			err = fmt.Errorf("%d of %d bytes moved", n, want)
		}
		return err
	}
}
