package interop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/ondisk"
)

// The tests of this file give the same `sanlock direct` commands to Debian's program and to ours, each in a
// directory of its own with the same files in it, and compare what is printed, the exit codes and the files.

const mib = 1 << 20

// directAtOnce is how many pairs of directories are worked on at a time: the programs mostly wait.
const directAtOnce = 4

// image is a file of size bytes with sectors that stock has written somewhere put at offsets.
type image struct {
	size  int64
	parts map[int64]string // offset: name of a golden file of leases/ondisk
	poke  map[int64]string // offset: bytes
}

func (i image) create(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(i.size); err != nil {
		t.Fatal(err)
	}
	put := func(off int64, p []byte) {
		if _, err := f.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	for off, name := range i.parts {
		p, err := os.ReadFile("../../leases/ondisk/testdata/sanlock-3.8.5/" + name + ".bin")
		if err != nil {
			t.Fatal(err)
		}
		put(off, p)
	}
	for off, s := range i.poke {
		put(off, []byte(s))
	}
}

// sides are the two programs and their directories.
type sides struct {
	program [2]string
	dir     [2]string
}

// bothSides makes the two directories, with the image as file f.
func bothSides(t *testing.T, i image) *sides {
	t.Helper()
	s := emptySides(t)
	for _, dir := range s.dir {
		i.create(t, filepath.Join(dir, "f"))
	}
	return s
}

func emptySides(t *testing.T) *sides {
	t.Helper()
	return &sides{
		program: [2]string{theirs(t), ours(t)},
		dir:     [2]string{t.TempDir(), t.TempDir()},
	}
}

// write puts the same small file into both directories.
func (s *sides) write(t *testing.T, name, text string) {
	t.Helper()
	for _, dir := range s.dir {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// outcome is what a command came to.
type outcome struct {
	out  string
	code int
}

func (s *sides) run(t *testing.T, side int, command string) outcome {
	t.Helper()
	cmd := exec.Command(s.program[side], append([]string{"direct"}, strings.Fields(command)...)...)
	cmd.Dir = s.dir[side]
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Error(err)
		return outcome{}
	}
	return outcome{string(out), cmd.ProcessState.ExitCode()}
}

// both gives the command to both at once: each waits 50 ms at its end, for the kernel to take its asynchronous
// I/O apart.
func (s *sides) both(t *testing.T, command string) (stock, own outcome) {
	t.Helper()
	var other sync.WaitGroup
	other.Go(func() { stock = s.run(t, 0, command) })
	own = s.run(t, 1, command)
	other.Wait()
	return stock, own
}

// same gives the command to both and compares everything.
func (s *sides) same(t *testing.T, command string) {
	t.Helper()
	stock, own := s.both(t, command)
	if stock != own {
		t.Errorf("sanlock direct %s\nstock, exit code %d:\n%s\nours, exit code %d:\n%s",
			command, stock.code, stock.out, own.code, own.out)
	}
	s.sameFiles(t, command)
}

// sameResult compares the first line and the exit code, where stock goes on with what its stack holds. Ours
// must
// go on with zeros.
func (s *sides) sameResult(t *testing.T, command string) {
	t.Helper()
	stock, own := s.both(t, command)
	first, _, _ := strings.Cut(stock.out, "\n")
	line, rest, _ := strings.Cut(own.out, "\n")
	if first != line || stock.code != own.code {
		t.Errorf("sanlock direct %s\nstock, exit code %d: %s\nours, exit code %d: %s",
			command, stock.code, first, own.code, line)
	}
	for l := range strings.Lines(rest) {
		if _, value, _ := strings.Cut(strings.TrimSpace(l), " "); value != "0" && value != "0x0" && value != "" {
			t.Errorf("sanlock direct %s: ours goes on with %q, should be zero", command, l)
		}
	}
	s.sameFiles(t, command)
}

func (s *sides) sameFiles(t *testing.T, command string) {
	t.Helper()
	if equalFiles(t, s.dir) {
		return
	}
	p := bothFiles(t, s.dir)
	if len(p[0]) != len(p[1]) {
		t.Errorf("sanlock direct %s: the file has %d bytes, with stock %d", command, len(p[1]), len(p[0]))
	}
	if i := differAt(p); i >= 0 {
		a, b := p[0][i:i+16], p[1][i:i+16]
		t.Fatalf("sanlock direct %s: the files differ from byte %d on\nstock % x\nours  % x", command, i, a, b)
	}
}

// equalFiles compares file f of both directories where it lies: reading it would take most of the time, under the
// race detector above all.
func equalFiles(t *testing.T, dirs [2]string) bool {
	t.Helper()
	var p [2][]byte
	for side, dir := range dirs {
		f, err := os.Open(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		n, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			continue
		}
		p[side], err = unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Munmap(p[side]) }()
	}
	return bytes.Equal(p[0], p[1])
}

// bothFiles reads file f of both directories.
func bothFiles(t *testing.T, dirs [2]string) (p [2][]byte) {
	t.Helper()
	for side, dir := range dirs {
		var err error
		if p[side], err = os.ReadFile(filepath.Join(dir, "f")); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// differAt returns the first multiple of 16 bytes where stock's file and ours differ, or -1, apart from what
// stock leaves undefined: the padding of a request.
func differAt(p [2][]byte) int {
	for i := 0; i+16 <= min(len(p[0]), len(p[1])); i += 16 {
		if i%512 == 16 && bytes.Equal(p[0][i-16:i-12], []byte("\x11\x20\x29\x08")) {
			clear(p[0][i+4 : i+8])
			clear(p[1][i+4 : i+8])
		}
		if !bytes.Equal(p[0][i:i+16], p[1][i:i+16]) {
			return i
		}
	}
	return -1
}

func TestDirectInit(t *testing.T) {
	working(t, 20)
	const long = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeee" // 48 bytes
	var trials []trial
	for name, commands := range map[string][]string{
		"lockspace": {
			"init -s LS1:1:f:0", "init -s LS1:0:f:0 -o 2", "init -s LS1:0:f:0 -o 300", "init -s LS1:0:f:1M -n 8 -m 7",
			"init -s LS1:0:f:0 -o 0", "init -s LS1:0:f:512", "init -s :1:f:0", "init -s LS1:x:f:0", "init -s LS1:1:f",
			"init -s " + long + ":1:f:0", "init -s LS1:1:f:0 -a 0", "init -s LS1:1:f:0 -z 1",
			"init -s LS1:1:f:0 -o 70000", "init -s LS2:1:f:0 -r LS2:R:f:1M",
		},
		"resource": {
			"init -r LS1:R:f:0", "init -r LS1:R:f:1M -n 8", "init -r LS1:R:f:1M -n 8 -m 7",
			"init -r LS1:R:f:2M -n 2000",
			"init -r LS1:R:f:2M -n 2001", "init -r LS1::f:0", "init -r :R:f:0", "init -r LS1:R:f:0:5",
			"init -r LS1:R:f:0:SH",
			"init -r " + long + ":" + long + ":f:0", "init -r LS1:R:f:0 -r LS1:S:f:1M", "init -r LS1:R:f:512",
		},
		"errors": {
			"init", "init -s LS1:1", "init -s LS1", "init -s LS1:1::0", "init -s LS1:1:f:1000", "init -s LS1:1:f:1",
			"init -s LS1:1:none:0", "init -r LS1:R:none:0", "init -r LS1:R:f:100", "init -s LS1:1:f:0 -Z 512",
			"init -s LS1:1:none:0 -Z 512", "init -r LS1:R:none:0 -Z 512", "init -s LS1:1:f:0 -A 1M",
			"init -s LS1:1:f:0 -Z 512 -A 2M", "init -s LS1:1:f:0 -Z 1024 -A 1M", "init -s LS1:1:f:0 -Z 4096 -A 3M",
			"init -s LS1:1:/dev/null:0", "init -r LS1:R:/dev/null:0", "init -r LS1:R:/:0", "init -s LS1:1:/:0",
			"init -x LS1:f:0",
		},
		"beyond the end": {"init -s LS1:1:f:7M", "init -r LS1:R:f:8M", "init -s LS1:1:f:20971520"},
	} {
		trials = append(trials, trial{name, func(t *testing.T) {
			s := bothSides(t, image{size: 8 * mib})
			for _, c := range commands {
				s.same(t, c)
			}
		}})
	}
	several(t, directAtOnce, trials...)
}

func TestDirectInitSizes(t *testing.T) {
	working(t, 15)
	var trials []trial
	for _, g := range ondisk.Geometries() {
		name := fmt.Sprintf("%d, %dM", g.Sector, g.Align/mib)
		trials = append(trials, trial{name, func(t *testing.T) { directSizes(t, g) }})
	}
	several(t, directAtOnce, trials...)
}

func directSizes(t *testing.T, g ondisk.Geometry) {
	s := bothSides(t, image{size: 24 * mib})
	sizes := fmt.Sprintf(" -Z %d -A %dM", g.Sector, g.Align/mib)
	s.same(t, "init -s LS1:1:f:0 -o 5"+sizes)
	s.same(t, "init -r LS1:R:f:8M"+sizes)
	s.same(t, "init -r LS1:R:f:8M -n 251"+sizes)
	s.same(t, "init -r LS1:R:f:8M -n 16"+sizes)
	s.same(t, "dump f"+sizes)
	s.same(t, "dump f:8M")
	s.same(t, "read_leader -s LS1:3:f:0")
	s.same(t, "read_leader -r LS1:R:f:8M")
	s.same(t, "format -x LS1:f:0"+sizes)
	s.same(t, "lookup -x LS1:f:0")
	s.same(t, "update -x LS1:f:0 -e one:16M")
	s.same(t, "dump f -f 1"+sizes)
}

// TestDirectClear: stock stores its clock, which may move on between the two commands.
func TestDirectClear(t *testing.T) {
	working(t, 5)
	s := bothSides(t, image{size: mib})
	for try := range 5 {
		before := [2]outcome{s.run(t, 0, "init -r LS1:R:f:0 -z 1"), s.run(t, 1, "init -r LS1:R:f:0 -z 1")}
		if before[0] != before[1] {
			t.Fatalf("stock %v, ours %v", before[0], before[1])
		}
		stock, own := s.run(t, 0, "read_leader -r LS1:R:f:0"), s.run(t, 1, "read_leader -r LS1:R:f:0")
		if stock == own {
			s.sameFiles(t, "init -z 1")
			return
		}
		t.Logf("try %d: stock %q, ours %q", try, stock.out, own.out)
	}
	t.Error("the areas never came to be the same")
}

type dumpCase struct {
	image    image
	commands []string
}

func TestDirectDump(t *testing.T) {
	working(t, 15)
	var trials []trial
	for _, cases := range []map[string]dumpCase{dumpsOfMuch(), dumpsOfOddities()} {
		for name, c := range cases {
			trials = append(trials, trial{name, func(t *testing.T) {
				s := bothSides(t, c.image)
				for _, command := range c.commands {
					s.same(t, command)
				}
			}})
		}
	}
	several(t, directAtOnce, trials...)
}

func dumpsOfMuch() map[string]dumpCase {
	all := image{size: 32 * mib, parts: map[int64]string{
		0: "d03-delta-renewed-512", 1 * mib: "p02-paxos-owned-ex-512", 2 * mib: "p10-paxos-request-512",
		3 * mib: "p06-paxos-sh-two-512", 4 * mib: "p07-paxos-sh-released-512", 5 * mib: "p12-paxos-clear-512",
		6 * mib: "p20-paxos-owner-not-writer-512", 16 * mib: "r03-rindex-entries-512",
		17 * mib: "r04-rindex-lease-used-512", 19 * mib: "r05-rindex-deleted-res-512",
	}}
	sizes := image{size: 64 * mib, parts: map[int64]string{
		0: "d05-delta-bitmap-512", 1 * mib: "p01-paxos-free-512", 8 * mib: "k8-paxos-ex-4k-8M",
		16 * mib: "k4-paxos-ex-4k-4M", 20 * mib: "k2-paxos-ex-4k-2M", 22 * mib: "k1-paxos-ex-4k-1M",
		24 * mib: "k8-delta-owned-4k-8M", 32 * mib: "k8-rindex-4k-8M",
	}}
	return map[string]dumpCase{
		"everything": {all, []string{
			"dump f", "dump f -f 0", "dump f -f 1", "dump f -f 2", "dump f -f 3", "dump f:16M -f 2", "dump f:16M",
			"dump f:16M:3M -f 1", "dump f:0:32M -f 2", "dump f:1M:1M", "dump f:1M:2M", "dump f:1M:512", "dump f:1M:1",
			"dump f:512", "dump f:512:1M", "dump f:1536K", "dump f:8M", "dump f:8M:16M", "dump f:8M:2M", "dump f:32M",
			"dump f:31M", "dump f:40M", "dump f:40M:1M", "dump none", "dump", "dump f:x", "dump f:", "dump f::",
			"dump f:0:",
			"dump f:0:0", "dump f:0:5:6", "dump f:-1", "dump f -Z 512 -A 1M", "dump f -Z 512", "dump f -Z 4096 -A 8M",
			"dump /", "dump /dev/null", "dump f:31M -Z 512 -A 1M", "dump f:32M -Z 512 -A 1M", "dump f:16M:40M",
			"dump f:0:40M -Z 512 -A 1M", "dump f:0:1572864", "dump f:0:2097151", "dump f:100 -Z 512 -A 1M",
			"dump f:600 -Z 512 -A 1M", "dump f:1000 -Z 4096 -A 8M", "dump f:512 -Z 4096 -A 8M",
			"dump f:0:4095 -Z 4096 -A 8M",
		}},
		"other sizes": {sizes, []string{
			"dump f:0:64M -f 2", "dump f:8M:64M -f 2", "dump f:8M -f 2", "dump f:16M -f 2", "dump f:20M -f 2",
			"dump f:22M -f 2", "dump f:24M -f 2", "dump f:32M -f 2", "dump f:9M -f 2", "dump f -f 1",
		}},
	}
}

// dumpsOfOddities have one thing wrong with a lockspace of three hosts and a resource.
func dumpsOfOddities() map[string]dumpCase {
	odd := image{size: 4 * mib, parts: map[int64]string{0: "d03-delta-renewed-512", mib: "p06-paxos-sh-two-512"}}
	with := func(i image, poke map[int64]string) image { i.poke = poke; return i }
	return map[string]dumpCase{
		"not a multiple of the area": {image{size: mib / 2, parts: odd.parts}, []string{
			"dump f",
			"dump f -Z 512 -A 1M",
		}},
		"one sector":             {image{size: 512}, []string{"dump f"}},
		"host id 2 nobody":       {with(odd, map[int64]string{512 + 32: "\x00"}), []string{"dump f"}},
		"host id 2 generation 0": {with(odd, map[int64]string{512 + 40: "\x00"}), []string{"dump f"}},
		"host id 2 neither": {
			with(odd, map[int64]string{512 + 32: string(make([]byte, 16))}),
			[]string{"dump f"},
		},
		"host id 2 no magic":  {with(odd, map[int64]string{512: "\x00\x00\x00\x00"}), []string{"dump f"}},
		"host id 2 odd magic": {with(odd, map[int64]string{512: "abcd"}), []string{"dump f"}},
		"host id 1 no magic": {with(odd, map[int64]string{0: "\x00\x00\x00\x00"}), []string{
			"dump f",
			"dump f:0:4M",
		}},
		"host id 1 bad version":  {with(odd, map[int64]string{6: "\x09"}), []string{"dump f"}},
		"host id 1 bad checksum": {with(odd, map[int64]string{168: "\x00"}), []string{"dump f"}},
		"host id 1 sector 1024":  {with(odd, map[int64]string{12: "\x00\x04"}), []string{"dump f"}},
		"host id 1 sector 0":     {with(odd, map[int64]string{12: "\x00\x00"}), []string{"dump f"}},
		"host id 1 no align":     {with(odd, map[int64]string{8: "\x00"}), []string{"dump f"}},
		"sector 1024, no align":  {with(odd, map[int64]string{8: "\x00", 12: "\x00\x04"}), []string{"dump f"}},
		"two aligns":             {with(odd, map[int64]string{8: "\x30"}), []string{"dump f"}},
		"host name of 48 bytes": {
			with(odd, map[int64]string{104: strings.Repeat("é", 24)}),
			[]string{"dump f", "read_leader -s LS1:1:f:0"},
		},
		"host name is not UTF-8": {with(odd, map[int64]string{104: "\xff\xfe\x80"}), []string{"dump f"}},
		"num_hosts 1":            {with(odd, map[int64]string{mib + 16: "\x01\x00"}), []string{"dump f -f 2"}},
		"request without magic": {
			with(odd, map[int64]string{mib + 512: "abcd\x00\x00\x00\x00\x07"}),
			[]string{"dump f -f 1"},
		},
		"large numbers": {
			with(odd, map[int64]string{
				mib + 32:  strings.Repeat("\xff", 24),
				mib + 520: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
			}),
			[]string{"dump f -f 1"},
		},
		"blocks": {with(odd, map[int64]string{
			mib + 4096 + 8: "\x01", mib + 4608: "\x01", mib + 5120 + 16: "\x01", mib + 5632 + 40: "\x01",
			mib + 6144 + 48:  "\x01",
			mib + 6656 + 128: "\x02", mib + 7168 + 128: "\x03", mib + 512*2001: "\x05", mib + 512*2001 + 128: "\x01",
		}), []string{"dump f -f 2"}},
	}
}

func TestDirectDumpSearch(t *testing.T) {
	working(t, 10)
	var trials []trial
	for _, at := range []int64{1, 1023, 1024, 1500} {
		trials = append(trials, trial{fmt.Sprint(at), func(t *testing.T) { dumpSearch(t, at) }})
	}
	several(t, directAtOnce, trials...)
}

func dumpSearch(t *testing.T, at int64) {
	s := bothSides(t, image{size: 0})
	for _, dir := range s.dir {
		if err := os.Symlink("f", filepath.Join(dir, "a:b")); err != nil {
			t.Fatal(err)
		}
	}
	s.sameOutput(t, fmt.Sprintf("init -r LS1:R:f:%dM", at))
	for _, c := range []string{
		"", ":500M", ":476M", ":477M", ":1490M:10M", ":1490M:11M", ":1490M:10485761", ":0:2000M",
	} {
		s.sameOutput(t, "dump f"+c)
	}
	s.sameOutput(t, fmt.Sprintf(`dump a\:b:%dM`, at))
}

// sameOutput is same without a look at the files.
func (s *sides) sameOutput(t *testing.T, command string) {
	t.Helper()
	if stock, own := s.both(t, command); stock != own {
		t.Errorf("sanlock direct %s\nstock, exit code %d:\n%s\nours, exit code %d:\n%s",
			command, stock.code, stock.out, own.code, own.out)
	}
}

func TestDirectReadLeader(t *testing.T) {
	working(t, 15)
	parts := map[int64]string{
		0: "d05-delta-bitmap-512", 512: "d07-delta-shortname-512", mib: "p02-paxos-owned-ex-512",
		3 * mib: "p13-paxos-renamed-512", 4 * mib: "p12-paxos-clear-512", 5 * mib: "r03-rindex-entries-512",
	}
	s := bothSides(t, image{size: 8 * mib, parts: parts})
	for _, c := range []string{
		"-s LS1:1:f:0", "-s LS1:2:f:0", "-s LS1:3:f:0", "-s LS1:2001:f:0", "-s LS1:3000:f:0", "-s LSX:1:f:0",
		"-s :1:f:0",
		"-s LS1:1:f:1M", "-s LS1:1:f:2M", "-s LS1:1:f:8M", "-s LS1:1:f:100", "-s LS1:1:f:512", "-s LS1:1:f:5M",
		"-s LS1:1:f", "-s LS1:1:f:0 -r LS1:RES1:f:1M", "-s LS1:1:f:0 -Z 4096 -A 1M", "-s LS1:1:f:0 -o 0",
		"-s LS1:1:f:0 -a 0",
		"-r LS1:RES1:f:1M", "-r LS1:X:f:1M", "-r LSX:RES1:f:1M", "-r LS1::f:1M", "-r :RES1:f:1M", "-r LS1:R:f:0",
		"-r LS1:NEWNAME:f:3M", "-r LS1:RES5:f:3M", "-r LS1:RES4:f:4M", "-r LS1:R:f:2M", "-r LS1:RES1:f:1048576:SH",
		"-r LS1:RES1:f:1M -Z 4096 -A 1M", "-r LS1:RES1:f:1M -Z 512", "-r LS1:R:f:5M",
		"-s LS1:1:f:0 -z", "-s LS1:1:f:0 -k 1", "-s LS1:1:f:0 foo",
	} {
		s.same(t, "read_leader "+c)
	}
	for _, c := range []string{
		"", "-s LS1", "-s LS1:1", "-s LS1:1:", "-s LS1:1::0", "-s LS1:0:f:0", "-s LS1:0:none:0",
		"-s LS1:1:none:0", "-s LS1:1:/:0",
		"-s LS1:1:/dev/null:0", "-r LS1:R:none:0", "-r LS1:R:/:0", "-r LS1:R:f:8M", "-r LS1:R:f:100",
		"-r LS1:R:f:8388096",
	} {
		s.sameResult(t, "read_leader "+c)
	}
	var trials []trial
	for name, poke := range map[string]map[int64]string{
		"delta magic": {0: "\x00\x00\x00\x00"}, "delta version": {6: "\x05"}, "delta name": {56: "X"},
		"delta checksum": {168: "\x00"}, "delta sector 1024": {12: "\x00\x04"},
		"delta sector 4096":           {12: "\x00\x10"},
		"delta sector 4096, no align": {8: "\x00", 12: "\x00\x10"}, "delta align 8M": {8: "\x80"},
		"paxos magic": {mib: "\x00"}, "paxos version": {mib + 6: "\x07"}, "paxos checksum": {mib + 168: "\x00"},
		"paxos sector": {mib + 12: "\x00\x04"}, "paxos num_hosts": {mib + 16: "\x00\x00"},
		"paxos name":     {mib + 56: "X"},
		"paxos resource": {mib + 104: "X"},
	} {
		trials = append(trials, trial{name, func(t *testing.T) {
			s := bothSides(t, image{size: 8 * mib, parts: parts, poke: poke})
			for _, c := range []string{"-s LS1:1:f:0", "-s LS1:2:f:0", "-s LS1:9:f:0", "-r LS1:RES1:f:1M"} {
				s.same(t, "read_leader "+c)
			}
		}})
	}
	several(t, directAtOnce, trials...)
}

func TestDirectWriteLeader(t *testing.T) {
	working(t, 10)
	s := bothSides(t, image{size: 8 * mib, parts: map[int64]string{
		0: "d05-delta-bitmap-512", 512: "d07-delta-shortname-512", mib: "p02-paxos-owned-ex-512",
	}, poke: map[int64]string{200: "left", mib + 200: "left", mib + 480: "left"}})
	for _, text := range []string{
		"lver 5\nowner_id 3\n",
		"magic 0x5\nversion 0x70000\nflags 0x33\nsector_size 4096\nnum_hosts 9\nmax_hosts 8\nowner_id 1\n" +
			"owner_generation 2\nlver 3\nspace_name SPC\nresource_name RES\ntimestamp 44\nchecksum 0x1234\n" +
			"io_timeout 7\nwrite_id 1\nwrite_generation 2\nwrite_timestamp 3\n",
		"extra1 1\nextra2 2\nextra3 3\nresource_name abc def\ntimestamp 9",
		"bogus 1\nlver 9\n", "# c\n\nlver 10\n   owner_id 4\nlver\n", "checksum 0x1234\n", "",
		"checksum 119\nlver 012\nowner_id 7x\nowner_generation -1\nnum_hosts abc\n",
		"checksum\t0X5\nmagic 0X06152010\nflags 10\n lver +6\nlver 0x10\nowner_id 99999999999999999999999\n" +
			"timestamp -5\nio_timeout -1\nsector_size 0512\n",
		"magic 0x123456789\nversion 0xzz\nversion 0x\nflags -0x5\nchecksum 0x1ffffffff\n",
		"space_name " + strings.Repeat("a", 60) + "\nresource_name " + strings.Repeat("b", 48) + "\n" +
			"lver  \t 7  8\n" + strings.Repeat("x", 300) + " 1\nio_timeout 70000\n",
		"sector_size 512\nmagic 0x12212010\n",
	} {
		s.write(t, "w", text)
		for _, c := range []string{"-r LS1:RES1:f:1M", "-r LS1:RES1:f:1M -f 1"} {
			s.same(t, "write_leader -F w "+c)
			s.same(t, "read_leader "+c)
		}
		for _, c := range []string{"-s LS1:2:f:0", "-s LS1:1:f:0"} {
			s.sameOutput(t, "write_leader -F w "+c)
			s.takeChecksums(t, 0, 512, 4096)
			s.sameFiles(t, "write_leader -F w "+c)
			s.same(t, "read_leader "+c)
		}
	}
	s.write(t, "w", "lver 5\n")
	for _, c := range []string{
		"", "-F none", "-F none -r LS1:RES1:f:1M", "-F w -s LS1:1:f:5M", "-F w -r LS1:R:f:5M",
		"-F w -r LS1:X:f:1M", "-F w -s LS1:1:none:0",
	} {
		s.same(t, "write_leader "+c)
	}
}

// takeChecksums puts our checksums of the leaders at the offsets into stock's file: stock's write_leader -s
// writes one that is not even the one that it prints.
func (s *sides) takeChecksums(t *testing.T, offsets ...int64) {
	t.Helper()
	stock, err := os.OpenFile(filepath.Join(s.dir[0], "f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stock.Close()
	own, err := os.ReadFile(filepath.Join(s.dir[1], "f"))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range offsets {
		if _, err := stock.WriteAt(own[off+168:off+172], off+168); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirectIndex(t *testing.T) {
	working(t, 30)
	s := bothSides(t, image{size: 16 * mib})
	for _, c := range []string{
		"format -x LS1:f:1M", "format -x LS1:f", "format -x LS1", "format -x LS1:", "format -x :f:1M",
		"format -x LS1:none:1M",
		"format -x LS1:f:100", "format -x LS1:f:512", "format -x LS1:f:1M -Z 512", "format -x LS1:f:1M -m 7 -n 5",
		"format -x LS1:f:1M -m 100000", "format -x LS1:f:1M -Z 4096 -A 1M", "format",
		"init -r LS1:x:f:3M", "init -r LS1:x:f:4M", "init -r LS1:x:f:5M", "init -r LS1:x:f:2M",
		"init -r LS1:x:f:1M",
		"format -x LS1:f:1M", "lookup -x LS1:f:1M", "lookup -x LS1:f:1M -e one", "lookup -x LS1:f:1M -e one:3M",
		"lookup -x LS1:f:1M -e :3M", "lookup -x LS1:f:1M -e :3145728", "lookup -x LSX:f:1M", "lookup -x :f:1M",
		"lookup -x LS1:f:0", "lookup -x LS1:f:2M", "lookup -x LS1:none:2M", "lookup -x LS1:f:16M", "lookup",
		"update -x LS1:f:1M", "update -x LS1:f:1M -e one", "update -x LS1:none:1M", "update -x LSX:f:1M -e one",
		"update -x LS1:f:1M -e two:4194304", "update -x LS1:f:1M -e three:5M", "dump f:1M -f 1",
		"update -x LS1:f:1M -e three:5M", "update -x LS1:f:1M -e four:5M", "update -x LS1:f:1M -e two:6M",
		"update -x LS1:f:1M -e last:12M", "dump f:1M -f 1", "lookup -x LS1:f:1M -e two", "lookup -x LS1:f:1M",
		"lookup -x LS1:f:1M -e one:4M", "lookup -x LS1:f:1M -e :4M", "lookup -x LS1:f:1M -e two:4M",
		"lookup -x LS1:f:1M -e :20M",
		"lookup -x LS1:f:1M -e :1000", "lookup -x LS1:f:1M -e nope", "update -x LS1:f:1M -e two -z 1",
		"update -x LS1:f:1M -e two:4M -z 1", "update -x LS1:f:1M -e x:5M -z 1", "update -x LS1:f:1M -e :6M -z 1",
		"update -x LS1:f:1M -e :9M", "update -x LS1:f:1M -e x:1000", "dump f:1M -f 1",
		"init -r LS1:nine:f:9M", "init -r LS1:ten:f:10M", "rebuild -x LS1:f:1M", "dump f:1M -f 1",
		"rebuild -x LSX:f:1M", "rebuild -x LS1:f:0", "rebuild -x LS1:none:0", "rebuild", "next_free f -Z 512 -A 1M",
	} {
		s.same(t, c)
	}
}

// TestDirectIndexSafe: stock takes offsets that have no entry, and then reads and writes beyond its buffer;
// and
// its rebuild lists leases of other lockspaces.
func TestDirectIndexSafe(t *testing.T) {
	working(t, 5)
	s := bothSides(t, image{size: 16 * mib})
	s.run(t, 1, "format -x LS1:f:1M")
	for _, c := range []string{
		"lookup -x LS1:f:1M -e :2M", "update -x LS1:f:1M -e x:2M", "update -x LS1:f:1M -e x:1M",
		"update -x LS1:f:1M -e x:5000M", "lookup -x LS1:f:1M -e :5000M",
	} {
		verb, _, _ := strings.Cut(c, " ")
		if got, want := s.run(t, 1, c), (outcome{verb + " done -277\n", 1}); got != want {
			t.Errorf("sanlock direct %s: got %v, want %v", c, got, want)
		}
	}
	s.run(t, 1, "init -r OTHER:x:f:4M")
	s.run(t, 1, "rebuild -x LS1:f:1M")
	if got := s.run(t, 1, "lookup -x LS1:f:1M -e x"); got.out != "lookup done -2\n" {
		t.Errorf("a lease of another lockspace is in the index: %v", got)
	}
}

func TestDirectNextFree(t *testing.T) {
	working(t, 5)
	s := bothSides(t, image{size: 8 * mib})
	for _, c := range []string{
		"init -s LS1:1:f:0", "init -r LS1:a:f:1M", "init -r LS1:b:f:2M", "format -x LS1:f:4M",
		"next_free f -Z 512 -A 1M", "next_free none", "next_free", "next_free f:3145728 -Z 512 -A 1M",
		"next_free f:8388608 -Z 512 -A 1M",
	} {
		s.same(t, c)
	}
	// Without sizes stock takes what its stack holds.
	if got, want := s.run(t, 1, "next_free f"), (outcome{"3145728\n", 0}); got != want {
		t.Errorf("next_free: got %v, want %v", got, want)
	}
}

// TestDirectAcquire: timestamps may move on between the two commands, so files are not compared.
func TestDirectAcquire(t *testing.T) {
	waiting(t, 5)
	s := bothSides(t, image{size: 16 * mib})
	for _, c := range []string{
		"init -r LS1:R:f:1M", "init -s LS1:1:f:0", "release -r LS1:R:f:1M", "release -r LS1:R:f:1M -i 1 -g 1",
		"release -r LSX:R:f:1M", "release -r LS1:X:f:1M", "acquire -r LS1:X:f:1M -i 1 -g 1",
		"acquire -r LS1:R:none:1M -i 1 -g 1", "acquire -r LS1:R:f:10M -i 1 -g 1",
		"release -r LS1:R:f:10M -i 1 -g 1",
		"release -r LS1:R:none:10M", "acquire -r LS1:R:f:1M -i 2001 -g 1",
		"acquire -r LS1:R:f:1M -i 1 -g 1", "acquire -r LS1:R:f:1M -i 1 -g 1", "acquire -r LS1:R:f:1M -i 2 -g 1",
		"acquire -r LS1:R:f:1M -i 2 -g 1 -s LS1:2:f:0", "release -r LS1:R:f:1M -i 1 -g 1",
		"release -r LS1:R:f:1M", "init -r LS1:S:f:2M -n 4", "acquire -r LS1:S:f:2M -i 5 -g 1",
		"acquire -r LS1:S:f:2M -i 4 -g 2 -n 10", "acquire -r LS1:S:f:2M:7 -i 4 -g 2",
		"acquire -r LS1:S:f:2M:SH -i 4 -g 3",
	} {
		s.sameOutput(t, c)
	}
	for _, at := range []string{"1M", "2M"} {
		c := "dump f:" + at + ":1M -f 2"
		stock, own := timeless(s.run(t, 0, c).out), timeless(s.run(t, 1, c).out)
		if stock != own {
			t.Errorf("after the same commands\nstock:\n%s\nours:\n%s", stock, own)
		}
	}
	// Stock takes a lease for host id 0, whose block would be the request; and for generation 0, which any
	// other host may take it from.
	for _, identity := range []string{"", " -i 4", " -g 4"} {
		c := "acquire -r LS1:S:f:2M" + identity
		if got, want := s.run(t, 1, c), (outcome{"acquire done -22\n", 1}); got != want {
			t.Errorf("sanlock direct %s: got %v, want %v", c, got, want)
		}
	}
}

// timeless blanks what depends on the clock in the lines of a dump: the timestamp column, inp3 and the sum.
func timeless(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if f := strings.Fields(line); strings.HasPrefix(line, "dblock") {
			f[10], f[14] = "", ""
			line = strings.Join(f, " ") + "\n"
		} else if len(f) > 3 && f[0] != "offset" {
			f[3] = ""
			line = strings.Join(f, " ") + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestDirectHostID(t *testing.T) {
	waiting(t, 15)
	s := bothSides(t, image{size: 8 * mib})
	for _, c := range []string{
		"init -s LS1:1:f:0 -o 1", "acquire_id -s LS1:1:f:0 -o 1 -e foo", "renew_id -s LS1:1:f:0 -o 1",
		"renew_id -s LS1:2:f:0 -o 1", "renew_id -s LS1:1:f:0 -o 3", "acquire_id -s LS1:1:f:0 -o 1 -e foo",
		"release_id -s LS1:1:f:0 -o 1", "renew_id -s LS1:1:f:0 -o 1", "release_id -s LS1:1:f:0 -o 1",
	} {
		s.sameOutput(t, c)
	}
	for _, verb := range []string{"acquire_id", "renew_id", "release_id"} {
		for _, space := range []string{
			"LS1:1:none:0", "LS1:0:none:0", "LS1:0:f:0", "LS1:1::0", "LS1:1:f:1M", "LS1:1:f:100", "LS1:1:f:8M",
			"LS2:1:f:0",
			"LS1:5000:f:0", "LS1",
		} {
			s.sameOutput(t, verb+" -o 1 -s "+space)
		}
		s.sameOutput(t, verb)
	}
	leader := func(side int) string {
		var kept []string
		for line := range strings.Lines(s.run(t, side, "read_leader -s LS1:1:f:0").out) {
			kept = append(kept, line)
		}
		return strings.Join(kept, "")
	}
	if stock, own := leader(0), leader(1); stock != own {
		t.Errorf("after the same commands\nstock:\n%s\nours:\n%s", stock, own)
	}
}

// TestDirectSectorSize: without -Z the device's sector size decides.
func TestDirectSectorSize(t *testing.T) {
	working(t, 10)
	var trials []trial
	for _, sector := range []int{512, 4096} {
		trials = append(trials, trial{fmt.Sprint(sector), func(t *testing.T) { directOnSectors(t, sector) }})
	}
	several(t, directAtOnce, trials...)
}

func directOnSectors(t *testing.T, sector int) {
	stock, own := newLoop(t, sector, 16*mib), newLoop(t, sector, 16*mib)
	s := emptySides(t)
	for side, dev := range []string{stock, own} {
		if err := os.Symlink(dev, filepath.Join(s.dir[side], "f")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []string{
		"init -s LS1:1:f:0", "init -r LS1:R:f:8M", "dump f -f 2", "dump f:8M -f 2", "read_leader -s LS1:5:f:0",
		"init -r LS1:R:f:16M", "init -r LS1:R:f:8M -Z 512 -A 1M", "init -s LS1:1:f:512", "dump f:512",
		"format -x LS1:f:0", "lookup -x LS1:f:0", "rebuild -x LS1:f:0", "dump f:0:16M -f 1",
	} {
		s.same(t, c)
	}
}
