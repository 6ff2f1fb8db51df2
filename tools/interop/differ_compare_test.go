package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// What two right answers, or two right sectors, may differ in is put out of the way here: clocks, process
// ids, descriptors, ballot numbers and bytes that the format leaves undefined (spec ondisk 2, 9.7).

const (
	deltaMagic   = 0x12212010
	paxosMagic   = 0x06152010
	clearedMagic = 0x11282016
	requestMagic = 0x08292011
	lvbSector    = 2002
)

func word(p []byte, at int) uint32   { return binary.LittleEndian.Uint32(p[at:]) }
func quad(p []byte, at int) uint64   { return binary.LittleEndian.Uint64(p[at:]) }
func text48(p []byte, at int) string { return cString(p[at : at+48]) }

func cString(p []byte) string {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	return string(p)
}

// checksum is the one of the records on disk (spec ondisk 2.11).
func checksum(p []byte) uint32 {
	return ^crc32.Update(1, crc32.MakeTable(crc32.Castagnoli), p)
}

// blur keeps of a number only whether it is 0.
func blur(p []byte, at int) {
	v := quad(p, at)
	binary.LittleEndian.PutUint64(p[at:], min(v, 1))
}

// blurSum keeps of a checksum only whether it is the right one of the n bytes from 0.
func blurSum(p []byte, n, at int, was []byte) {
	sum := uint32(0xBAD)
	if word(was, at) == checksum(was[:n]) {
		sum = 1
	}
	binary.LittleEndian.PutUint32(p[at:], sum)
}

// canonical returns a sector without what is free in it. Of a vote that is kept where stock zeroes it only
// the marks are compared (COMPATIBILITY.md, "keep the vote"): see sameBlock.
func canonical(p plate, index int64, was []byte, bitmaps bool) []byte {
	b := bytes.Clone(was)
	area, sector := index*p.sector/p.align, index%(p.align/p.sector)
	if p.name == indexName && area == 0 {
		return b // names and offsets
	}
	if p.name == indexName && area == 1 {
		return nil // ours takes the index's lease also for what then is refused
	}
	switch word(was, 0) {
	case deltaMagic:
		blurSum(b, 168, 168, was)
		blur(b, 152)
		if !bitmaps {
			clear(b[256:512])
		}
		return b
	case paxosMagic, clearedMagic:
		blurSum(b, 168, 168, was)
		blur(b, 152)
		blur(b, 192)
		return b
	}
	if sector == 1 || word(was, 0) == requestMagic { // a request, perhaps with a damaged magic
		clear(b[20:24])
	}
	if area == 0 && !p.file || sector < 2 || sector >= lvbSector {
		return b
	}
	if word(was, 48) != 0 {
		blurSum(b, 48, 48, was)
	}
	blur(b, 0)
	blur(b, 8)
	blur(b, 32)
	clear(b[56:128])
	clear(b[132:136])
	clear(b[144:])
	return b
}

// hasVote reports whether a host block has anything but marks.
func hasVote(block []byte) bool { return !bytes.Equal(block[:48], make([]byte, 48)) }

// sameForeign reports whether two blocks of another host differ only in what is left of a sharer that is gone:
// stock zeroes all of it, we do not touch the vote, nor the mark of a host that has left and may come back.
func sameForeign(stock, ours []byte) bool {
	return bytes.Equal(stock, make([]byte, len(stock))) && word(ours, 128) <= 1
}

// sameBlock reports whether two host blocks differ only in that stock has put a released block without a vote
// in the place of its vote, or of the nothing that there was.
func sameBlock(stock, ours []byte) bool {
	const released = 1
	if quad(ours, 0) != 0 && quad(ours, 8) == 0 && quad(ours, 16) == 0 && quad(ours, 40) > quad(stock, 40) {
		return bytes.Equal(stock[56:], ours[56:]) // a ballot that was begun before a damaged block was seen
	}
	emptied := !hasVote(stock) && word(stock, 48) != 0xBAD && word(stock, 52) == released
	return emptied && (!hasVote(ours) || word(ours, 52) == released && word(ours, 48) != 0xBAD) &&
		bytes.Equal(stock[56:], ours[56:])
}

