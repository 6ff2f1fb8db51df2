package interop

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

const tmpfsMagic = 0x01021994

// withinSector is the row for an offset that is no multiple of 512 in a file on tmpfs. Its pieces can be
// moved wherever they begin: stock looks at what lies there, which is no record, or runs into the end. We
// refuse it as every other file system does.
func (r resourceArgs) withinSector(stock, ours int32) string {
	found := stock == resultBadMagic || stock == resultTooShort
	if plates[r.plate].file && r.shift%512 != 0 && found && ours == -22 {
		return "an offset within a sector of a file on tmpfs"
	}
	return ""
}

// TestOffsets looks at places that no lease can have: within a sector, around the end of the storage and
// beyond it.
func TestOffsets(t *testing.T) {
	working(t, 10)
	var trials []trial
	for _, dir := range []string{os.TempDir(), shm} {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			trials = append(trials, trial{dir, func(t *testing.T) { sameAtOffsets(t, dir) }})
		}
	}
	together(t, trials...)
}

func sameAtOffsets(t *testing.T, under string) {
	w := &world{t: t}
	w.gen = &generator{w: w}
	for _, k := range []kind{debian, tenure} {
		dir, err := os.MkdirTemp(under, "tenure-offsets-") //nolint:usetesting // on a file system of our choice
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		w.twins[k] = newSideIn(t, dir, k)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(w.twins[tenure].dir, &fs); err != nil {
		t.Fatal(err)
	}
	explained := 0
	for i, p := range plates {
		size := uint64(p.areas * p.align)
		last := size - uint64(p.align)
		for _, offset := range []uint64{
			0, 100, 512, last, last + 100, size - 4096, size - 100, size, size + 100, 1 << 40, 1<<40 + 100,
		} {
			for _, flags := range []uint32{0, 0x10, 0x100, 0x200, sizes(p)} {
				explained += w.sameAt(i, offset, flags)
			}
		}
	}
	if tmpfs := fs.Type == tmpfsMagic; tmpfs != (explained > 0) {
		t.Errorf("on a file system of type %x there are %d answers of the row", fs.Type, explained)
	}
}

// sameAt asks both what is at an offset, and returns how many answers differ as they may.
func (w *world) sameAt(plate int, offset uint64, flags uint32) (explained int) {
	g, p := w.gen, plates[plate]
	for _, cmd := range []uint32{cmdReadResource, cmdReadOwners, cmdReadSpace} {
		r := g.args(spot{space: "LSA", name: "R", plate: plate})
		r.shift, r.flags = offset, flags
		m := g.order(cmd)
		m.body = r.bytes(true)
		if cmd == cmdReadSpace {
			m.body = spaceArgs{name: "LSA", host: 1, path: p.name, offset: offset, flags: flags}.bytes()
		}
		a := w.ask(g.say(-1, m, ""))
		x, y := a[debian].spell(cmd, nil), a[tenure].spell(cmd, nil)
		switch {
		case x == y:
		case a[debian].err == "" && a[tenure].err == "" &&
			r.withinSector(int32(a[debian].Data), int32(a[tenure].Data)) != "":
			explained++
		default:
			w.t.Errorf("%s of %s at %d flags %x:\n%s", commandName(m), p.name, offset, flags, difference(x, y))
		}
	}
	return explained
}
