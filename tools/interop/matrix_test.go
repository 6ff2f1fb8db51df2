package interop

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tests of this file give every option to every action, with good values, bad ones and none, to Debian's
// program and to ours.

// letters are the options that there are, and some that are none.
const letters = "DQRHLSUGtgwhlbeFaonmpifsrOPuxzcAZdkqvVBK19-"

// values are given to each option: off, on, no number, an octal, a hexadecimal, negative and too large ones,
// and what names a lease.
var values = []string{
	"0", "1", "-1", "x", "", " 010", "0x12", "5z", "2147483648", "1M", "a:1:b:2", `a\:b:c:d\:e:1`,
}

// clientBases are actions with what they need; -D and more are added to them.
var clientBases = []string{
	"status", "gets", "host_status -s ls", "renewal -s ls", "set_event -s ls -i 2 -e 5", "set_config -s ls -u 1",
	"log_dump", "shutdown", "init -s ls:0:p:0", "init -r ls:r:p:1M", "write -r ls:r:p:1M", "read -s ls:1:p:0",
	"read -r ls:r:p:1M", "add_lockspace -s ls:1:p:0", "inq_lockspace -s ls:1:p:0", "rem_lockspace -s ls:1:p:0",
	"acquire -p 5 -r a:b:c:1M", "convert -p 5 -r a:b:c:1M:SH", "release -p 5 -r a:b:c:1M", "inquire -p 5",
	"request -r a:b:c:1M -f 2", "examine -r a:b:c:1M", "align -s ls:0:p:0", "version", "format -x ls:p:1M",
	"create -x ls:p:1M -e q", "delete -x ls:p:1M -e q", "lookup -x ls:p:1M -e q", "update -x ls:p:1M -e q:3M",
	"rebuild -x ls:p:1M",
}

// matrix calls try with every option, once without a value and once with each of values; the options that are
// not in busy only with one.
func matrix(busy string, values []string, try func(option ...string)) {
	for _, letter := range letters {
		option := "-" + string(letter)
		try(option)
		if letter == 'c' {
			continue // the rest of the line is a command
		}
		if !strings.ContainsRune(busy, letter) {
			try(option, "1")
			continue
		}
		for _, value := range values {
			try(option, value)
		}
	}
}

// negative reports whether an option asks for an io_timeout or a number of hosts below zero: stock makes a huge
// one of it; ours takes the default.
func negative(option []string) bool {
	return len(option) == 2 && (option[0] == "-o" || option[0] == "-n") &&
		slices.Contains([]string{"-1", "2147483648", "99999999999999999999"}, option[1])
}

// zeroed reports whether a leader could not be read, and ours goes on with zeros where stock goes on with what
// its stack holds.
func (o said) zeroed(stock said) bool {
	first, _, ok := strings.Cut(o.Out, "\n")
	theirs, _, _ := strings.Cut(stock.Out, "\n")
	return ok && first == theirs && strings.HasPrefix(first, "read_leader done -")
}

// stricter reports whether ours refuses on purpose what stock complains about and goes on.
func (o said) stricter(stock said) bool {
	return o.Code == 1 && strings.Contains(o.Out, "resource arg") && strings.HasPrefix(stock.Out, o.Out)
}

// TestClientOptions gives every option to every action of `sanlock client`.
func TestClientOptions(t *testing.T) {
	working(t, 50)
	theirs(t)
	for _, base := range clientBases {
		t.Run(base, func(t *testing.T) {
			r := record(t, 0)
			matrix("howeafsrOPuxzAZdpnmig", values, func(option ...string) {
				if negative(option) && option[0] == "-o" {
					return
				}
				args := append(strings.Fields(base), option...)
				want := runDebian(t, r.dir, args)
				want.Asked = r.taken(t)
				got := runOurs(r.dir, args)
				got.Asked = r.taken(t)
				if got.stricter(want) && len(got.Asked) == 0 {
					return
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%q (-debian +ours):\n%s", args, diff)
				}
			})
		})
	}
}

// directBases are actions on the file of the side, f, whose areas are as in directSides. What may take a host id
// waits for its io_timeout, so it is given a file that does not exist.
var directBases = []string{
	"init -s ls:0:f:0", "init -r ls:r:f:1M", "dump f", "dump f:1M", "next_free f -Z 512 -A 1M",
	"read_leader -s ls:1:f:0", "read_leader -r ls:r:f:1M", "acquire -r ls:r:g:1M -i 1 -g 1",
	"release -r ls:r:f:1M -i 1 -g 1", "acquire_id -s ls:1:g:0", "renew_id -s ls:1:g:0", "release_id -s ls:1:g:0",
	"format -x ls:f:2M", "lookup -x ls:f:2M -e q", "update -x ls:f:2M -e q:4M", "rebuild -x ls:f:2M",
}

// directSides makes two directories with the same file f: one lockspace, one lease and one index, made by
// Debian's program.
func directSides(t *testing.T) [2]string {
	t.Helper()
	dirs := [2]string{memoryDir(t), memoryDir(t)} // no offset in these lines is within a sector
	f := filepath.Join(dirs[0], "f")
	if err := os.WriteFile(f, make([]byte, 8*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"init -s ls:0:" + f + ":0", "init -r ls:r:" + f + ":1M", "format -x ls:" + f + ":2M"} {
		if got := runDebian(t, "", append([]string{"direct"}, strings.Fields(line)...)); got.Code != 0 {
			t.Fatalf("%s: %s", line, got.Out)
		}
	}
	sameFile(t, dirs)
	return dirs
}

// sameFile copies stock's file to our side.
func sameFile(t *testing.T, dirs [2]string) {
	t.Helper()
	made, err := os.ReadFile(filepath.Join(dirs[0], "f"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dirs[1], "f"), made, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDirectOptions gives every option to every action of `sanlock direct`.
func TestDirectOptions(t *testing.T) {
	working(t, 80)
	theirs(t)
	var trials []trial
	for _, base := range directBases {
		trials = append(trials, trial{base, func(t *testing.T) {
			dirs := directSides(t)
			matrix("anmfzoigeZA", values[:9], func(option ...string) {
				if negative(option) || option[0] == "-z" && strings.HasPrefix(base, "init -r") {
					return // the latter stores a clock
				}
				args := func(side int) []string {
					line := []string{"direct"}
					for word := range strings.FieldsSeq(base) {
						for _, name := range []string{"f", "g"} {
							word = strings.ReplaceAll(word, ":"+name+":", ":"+filepath.Join(dirs[side], name)+":")
						}
						if word == "f" || strings.HasPrefix(word, "f:") {
							word = filepath.Join(dirs[side], word)
						}
						line = append(line, word)
					}
					return append(line, option...)
				}
				var want said
				var stock sync.WaitGroup
				stock.Go(func() { want = runDebian(t, "", args(0)) })
				got := runOurs("", args(1))
				stock.Wait()
				if got.stricter(want) {
					sameFile(t, dirs)
					return
				}
				if got.zeroed(want) {
					want.Out = got.Out
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%q (-debian +ours):\n%s", args(1), diff)
				}
				sameBytes(t, args(1), dirs)
			})
		}})
	}
	several(t, directAtOnce, trials...)
}

func sameBytes(t *testing.T, args []string, dirs [2]string) {
	t.Helper()
	if equalFiles(t, dirs) {
		return
	}
	p := bothFiles(t, dirs)
	if at := differAt(p); at >= 0 || len(p[0]) != len(p[1]) {
		t.Fatalf("%q: the files of %d and %d bytes differ from byte %d on", args, len(p[0]), len(p[1]), at)
	}
}
