package sanlockd

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// exchange reads what Debian's client sent and what Debian's daemon answered.
func exchange(t *testing.T, name string) (sent, read []byte) {
	t.Helper()
	file, err := os.ReadFile("../sanlockwire/testdata/proto/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(file)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] == "#" {
			continue
		}
		p, err := hex.DecodeString(f[3])
		switch {
		case err != nil: // the text of a recv that failed
		case f[0] == ">":
			sent = append(sent, p...)
		case f[0] == "<":
			read = append(read, p...)
		}
	}
	return sent, read
}

// goldenDisk is the disk of the captures: lockspace gls at 0, leases r1 to r9 behind it.
func goldenDisk() *memdisk.Disk {
	d := memdisk.New(memdisk.Config{SectorSize: 512, Size: diskAreas * ondisk.MiB})
	space := leases.NameOf("gls")
	d.Poke(0, ondisk.FormatLockspace(grid, space, 1))
	for n := 1; n <= 9; n++ {
		if n != 8 { // the place of a lease that was not initialised
			d.Poke(int64(n)*ondisk.MiB, ondisk.FormatResource(grid, space, leases.NameOf("r"+string(rune('0'+n))), 0))
		}
	}
	return d
}

// anyPath opens the disk under the path of the captures.
type anyPath struct{ *host }

func (a anyPath) Open(path string) (device.Device, error) {
	if strings.HasSuffix(path, "ls.img") {
		path = diskPath
	}
	return a.host.Open(path)
}

// goldenHost is a daemon in the state of the captures: lockspace gls joined as host 1 if joined.
func goldenHost(t *testing.T, joined bool) *host {
	t.Helper()
	opener := &anyPath{}
	h := startHost(t, goldenDisk(), "gold-host1", func(c *Config) { c.Opener = opener })
	opener.host = h
	if joined {
		sent, read := exchange(t, "add-lockspace-02-add_lockspace")
		p := h.dial()
		replay(t, p, "add_lockspace", sent, read)
		p.Close()
		time.Sleep(2 * time.Second)
	}
	return h
}

// replay sends what Debian's client sent and compares the answer with Debian's.
func replay(t *testing.T, p *caller, what string, sent, want []byte) {
	t.Helper()
	p.put(sent)
	if len(want) == 0 {
		return
	}
	got := make([]byte, len(want))
	if n, err := readFull(p, got); err != nil {
		t.Fatalf("%s: %d bytes of answer: %v", what, n, err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n%s", what, cmp.Diff(hex.Dump(want), hex.Dump(got)))
	}
}

func readFull(p *caller, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = p.Read(b[n:])
		n += k
	}
	return n, err
}

// TestGoldenSingle replays captures that need a connection each, with and without a joined lockspace.
func TestGoldenSingle(t *testing.T) {
	for _, name := range []string{
		"version-28-version", "inq-lockspace-none-16-inq_lockspace", "rem-lockspace-enoent-03-rem_lockspace",
		"align-err-12-align", "align-file-12-align", "get-hosts-nols-23-get_hosts", "set-config-nols-33-set_config",
		"read-resource-uninit-21-read_resource", "read-resource-eof-21-read_resource",
		"write-lockspace-18-write_lockspace", "write-resource-19-write_resource",
		"write-resource-clear-19-write_resource", "write-resource-hosts-19-write_resource",
		"acquire-by-pid-esrch-07-acquire", "inquire-by-pid-esrch-09-inquire", "relorphan.01-08-release",
		"read-lockspace-err-20-read_lockspace",
		"read-resource-owners-badname-24-read_resource_owners",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := goldenHost(t, false)
				sent, read := exchange(t, name)
				replay(t, h.dial(), name, sent, read)
			})
		})
	}
	for _, name := range []string{
		"add-lockspace-exists-02-add_lockspace", "add-lockspace-conflict-02-add_lockspace",
		"inq-lockspace-16-inq_lockspace", "get-lockspaces-22-get_lockspaces", "read-lockspace-20-read_lockspace",
		"set-config-inval-33-set_config", "set-config-used-33-set_config", "set-config-unused-33-set_config",
		"request-free-11-request", "shutdown-wait-busy-29-shutdown_wait", "rem-lockspace-03-rem_lockspace",
		"rem-lockspace-async-03-rem_lockspace",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := goldenHost(t, true)
				sent, read := exchange(t, name)
				if strings.HasPrefix(name, "get-lockspaces") {
					clear(read[sanlockwire.HeaderSize+60:][:4]) // Debian's daemon sends what lay in its memory there
				}
				replay(t, h.dial(), name, sent, read)
				if strings.Contains(name, "used-33") {
					replay(t, h.dial(), name, exchangeOf(t, "set-config-unused-33-set_config"), nil)
				}
			})
		})
	}
}

func exchangeOf(t *testing.T, name string) []byte {
	sent, _ := exchange(t, name)
	return sent
}