// compareImages returns how the disks differ; nothing if they do not.
func compareImages(w *world, bitmaps bool) (differences []string) {
	const chunk = 1 << 16
	for i, p := range plates {
		stock, ours := w.twins[debian].images[i], w.twins[tenure].images[i]
		for off := 0; off < len(stock); off += chunk {
			if bytes.Equal(stock[off:off+chunk], ours[off:off+chunk]) {
				continue
			}
			for at := off; at < off+chunk; at += int(p.sector) {
				x, y := stock[at:at+int(p.sector)], ours[at:at+int(p.sector)]
				if !bytes.Equal(x, y) {
					differences = append(differences, compareSectors(p, int64(at)/p.sector, x, y, bitmaps)...)
				}
			}
		}
	}
	return differences
}

// leaveBehind puts back on our disks what stock leaves there with a lockspace that is removed: leases that are
// held, by a host id that is free. Ours gives them back.
func (w *world) leaveBehind() {
	const leaseMagic, ownerAt, timestampAt, sharedAt, valueSector = 0x06152010, 32, 152, 128, 2002
	for i, p := range plates {
		stock, ours := w.twins[debian].images[i], w.twins[tenure].images[i]
		for at := int64(0); at < int64(len(stock)); at += p.align {
			if word(stock, int(at)) != leaseMagic {
				continue
			}
			w.forgetSharers(p, stock[at:at+p.align], ours[at:at+p.align])
			block := at + (1+differID)*p.sector
			given := quad(stock, int(at+ownerAt)) == differID && quad(stock, int(at+timestampAt)) != 0 &&
				quad(ours, int(at+timestampAt)) == 0
			const shared = 1
			left := word(stock, int(block+sharedAt))&shared != 0 && word(ours, int(block+sharedAt))&shared == 0
			if !given && !left {
				continue
			}
			copy(ours[at:at+p.sector], stock[at:at+p.sector])
			copy(ours[block:block+p.sector], stock[block:block+p.sector])
			if value := int64(valueSector) * p.sector; value < p.align {
				value += at // what a client set is written when its lease is given back
				copy(ours[value:value+p.sector], stock[value:value+p.sector])
			}
			w.allowed["a removed lockspace gives its leases back"]++
		}
	}
}

// forgetSharers takes the marks of sharers that are gone off our disk, as stock has. They count for nothing until
// the lockspace is joined anew: then ours waits once more until such a host is known to be dead, and refuses where
// stock, which has forgotten it, grants.
func (w *world) forgetSharers(p plate, stock, ours []byte) {
	const lastNeighbour = 4
	for host := int64(differID + 1); host <= lastNeighbour; host++ {
		x, y := stock[(1+host)*p.sector:(2+host)*p.sector], ours[(1+host)*p.sector:(2+host)*p.sector]
		if !bytes.Equal(x, y) && sameForeign(x, y) {
			copy(y, x)
			w.allowed["the mark of a sharer that is gone stays"]++
		}
	}
}

func compareSectors(p plate, index int64, stock, ours []byte, bitmaps bool) []string {
	x, y := canonical(p, index, stock, bitmaps), canonical(p, index, ours, bitmaps)
	perArea := p.align / p.sector
	if block := index%perArea - 2; bytes.Equal(x, y) || block >= 0 && index/perArea > 0 &&
		(sameBlock(x, y) || block != differID-1 && sameForeign(x, y)) {
		return nil
	}
	d := []string{fmt.Sprintf("disk %s area %d sector %d:", p.name, index/perArea, index%perArea)}
	const line = 16
	for i := 0; i < len(x); i += line {
		if !bytes.Equal(x[i:i+line], y[i:i+line]) {
			d = append(d, fmt.Sprintf("  %04x debian % x\n       tenure % x", i, stock[i:i+line], ours[i:i+line]))
		}
	}
	return []string{strings.Join(d, "\n")}
}

