package vm

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// archive is a tree of files for an initramfs, all owned by root.
type archive map[string]entry // by absolute path in the guest

// entry is a file, a symbolic link (content is its target) or a directory, as mode tells.
type entry struct {
	mode    uint32 // as in st_mode
	content []byte
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
)

func (a archive) dir(name string) {
	if _, ok := a[name]; ok || name == "/" {
		return
	}
	a.dir(path.Dir(name))
	a[name] = entry{mode: modeDir | 0o755}
}

// merged is a path with /usr: /bin, /sbin, /lib and /lib64 are links, which a path in an archive cannot follow
// because what they point to comes later.
func merged(name string) string {
	for _, top := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(name, top) {
			return "/usr" + name
		}
	}
	return name
}

func (a archive) file(name string, mode uint32, content []byte) {
	name = merged(name)
	a.dir(path.Dir(name))
	a[name] = entry{modeFile | mode, content}
}

func (a archive) link(name, target string) {
	name = merged(name)
	a.dir(path.Dir(name))
	a[name] = entry{modeLink | 0o777, []byte(target)}
}

// sum is a hash of all that write would write.
func (a archive) sum() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(a)) {
		fmt.Fprintf(h, "%q %o %d\n", name, a[name].mode, len(a[name].content))
		h.Write(a[name].content)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// write writes the archive in the format that the kernel unpacks (cpio, "newc"). It is not compressed: an
// emulated CPU takes longer to expand it than the host to read it.
func (a archive) write(to io.Writer) error {
	w := bufio.NewWriter(to)
	inode := 0
	member := func(name string, e entry) error {
		inode++
		head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", inode, e.mode, 0, 0, 1, 0,
			len(e.content), 0, 0, 0, 0, len(name)+1, 0)
		if _, err := fmt.Fprintf(w, "%s%s\x00%s", head, name, padding(len(head)+len(name)+1)); err != nil {
			return err
		}
		if _, err := w.Write(e.content); err != nil {
			return err
		}
		_, err := w.WriteString(padding(len(e.content)))
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(a)) { // sorted: a directory comes before what is in it
		if err := member(name[1:], a[name]); err != nil {
			return err
		}
	}
	if err := member("TRAILER!!!", entry{}); err != nil {
		return err
	}
	return w.Flush()
}

// padding is what makes n a multiple of 4.
func padding(n int) string { return "\x00\x00\x00"[:(4-n%4)%4] }
