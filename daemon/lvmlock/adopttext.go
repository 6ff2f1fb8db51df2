package lvmlock

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// The adopt file is read and written in the form of stock's (spec lvmlockd 3.10.2), so that either daemon can
// go on where the other ended. Host ids, which stock learns elsewhere, are in comments.
const (
	adoptHead    = "lvmlockd adopt_version"
	adoptVersion = "1.0"
	adoptHost    = "#host_id"
	maxAdoptSize = 16 << 20
)

// adoptVG is a VG in the adopt file.
type adoptVG struct {
	uuid, name, args string
	typ              lvmwire.LockType
	hostID           uint64
	lvs              []adoptLV
}

// adoptLV is a locked LV.
type adoptLV struct {
	uuid, args string
	mode       lvmwire.Mode
	version    uint32
}

var errAdoptFile = errors.New("the adopt file is not of a known form")

// parseAdopt reads an adopt file. One wrong line makes all of it useless: who knows what else is wrong.
func parseAdopt(text []byte) ([]*adoptVG, error) {
	if len(text) > maxAdoptSize {
		return nil, fmt.Errorf("%w: %d bytes, the most is %d", errAdoptFile, len(text), maxAdoptSize)
	}
	var all []*adoptVG
	byUUID := map[string]*adoptVG{}
	for n, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		var err error
		switch {
		case len(words) == 0:
		case words[0] == adoptHost && len(words) == 3:
			if vg := byUUID[words[1]]; vg != nil {
				vg.hostID, err = strconv.ParseUint(words[2], 10, 64)
			}
		case strings.HasPrefix(words[0], "#"):
		case strings.HasPrefix(line, adoptHead):
			err = checkAdoptVersion(words)
		case words[0] == "VG:" && len(words) == 5:
			vg := &adoptVG{uuid: words[1], name: words[2], typ: lvmwire.ParseLockType(words[3]), args: words[4]}
			if vg.typ <= lvmwire.NoType || byUUID[vg.uuid] != nil {
				err = errAdoptFile
			}
			all = append(all, vg)
			byUUID[vg.uuid] = vg
		case words[0] == "LV:" && len(words) == 6 && byUUID[words[1]] != nil:
			vg := byUUID[words[1]]
			lv := adoptLV{uuid: words[2], args: words[3], mode: lvmwire.ParseMode(words[4])}
			var version uint64
			version, err = strconv.ParseUint(words[5], 10, 32)
			lv.version = uint32(version)
			if lv.mode != lvmwire.SH && lv.mode != lvmwire.EX {
				err = errAdoptFile
			}
			vg.lvs = append(vg.lvs, lv)
		default:
			err = errAdoptFile
		}
		if err != nil {
			return nil, fmt.Errorf("line %d, %.100q: %w", n+1, line, err)
		}
	}
	return all, nil
}

func checkAdoptVersion(words []string) error {
	if len(words) < 3 {
		return errAdoptFile
	}
	if major, _, _ := strings.Cut(words[2], "."); major != "1" {
		return fmt.Errorf("%w: version %s, only 1 is known", errAdoptFile, words[2])
	}
	return nil
}

// AdoptText is what the adopt file should hold now: the lockspaces and the LVs that are locked.
func (e *Engine) AdoptText() []byte {
	var b bytes.Buffer
	e.mu.Lock()
	e.updates++
	updates, missed := e.updates, slices.Clone(e.missed)
	e.mu.Unlock()
	fmt.Fprintf(&b, "%s %s pid %d updates %d %s\n", adoptHead, adoptVersion, os.Getpid(), updates,
		time.Now().Format(time.ANSIC))
	written := map[string]bool{} // VGs and locked LVs, by UUID
	for _, s := range e.all() {
		if s.global {
			continue
		}
		s.do(func() { b.WriteString(s.adoptText(written)) })
	}
	for _, vg := range missed {
		vg.text(&b, written)
	}
	return b.Bytes()
}

// text is what could not be adopted of a VG, unless somebody locked it since.
func (vg *adoptVG) text(b *bytes.Buffer, written map[string]bool) {
	if !written[vg.uuid] {
		written[vg.uuid] = true
		fmt.Fprintf(b, "VG: %38s %s %s %s\n", vg.uuid, vg.name, vg.typ, vg.args)
		if vg.hostID != 0 {
			fmt.Fprintf(b, "%s %s %d\n", adoptHost, vg.uuid, vg.hostID)
		}
	}
	for _, lv := range vg.lvs {
		if !written[lv.uuid] {
			written[lv.uuid] = true
			fmt.Fprintf(b, "LV: %38s %s %s %s %d\n", vg.uuid, lv.uuid, lv.args, lv.mode, lv.version)
		}
	}
}

// adoptText is a lockspace's part.
func (s *space) adoptText(written map[string]bool) string {
	if s.state == starting || s.state == stopping {
		return ""
	}
	var b strings.Builder
	written[word(s.vg.UUID)] = true
	fmt.Fprintf(&b, "VG: %38s %s %s %s\n", word(s.vg.UUID), word(s.vg.Name), s.typ, word(s.vg.Args))
	if s.vg.HostID != 0 {
		fmt.Fprintf(&b, "%s %s %d\n", adoptHost, word(s.vg.UUID), s.vg.HostID)
	}
	for _, l := range s.sorted() {
		if l.key.kind != lvmwire.LV {
			continue
		}
		args := l.locks.Args()
		if args == "" {
			args = "none"
		}
		for _, h := range l.locks.Holders() {
			written[l.key.name] = true
			fmt.Fprintf(&b, "LV: %38s %s %s %s %d\n", word(s.vg.UUID), l.key.name, args, h.Mode, l.locks.Version())
		}
	}
	return b.String()
}