// stateRecord is a record of STATUS and its like.
type stateRecord struct {
	kind, data32 uint32
	data64       uint64
	name         string
	words        []string // key=value
	rest         []byte   // the lockspace or the resource with its disks
}

func (r stateRecord) word(key string) string {
	for _, w := range r.words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			return v
		}
	}
	return ""
}

const (
	recordDaemon = iota + 1
	recordClient
	recordSpace
	recordResource
	recordHost
	recordRenewal
)

func records(p []byte) (rs []stateRecord, err error) {
	for len(p) > 0 {
		if len(p) < 80 {
			return rs, fmt.Errorf("%d bytes behind the last record", len(p))
		}
		r := stateRecord{kind: word(p, 0), data32: word(p, 8), data64: quad(p, 16), name: text48(p, 24)}
		n := 80 + int(word(p, 72))
		if len(p) < n {
			return rs, fmt.Errorf("a record of %d bytes in %d", n, len(p))
		}
		r.words = strings.Fields(cString(p[80:n]))
		p = p[n:]
		n = 0
		switch r.kind {
		case recordSpace:
			n = 1104
		case recordResource:
			if len(p) >= 128 {
				n = 128 + int(word(p, 124))*1040
			}
		}
		if len(p) < n {
			return rs, fmt.Errorf("a record of kind %d has %d bytes behind it, not %d", r.kind, len(p), n)
		}
		r.rest, p = p[:n], p[n:]
		rs = append(rs, r)
	}
	return rs, nil
}

// free are the keys of state records whose values are each daemon's own, by kind of record.
var free = map[uint32][]string{
	// Versions after 3.8.5 have the first two keys, and so have we.
	recordDaemon: {
		"io_timeout", "watchdog_fire_timeout", "helper_pid", "helper_kill_fd", "helper_last_status", "monotime",
	},
	recordClient: {"fd", "kill_last"},
	recordSpace: {
		"acquire_last_attempt", "acquire_last_success", "renewal_last_attempt", "renewal_last_success",
	},
	recordResource: {"token_id", "res_id", "reused"},
	recordHost:     {"last_check", "last_live", "last_req", "timestamp"},
	recordRenewal:  {"timestamp", "read_ms", "write_ms"},
}

// line is a record as it must read on both sides. Process ids are replaced by the clients' numbers.
func (r stateRecord) line(pids map[int]string) string {
	words := slices.Clone(r.words)
	words = slices.DeleteFunc(words, func(w string) bool {
		key, _, _ := strings.Cut(w, "=")
		return slices.Contains(free[r.kind], key)
	})
	for i, w := range words {
		if v, ok := strings.CutPrefix(w, "pid="); ok {
			words[i] = "pid=" + who(v, pids)
		}
	}
	data32, data64, name := fmt.Sprint(r.data32), fmt.Sprint(r.data64), r.name
	switch r.kind {
	case recordClient:
		data32, name = who(strconv.Itoa(int(int32(r.data32))), pids), who(name, pids)
	case recordResource:
		if data32 = who(strconv.Itoa(int(int32(r.data32))), pids); r.word("list") != "held" {
			data32 = "" // of a process that is gone
		}
	case recordHost, recordRenewal:
		data64 = ""
	}
	return fmt.Sprintf("%d %s %s %q %s %s", r.kind, data32, data64, name, strings.Join(words, " "), restText(r))
}

func who(pid string, pids map[int]string) string {
	n, err := strconv.Atoi(pid)
	if name, ok := pids[n]; ok && err == nil {
		return name
	}
	return pid
}

