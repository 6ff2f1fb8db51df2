package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// lastLine returns the last line of a program's output, which is where sanlock prints the result.
func lastLine(out string) string { return out[strings.LastIndexByte(out, '\n')+1:] }

// awaitLine reads lines until one has the prefix, and returns it; the rest is read and dropped, so that the
// program never waits for us.
func awaitLine(r io.Reader, prefix string) string {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			go func() { _, _ = io.Copy(io.Discard, r) }()
			return lines.Text()
		}
	}
	return ""
}

// explain puts the number at the end of a result line into words.
func explain(answer string) string {
	number, err := strconv.ParseInt(lastField(answer), 10, 32)
	switch {
	case err != nil:
		return fmt.Sprintf("no answer (%q)", answer)
	case number == 0:
		return "granted (0)"
	}
	return fmt.Sprintf("refused, %v", sanlockwire.ErrorOf(int32(number)))
}

func lastField(s string) string { return s[strings.LastIndexByte(s, ' ')+1:] }

// stateOf asks host 2's daemon what it thinks of a host: the STATE of `sanlock client gets -h 1`.
func (d *demonstration) stateOf(ctx context.Context, id int) (string, error) {
	out, err := d.sanlock(ctx, d.hosts[1], "client", "gets", "-h", "1")
	if err != nil {
		return "", fmt.Errorf("ask host 2 for its host table: %w: %s", err, out)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, fmt.Sprintf("h %d ", id)) {
			return lastField(strings.TrimSpace(line)), nil
		}
	}
	return "", fmt.Errorf("host 2 does not list host %d: %s", id, out)
}

// lastSeen asks host 2's daemon when it last saw a host's timestamp change.
func (d *demonstration) lastSeen(ctx context.Context, id int) (monotime.Instant, error) {
	out, err := d.sanlock(ctx, d.hosts[1], "client", "host_status", "-s", demoSpace, "-D")
	if err != nil {
		return 0, fmt.Errorf("ask host 2 for its host table: %w: %s", err, out)
	}
	mine := false
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, " ") {
			mine = strings.HasPrefix(line, fmt.Sprintf("%d ", id))
		}
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "last_live="); ok && mine {
			seconds, err := strconv.ParseInt(value, 10, 64)
			return monotime.Instant(time.Duration(seconds) * time.Second), err
		}
	}
	return 0, fmt.Errorf("host 2's daemon does not say when it last saw host %d: %s", id, out)
}

// showArea says in words what lies on the device.
func (d *demonstration) showArea(ctx context.Context) error {
	dev, err := device.Open(d.area, device.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer dev.Close()
	area, err := dev.Read(ctx, 0, 2*areaSize)
	if err != nil {
		return err
	}
	defer area.Release()
	p := area.Bytes()
	d.say("on the device:")
	used := 0
	for host := range uint64(ondisk.MaxHosts) {
		l, err := ondisk.DecodeLeader(p[host*512:])
		if err != nil {
			return err
		}
		if l.OwnerID == 0 {
			continue
		}
		used++
		if l.Timestamp == 0 {
			d.say("  host id %d is free; %q had it last, generation %d", host+1, l.ResourceName, l.OwnerGeneration)
			continue
		}
		d.say("  host id %d belongs to %q, generation %d, renewed at second %d of its clock",
			host+1, l.ResourceName, l.OwnerGeneration, l.Timestamp)
	}
	if used == 0 {
		l, err := ondisk.DecodeLeader(p)
		if err != nil {
			return err
		}
		d.say("  lockspace %q with room for %d hosts, none has joined yet", l.SpaceName, l.Geometry().MaxHosts())
	}
	return d.showLease(p[areaSize:])
}

func (d *demonstration) showLease(p []byte) error {
	l, err := ondisk.DecodeLeader(p)
	if err != nil {
		return err
	}
	switch {
	case l.Timestamp != 0:
		d.say("  lease %q, version %d: held by host %d, generation %d, since second %d of its clock",
			l.ResourceName, l.LVer, l.OwnerID, l.OwnerGeneration, l.Timestamp)
	case l.LVer == 0:
		d.say("  lease %q: free, nobody has held it yet", l.ResourceName)
	default:
		d.say("  lease %q, version %d: free; host %d, generation %d, held it last",
			l.ResourceName, l.LVer, l.OwnerID, l.OwnerGeneration)
	}
	return nil
}