// TestGoldenLocks replays the script of one registered connection: acquire, inquire, convert, release, rename.
func TestGoldenLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := goldenHost(t, true)
		a := h.dial()
		step := func(p *caller, name string) {
			sent, read := exchange(t, name)
			replay(t, p, name, sent, read)
		}
		for _, name := range []string{
			"locks.03-01-register", "locks.04-17-killpath", "locks.05-10-restrict", "locks.06-09-inquire",
			"locks.07-07-acquire", "locks.08-09-inquire", "locks.09-07-acquire",
		} {
			step(a, name)
		}
		step(h.dial(), "locks.01-25-set_lvb")
		step(h.dial(), "locks.02-26-get_lvb")
		for _, name := range []string{
			"locks.10-27-convert", "locks.11-27-convert", "locks.12-27-convert", "locks.13-08-release",
			"locks.14-08-release", "locks.15-07-acquire", "locks.16-08-release", "locks.17-08-release",
			"locks.18-07-acquire", "locks.19-07-acquire", "locks.20-07-acquire", "locks.21-07-acquire",
			"locks.22-10-restrict",
		} {
			step(a, name)
		}
		a.Close()
		synctest.Wait()
		b := h.dial()
		step(b, "orphan.01-01-register")
		step(b, "orphan.02-07-acquire")
		step(b, "orphan.03-07-acquire")
	})
}

// keys returns the words before the equals signs.
func keys(text string) []string {
	var all []string
	for word := range strings.FieldsSeq(text) {
		key, _, _ := strings.Cut(word, "=")
		all = append(all, key)
	}
	return all
}

// states takes apart an answer of state records.
func states(t *testing.T, p []byte) []sanlockwire.State {
	t.Helper()
	var all []sanlockwire.State
	for r := bytes.NewReader(p[sanlockwire.HeaderSize:]); r.Len() > 0; {
		s, err := sanlockwire.ReadState(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// TestGoldenStates compares the keys of every kind of state record, and their order, with Debian's.
func TestGoldenStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := goldenHost(t, true)
		a := h.dial()
		replay(t, a, "register", exchangeOf(t, "locks.03-01-register"), nil)
		sent, read := exchange(t, "locks.07-07-acquire")
		replay(t, a, "acquire", sent, read)
		for _, name := range []string{"cli-status-05-status", "cli-host_status-15-host_status", "cli-renewal-34-renewal"} {
			sent, read := exchange(t, name)
			p := h.dial()
			p.put(sent)
			want := map[uint32][]string{}
			for _, s := range states(t, read) {
				want[s.Type] = keys(s.Text)
			}
			seen := map[uint32]bool{}
			for _, s := range states(t, p.rest()) {
				w := want[s.Type]
				if s.Type == sanlockwire.StateDaemon {
					// Newer upstream has two keys more, which we have too.
					w = slices.Insert(w, slices.Index(w, "use_aio")+1, "io_timeout", "watchdog_fire_timeout")
				}
				if diff := cmp.Diff(w, keys(s.Text)); diff != "" {
					t.Errorf("%s, type %d: %s", name, s.Type, diff)
				}
				seen[s.Type] = true
			}
			for kind := range want {
				if !seen[kind] {
					t.Errorf("%s: no record of type %d", name, kind)
				}
			}
		}
	})
}

// TestStatusFilters: each number leaves out what comes after it.
func TestStatusFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(2), "a", nil)
		h.join(1)
		check(t, "acquire", h.registered().acquire(0, lease(1, sh)), 0)
		for filter, want := range map[uint32]string{
			sanlockwire.StatusDaemon: "1", sanlockwire.StatusClients: "12222",
			sanlockwire.StatusLockspaces: "122223", sanlockwire.StatusAll: "1222234", 99: "1222234",
		} {
			p := h.dial()
			p.send(sanlockwire.CmdStatus, 0, filter, 0, nil)
			var got []byte
			for _, s := range states(t, p.rest()) {
				got = append(got, '0'+byte(s.Type))
			}
			if string(got) != want {
				t.Errorf("filter %d: records of types %s, want %s", filter, got, want)
			}
			synctest.Wait()
		}
	})
}

// TestRender checks the lines that others read in the log.
func TestRender(t *testing.T) {
	for in, want := range map[string]string{
		`{"level":"error","s":3,"message":"kill 5 sig 9 count 1"}`:                            "s3 kill 5 sig 9 count 1",
		`{"level":"error","s":3,"r":7,"message":"release"}`:                                   "s3:r7 release",
		`{"level":"error","r":7,"error":"gone","message":"release"}`:                          "r7 release: gone",
		`{"level":"error","s":1,"space":"LS","error":"x","last":4,"message":"renewal error"}`: "s1 renewal error last=4: x",
		`{"level":"error","space":"LS","message":"m"}`:                                        "LS m",
		`{"message":"m"}`: "m",
	} {
		got, err := render([]byte(in))
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
		}
	}
}

// line is how every line of the log begins.
var line = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \d+ \[\d+\]: `)
