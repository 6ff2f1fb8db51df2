package sanlockcli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// searchSteps is how many offsets, one MiB apart, are looked at for a record that states its sizes.
const searchSteps = 1024

// extent is what dump and next_free look at: size bytes from offset, or with size 0 as far as there is
// something known.
type extent struct {
	place
	size uint64
}

// parseExtent reads PATH[:OFFSET[:SIZE]]. A colon of the path is written as \: and numbers may end in M.
func parseExtent(s string) extent {
	var parts []string
	var part strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == ':':
			part.WriteByte(':')
			i++
		case s[i] == ':':
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(s[i])
		}
	}
	parts = append(parts, part.String())
	e := extent{place: place{path: parts[0]}}
	if len(parts) > 1 {
		e.offset = bytesOf(parts[1])
	}
	if len(parts) == 3 {
		e.size = bytesOf(parts[2])
	}
	return e
}

// bytesOf reads a number of bytes, or of MiB when it ends in M. What is no number is 0.
func bytesOf(s string) uint64 {
	digits, negative := strings.CutPrefix(s, "-")
	n, _ := leadingDigits(digits, 10)
	if negative {
		n = -n
	}
	if strings.HasSuffix(s, "M") {
		n *= ondisk.MiB
	}
	return n
}

func (d *direct) dump(ctx context.Context) int {
	e := parseExtent(d.area)
	if e.path == "" {
		return 1
	}
	dev, err := device.Open(e.path, device.Options{ReadOnly: true})
	if err != nil {
		fmt.Fprintf(d.out, "Device %s not found.\n", e.path)
		return 1
	}
	defer dev.Close()
	if e.offset%ondisk.MiB != 0 {
		fmt.Fprintf(d.out, "WARNING: dump offset should be a multiple of %d bytes.\n", ondisk.MiB)
	}
	g := ondisk.Geometry{Sector: d.sector, Align: d.align}
	if g.Sector == 0 || g.Align == 0 {
		if g = d.search(ctx, dev, e); g.Sector == 0 {
			fmt.Fprintln(d.out, "Cannot find sector_size and align_size, set with -A and -Z.")
		}
	}
	if g.Align == 0 {
		return 1
	}
	last := "lver"
	if d.force > 0 {
		last = "lver/req/mode"
	}
	fmt.Fprintf(d.out, "%8s %36s %48s %10s %4s %4s %s\n",
		"offset", "lockspace", "resource", "timestamp", "own", "gen", last)
	if possibleSector(g.Sector) {
		d.dumpAreas(ctx, dev, e, g)
	}
	return 0
}

// search returns the sizes that the first lockspace or resource on a MiB boundary from e's offset states, or
// zeros.
func (d *direct) search(ctx context.Context, dev device.Device, e extent) ondisk.Geometry {
	for i := range uint64(searchSteps) {
		if e.size != 0 && i*ondisk.MiB >= e.size {
			break
		}
		g, err := d.probe(ctx, dev, e.offset+i*ondisk.MiB)
		switch {
		case err == nil && g.Sector != 0:
			return g
		case err != nil && !errors.Is(err, errNoSizes):
			return ondisk.Geometry{}
		}
	}
	return ondisk.Geometry{}
}

// dumpAreas prints area after area until the extent or the device ends, or, if the extent has no whole
// sector, until an area begins with something unknown.
func (d *direct) dumpAreas(ctx context.Context, dev device.Device, e extent, g ondisk.Geometry) {
	size := e.size - e.size%uint64(g.Sector)
	for off := e.offset; size == 0 || off < e.offset+size; off += uint64(g.Align) {
		b, err := d.read(ctx, dev, off, g.Align)
		if err != nil {
			return
		}
		known := d.dumpArea(b.Bytes(), off, g)
		b.Release()
		if !known && size == 0 {
			return
		}
	}
}

func (d *direct) dumpArea(area []byte, off uint64, g ondisk.Geometry) (known bool) {
	l, err := ondisk.DecodeLeader(area)
	if err != nil {
		return false
	}
	switch l.Magic {
	case ondisk.DeltaMagic:
		d.dumpLockspace(area, off, g)
	case ondisk.PaxosMagic:
		d.dumpResource(area, off, g)
	case ondisk.IndexMagic:
		d.dumpIndex(area, off, g)
	default:
		return false
	}
	return true
}

