package sanlockcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// The verbs of `sanlock direct` work on the storage without a daemon, in stock's words and with stock's exit
// codes: 0 when the verb's result is 0, else 1. What stock prints from uninitialised memory is printed as
// zeros.

// place is a path and a byte offset on it.
type place struct {
	path   string
	offset uint64
}

// directArgs is what the command line says, as far as these verbs want to know.
type directArgs struct {
	verb string
	area string // PATH[:OFFSET[:SIZE]] of dump and next_free

	space     leases.Name // -s LOCKSPACE
	host      uint64
	spaceDisk place

	resourceSpace leases.Name // the first -r RESOURCE
	resource      leases.Name
	resourceDisk  place

	indexSpace leases.Name // -x RINDEX
	indexDisk  place
	entry      leases.Name // -e NAME:OFFSET
	entryAt    uint64

	sector, align int    // -Z, -A in bytes; 0 = not given
	ioTimeout     uint32 // -o, seconds; 0 means 10
	numHosts      uint64 // -n
	clear         bool   // -z
	force         uint32 // -f
	file          string // -F
	self          uint64 // -i
	generation    uint64 // -g
	hostName      string // -e, for the verbs on host ids
}

// direct runs one verb.
type direct struct {
	directArgs
	out   io.Writer
	clock monotime.Clock
}

// run runs the verb and returns the exit code.
func (d *direct) run(ctx context.Context) int {
	switch d.verb {
	case "init":
		return d.done("init", d.format(ctx))
	case "dump":
		return d.dump(ctx)
	case "next_free":
		return d.nextFree(ctx)
	case "read_leader":
		return d.readLeader(ctx)
	case "write_leader":
		return d.writeLeader(ctx)
	case "acquire":
		return d.done("acquire", d.acquire(ctx))
	case "release":
		return d.done("release", d.release(ctx))
	case "acquire_id":
		return d.done("acquire_id", d.acquireID(ctx))
	case "renew_id":
		return d.done("rewew_id", d.renewID(ctx)) // as stock spells it
	case "release_id":
		return d.done("release_id", d.releaseID(ctx))
	case "format":
		return d.done("format", d.formatIndex(ctx))
	case "lookup":
		return d.lookup(ctx)
	case "update":
		return d.done("update", d.update(ctx))
	case "rebuild":
		return d.done("rebuild", d.rebuild(ctx))
	}
	fmt.Fprintf(d.out, "direct action %q is unknown\n", d.verb)
	return 1
}

// done prints a verb's result as stock does and returns the exit code.
func (d *direct) done(verb string, err error) int {
	rv := result(err)
	fmt.Fprintf(d.out, "%s done %d\n", verb, rv)
	return exitCode(rv)
}

func exitCode(rv int) int {
	if rv == 0 {
		return 0
	}
	return 1
}

// result is an error's number in stock's count.
func result(err error) int {
	var n bareResult
	var op *device.OpError
	var format *ondisk.FormatError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &n):
		return int(n)
	case errors.As(err, &format):
		return int(sanlockwire.ResultOf(&leases.Error{Kind: format.Kind, Err: err}))
	case errors.Is(err, device.ErrShort) && errors.As(err, &op) && op.Op == "write":
		return -int(unix.ENOSPC)
	case errors.Is(err, device.ErrShort):
		return -int(unix.EMSGSIZE)
	case errors.Is(err, device.ErrMisaligned), errors.Is(err, device.ErrNoDirectIO):
		return -int(unix.EINVAL)
	case errors.Is(err, device.ErrNotStorage):
		return notStorage(err)
	}
	return int(sanlockwire.ResultOf(err))
}

// notStorage is the number of the system call that stock fails in: open of a directory, a transfer otherwise.
func notStorage(err error) int {
	if op, ok := errors.AsType[*device.OpError](err); ok {
		if info, err := os.Stat(op.Device); err == nil && info.IsDir() {
			return -int(unix.EISDIR)
		}
	}
	return -int(unix.EINVAL)
}

// bareResult is a number that stock has no name for.
type bareResult int

func (n bareResult) Error() string { return fmt.Sprintf("result %d", int(n)) }

const (
	errHalfSizes = bareResult(-1) // only one of sector and align size given
	errNoPlace   = bareResult(-1) // nothing on the command line says where
	errNoSizes   = bareResult(-1) // what lies there does not say its sizes
	errNoDevice  = bareResult(-int(unix.ENODEV))
	errInvalid   = bareResult(-int(unix.EINVAL))
)

// oneIO bounds each transfer.
func (d *direct) oneIO() time.Duration { return time.Duration(d.seconds()) * time.Second }

func (d *direct) seconds() uint32 {
	if d.ioTimeout == 0 {
		return 10
	}
	return d.ioTimeout
}

// geometry returns the sizes to format with.
func (d *direct) geometry(dev device.Device) (ondisk.Geometry, error) {
	g := ondisk.Geometry{Sector: d.sector, Align: d.align}
	if g.Align == 0 {
		g = ondisk.DefaultGeometry(dev.Geometry().SectorSize)
	}
	if !g.Legal() {
		return g, errInvalid
	}
	return g, nil
}

// halfSizes reports whether only one size is given. A sector size that does not exist is none, as in stock.
func (d *direct) halfSizes() bool { return possibleSector(d.sector) != (d.align != 0) }

// read returns n bytes, to be released by the caller.
func (d *direct) read(ctx context.Context, dev device.Device, off uint64, n int) (*device.Buffer, error) {
	if off > 1<<62 {
		return nil, errInvalid
	}
	ctx, cancel := context.WithTimeout(ctx, d.oneIO())
	defer cancel()
	return dev.Read(ctx, int64(off), n)
}

func (d *direct) write(ctx context.Context, dev device.Device, off uint64, p []byte) error {
	if off > 1<<62 {
		return errInvalid
	}
	ctx, cancel := context.WithTimeout(ctx, d.oneIO())
	defer cancel()
	b := device.NewBuffer(len(p))
	copy(b.Bytes(), p)
	return dev.Write(ctx, int64(off), b)
}

// probe learns the sizes of what lies at off from its first record.
func (d *direct) probe(ctx context.Context, dev device.Device, off uint64) (ondisk.Geometry, error) {
	b, err := d.read(ctx, dev, off, ondisk.ProbeLength)
	if err != nil {
		return ondisk.Geometry{}, err
	}
	defer b.Release()
	l, err := ondisk.DecodeLeader(b.Bytes())
	if err != nil {
		return ondisk.Geometry{}, err
	}
	if l.Magic != ondisk.DeltaMagic && l.Magic != ondisk.PaxosMagic {
		return ondisk.Geometry{}, errNoSizes
	}
	g := ondisk.Geometry{Sector: int(l.SectorSize), Align: ondisk.AlignOf(l.Flags)}
	if g.Align == 0 && possibleSector(g.Sector) {
		g.Align = l.Geometry().Align
	}
	return g, nil
}

func possibleSector(n int) bool { return n == 512 || n == 4096 }
