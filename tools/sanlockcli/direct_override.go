package sanlockcli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"syscall"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// The file of write_leader -F has a line for each field to change: its name and its value. Lines are read as
// stock reads them, in pieces of at most overrideLine bytes.
const (
	overrideLine = 127
	overrideFile = 1 << 20 // bytes, more is not read
)

// readOverrides returns the file's lines. Its error is the sentence that stock prints.
func readOverrides(path string) ([]string, error) {
	if path == "" {
		return nil, errors.New("open error 14 (null)")
	}
	f, err := os.Open(path)
	if err != nil {
		var errno syscall.Errno
		errors.As(err, &errno)
		return nil, fmt.Errorf("open error %d %s", int(errno), path)
	}
	defer f.Close()
	// A file that cannot be read to its end, a directory for one, has no more lines; so it is in stock.
	text, _ := io.ReadAll(io.LimitReader(f, overrideFile))
	var lines []string
	for line := range strings.Lines(string(text)) {
		for len(line) > overrideLine {
			lines = append(lines, line[:overrideLine])
			line = line[overrideLine:]
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// override changes the fields of l that the lines name and returns the checksum that they give, or 0.
func (d *direct) override(l *ondisk.Leader, lines []string) (checksum uint32) {
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) < 2 {
			fmt.Fprintf(d.out, "ignore line: \"%s\"\n", line)
			continue
		}
		field, value := words[0], words[1]
		switch {
		case field == "checksum":
			setHex(&checksum, value)
		case setField(l, field, value):
		case d.setTail(l, field, value):
		default:
			fmt.Fprintf(d.out, "ignore field: \"%s\"\n", field)
		}
	}
	return checksum
}

// setField sets one of the fields that both kinds of leader have.
func setField(l *ondisk.Leader, field, value string) bool {
	switch field {
	case "magic":
		setHex(&l.Magic, value)
	case "version":
		setHex(&l.Version, value)
	case "flags":
		setHex(&l.Flags, value)
	case "sector_size":
		setDecimal(&l.SectorSize, value)
	case "num_hosts":
		setDecimal(&l.NumHosts, value)
	case "max_hosts":
		setDecimal(&l.MaxHosts, value)
	case "owner_id":
		setDecimal(&l.OwnerID, value)
	case "owner_generation":
		setDecimal(&l.OwnerGeneration, value)
	case "lver":
		setDecimal(&l.LVer, value)
	case "space_name":
		l.SpaceName = leases.NameOf(value)
	case "resource_name":
		l.ResourceName = leases.NameOf(value)
	case "timestamp":
		setDecimal(&l.Timestamp, value)
	case "io_timeout":
		setDecimal(&l.IOTimeout, value)
	default:
		return false
	}
	return true
}

// setTail sets one of the last three fields, whose names depend on the kind of leader.
func (d *direct) setTail(l *ondisk.Leader, field, value string) bool {
	names := [3]string{"extra1", "extra2", "extra3"}
	if d.paxosFields() {
		names = [3]string{"write_id", "write_generation", "write_timestamp"}
	}
	for i, to := range []*uint64{&l.WriteID, &l.WriteGeneration, &l.WriteTimestamp} {
		if field == names[i] {
			setDecimal(to, value)
			return true
		}
	}
	return false
}

// setHex sets a number that must begin with 0x; anything else changes nothing. Digits beyond the field's
// size push the first ones out, up to 64 bits.
func setHex(to *uint32, s string) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return
	}
	n, any := leadingDigits(digits, 16)
	if any {
		*to = uint32(n)
	}
}

// setDecimal sets a number that may have a sign; what follows the digits does not count, and a value without
// digits changes nothing.
func setDecimal[T uint16 | uint32 | uint64](to *T, s string) {
	digits, negative := strings.CutPrefix(s, "-")
	if !negative {
		digits = strings.TrimPrefix(s, "+")
	}
	n, any := leadingDigits(digits, 10)
	if !any {
		return
	}
	if negative && n != math.MaxUint64 {
		n = -n
	}
	*to = T(n)
}

// leadingDigits reads them, as C does: what is too large is the largest number.
func leadingDigits(s string, base uint64) (n uint64, ok bool) {
	const all = "0123456789abcdef"
	for _, c := range strings.ToLower(s) {
		digit := strings.IndexRune(all[:base], c)
		if digit < 0 {
			break
		}
		ok = true
		if n > (math.MaxUint64-uint64(digit))/base {
			n = math.MaxUint64
			continue
		}
		n = n*base + uint64(digit)
	}
	return n, ok
}