// restText spells the structure behind a record, without the private words of its disks.
func restText(r stateRecord) string {
	p := bytes.Clone(r.rest)
	at := map[uint32]int{recordSpace: 64, recordResource: 128}[r.kind]
	for ; at > 0 && at+1040 <= len(p); at += 1040 {
		clear(p[at+1032 : at+1040])
	}
	return shorten(p)
}

// shorten spells bytes with the zeros at the end of each run left out.
func shorten(p []byte) string {
	var b strings.Builder
	for len(p) > 0 {
		n := bytes.IndexFunc(p, func(r rune) bool { return r != 0 })
		if n < 0 {
			n = len(p)
		}
		if n > 0 {
			fmt.Fprintf(&b, "[%d]", n)
			p = p[n:]
			continue
		}
		end := bytes.IndexByte(p, 0)
		if end < 0 {
			end = len(p)
		}
		if s := string(p[:end]); strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
			b.WriteString(hex.EncodeToString(p[:end]))
		} else {
			fmt.Fprintf(&b, "%q", s)
		}
		p = p[end:]
	}
	return b.String()
}

// spell returns an answer as text, without what is free in it.
func (a answer) spell(cmd uint32, pids map[int]string) string {
	if a.err != "" {
		return a.err
	}
	h := a.header
	if h.announcesNothing() {
		h.Length = 32
	}
	b := bytes.Clone(a.body)
	var body string
	switch cmd {
	case cmdStatus, cmdHostStatus, cmdRenewal:
		body = spellRecords(cmd, b, pids)
	case cmdGetHosts:
		body = spellHosts(b)
	case cmdGetSpaces:
		for i := 0; i+1104 <= len(b); i += 1104 {
			clear(b[i+60 : i+64]) // the compiler's padding
		}
		body = shorten(b)
	case cmdReadOwners:
		n := min(128, len(b))
		body = shorten(b[:n]) + spellHosts(b[n:])
	default:
		body = shorten(b)
	}
	text := fmt.Sprintf("result %d length %d cmd %d flags %x seq %d data2 %d",
		int32(h.Data), h.Length, h.Cmd, h.Flags, h.Seq, int32(h.Data2))
	if h.Magic != wireMagic || h.Version != 1 {
		text += fmt.Sprintf(" magic %x version %x", h.Magic, h.Version)
	}
	return text + ": " + body
}

func spellRecords(cmd uint32, b []byte, pids map[int]string) string {
	rs, err := records(b)
	lines := make([]string, 0, len(rs))
	for _, r := range rs {
		lines = append(lines, r.line(pids))
	}
	if cmd == cmdRenewal {
		lines = slices.Compact(lines) // one each two or three seconds
	}
	if err != nil {
		lines = append(lines, err.Error())
	}
	return "\n" + strings.Join(lines, "\n")
}

func spellHosts(b []byte) string {
	var s strings.Builder
	for ; len(b) >= 32; b = b[32:] {
		fmt.Fprintf(&s, " host %d generation %d timestamp %d io_timeout %d flags %x;",
			quad(b, 0), quad(b, 8), min(quad(b, 16), 1), word(b, 24), word(b, 28))
	}
	return s.String() + shorten(b)
}

// difference spells two texts by the lines that only one of them has.
func difference(stock, ours string) string {
	x, y := map[string]int{}, map[string]int{}
	for l := range strings.Lines(stock) {
		x[strings.TrimSpace(l)]++
	}
	for l := range strings.Lines(ours) {
		y[strings.TrimSpace(l)]++
	}
	var d []string
	for _, l := range slices.Sorted(maps.Keys(x)) {
		if x[l] != y[l] {
			d = append(d, "debian "+l)
		}
	}
	for _, l := range slices.Sorted(maps.Keys(y)) {
		if x[l] != y[l] {
			d = append(d, "tenure "+l)
		}
	}
	if len(d) == 0 {
		return "the order of the lines:\n" + stock + "\n" + ours
	}
	return strings.Join(d, "\n")
}
