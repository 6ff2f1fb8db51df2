package sanlockcli

import (
	"context"
	"io"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases/monotime"
)

// runDirect runs the verb that o names and returns the exit code.
func runDirect(o *Options, stdout io.Writer) int {
	d := &direct{directArgs: directArgsOf(o), out: stdout, clock: monotime.System()}
	return d.run(context.Background())
}

func directArgsOf(o *Options) directArgs {
	a := directArgs{
		verb: o.Action, area: o.Area,
		space: o.Lockspace.Name, host: o.Lockspace.HostID, spaceDisk: placeOf(o.Lockspace.Disk),
		indexSpace: o.Rindex.Space, indexDisk: placeOf(o.Rindex.Disk), entry: o.Entry.Name, entryAt: o.Entry.Offset,
		sector: o.SectorSize, align: o.AlignSize, ioTimeout: o.IOTimeout(), numHosts: uint64(max(0, o.NumHosts)),
		clear: o.Clear, force: uint32(int32(o.Force)), file: o.File,
		self: o.HostID, generation: o.Generation, hostName: o.HostName,
	}
	if len(o.Resources) > 0 && len(o.Resources[0].Disks) > 0 {
		r := o.Resources[0]
		a.resourceSpace, a.resource, a.resourceDisk = r.Space, r.Name, placeOf(r.Disks[0])
	}
	return a
}

func placeOf(d sanlockwire.Disk) place { return place{d.Path, d.Offset} }