// dumpLockspace prints a row for every sector that was ever used.
func (d *direct) dumpLockspace(area []byte, off uint64, g ondisk.Geometry) {
	for at := 0; at+g.Sector <= len(area); at += g.Sector {
		l, err := ondisk.DecodeLeader(area[at:])
		if err != nil || l.Magic == 0 || l.OwnerID == 0 && l.OwnerGeneration == 0 {
			continue
		}
		d.dumpRow(off+uint64(at), &l)
		if d.force > 0 {
			for _, host := range ondisk.BitmapHosts(area[at:]) {
				fmt.Fprintf(d.out, " %d", host)
			}
		}
		fmt.Fprintln(d.out)
	}
}

// dumpResource prints a row for the leader and one for each shared holder.
func (d *direct) dumpResource(area []byte, off uint64, g ondisk.Geometry) {
	l, err := ondisk.DecodeLeader(area)
	if err != nil {
		return
	}
	d.dumpRow(off, &l)
	fmt.Fprintf(d.out, " %d", l.LVer)
	if r, err := ondisk.DecodeRequest(area[g.Sector:]); err == nil && d.force > 0 {
		fmt.Fprintf(d.out, "/%d/%d", r.LVer, r.ForceMode)
	}
	fmt.Fprintln(d.out)
	hosts := min(l.NumHosts, uint64(g.Align/g.Sector-2))
	for host := uint64(1); host <= hosts; host++ {
		b, err := ondisk.DecodeHostBlock(area[g.BlockOffset(host):])
		if err != nil {
			return
		}
		if d.force > 1 && (b.MBal != 0 || b.Inp != 0 || b.LVer != 0) {
			fmt.Fprintf(d.out, "dblock[%04d] mbal %d bal %d inp %d inp2 %d inp3 %d lver %d sum %x\n",
				host-1, b.MBal, b.Bal, b.Inp, b.Inp2, b.Inp3, b.LVer, b.Checksum)
		}
		if b.Shared() {
			fmt.Fprintf(d.out, "%106s%04d %04d SH\n", "", host, b.Mode.Generation)
		}
	}
}

func (d *direct) dumpRow(off uint64, l *ondisk.Leader) {
	fmt.Fprintf(d.out, "%08d %s %s %010d %04d %04d", off, right(l.SpaceName.String(), 36),
		right(l.ResourceName.String(), 48), l.Timestamp, l.OwnerID, l.OwnerGeneration)
}

func (d *direct) dumpIndex(area []byte, off uint64, g ondisk.Geometry) {
	h, err := ondisk.DecodeIndexHeader(area)
	if err != nil {
		return
	}
	space := right(h.Space.String(), 36)
	fmt.Fprintf(d.out, "%08d %s rindex_header 0x%x %d %d %d\n",
		off, space, h.Flags, h.SectorSize, h.MaxResources, h.Offset)
	if d.force == 0 {
		return
	}
	for at := g.Sector; at+ondisk.IndexEntrySize <= len(area); at += ondisk.IndexEntrySize {
		if e, err := ondisk.DecodeIndexEntry(area[at:]); err == nil && !e.IsFree() {
			fmt.Fprintf(d.out, "%08d %s rentry %s %d\n", off+uint64(at), space, e.Name, e.Offset)
		}
	}
}

// right pads s on the left to width bytes; a name need not be UTF-8, and its bytes are what stock counts.
func right(s string, width int) string { return strings.Repeat(" ", max(0, width-len(s))) + s }

// nextFree prints the offset, from the one given, of the first area that begins with nothing known. The sizes
// are those of -Z and -A or else searched for; where stock has neither it takes what its stack holds.
func (d *direct) nextFree(ctx context.Context) int {
	e := parseExtent(d.area)
	if e.path == "" {
		return 1
	}
	dev, err := device.Open(e.path, device.Options{ReadOnly: true})
	if err != nil {
		return 1
	}
	defer dev.Close()
	g := ondisk.Geometry{Sector: d.sector, Align: d.align}
	if g.Sector == 0 || g.Align == 0 {
		if g = d.search(ctx, dev, e); !g.Legal() {
			return 1
		}
	}
	var at uint64
	for d.inUse(ctx, dev, e.offset+at, g.Sector) {
		at += uint64(g.Align)
	}
	fmt.Fprintln(d.out, at)
	return 0
}

// inUse reports whether a known record lies at off. The end of the device is free: a file can grow.
func (d *direct) inUse(ctx context.Context, dev device.Device, off uint64, sector int) bool {
	l, err := d.record(ctx, dev, off, sector)
	if err != nil {
		return false
	}
	return l.Magic == ondisk.DeltaMagic || l.Magic == ondisk.PaxosMagic || l.Magic == ondisk.IndexMagic
}
