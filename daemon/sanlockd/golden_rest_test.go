package sanlockd

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// one replays a capture on a connection of its own. free are the ranges of the answer that vary from run to
// run.
func (h *host) one(t *testing.T, name string, free ...[2]int) {
	t.Helper()
	sent, read := exchange(t, name)
	p := h.dial()
	p.put(sent)
	got := make([]byte, len(read))
	if n, err := readFull(p, got); err != nil {
		t.Fatalf("%s: %d bytes of answer: %v", name, n, err)
	}
	for _, f := range free {
		clear(got[f[0]:f[1]])
		clear(read[f[0]:f[1]])
	}
	if !bytes.Equal(got, read) {
		t.Errorf("%s:\n%s", name, cmp.Diff(hex.Dump(read), hex.Dump(got)))
	}
	p.Close()
	synctest.Wait()
}

// TestGoldenJoining replays what others see while a lockspace is being added, and the removal that ends that.
func TestGoldenJoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := goldenHost(t, false)
		h.one(t, "add-lockspace-async-02-add_lockspace")
		h.one(t, "add-lockspace-inprogress-02-add_lockspace")
		h.one(t, "inq-lockspace-inprogress-16-inq_lockspace")
		h.one(t, "get-lockspaces-add-22-get_lockspaces",
			[2]int{sanlockwire.HeaderSize + 60, sanlockwire.HeaderSize + 64}) // uncleared in stock
		sent, read := exchange(t, "inq-lockspace-wait-16-inq_lockspace")
		waiter := h.dial()
		waiter.put(sent)
		h.one(t, "rem-lockspace-inprogress-03-rem_lockspace")
		replay(t, waiter, "inq_lockspace that waits", nil, read)
	})
	synctest.Test(t, func(t *testing.T) {
		h := goldenHost(t, false)
		h.one(t, "add-lockspace-async-02-add_lockspace")
		joined := func() bool { return len(h.s.spaces) == 1 && h.s.spaces[0].list == held }
		if err := h.s.await(t.Context(), joined); err != nil {
			t.Fatal(err)
		}
		h.one(t, "get-hosts-early-23-get_hosts")
		time.Sleep(5 * time.Second)
		const timestamp = sanlockwire.HeaderSize + 16
		h.one(t, "get-hosts-23-get_hosts", [2]int{timestamp, timestamp + 8})
		h.one(t, "get-hosts-one-23-get_hosts")
		h.one(t, "set-event-32-set_event")
		h.one(t, "set-event-busy-32-set_event")
		h.one(t, "examine-lockspace-13-examine_lockspace")
		h.one(t, "examine-resource-14-examine_resource")
	})
}

// TestGoldenReads replays reads of areas in every state.
func TestGoldenReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := goldenHost(t, true)
		h.one(t, "read-resource-21-read_resource")
		h.one(t, "write-resource-clear-19-write_resource")
		h.one(t, "read-resource-cleared-21-read_resource")
		h.one(t, "read-resource-owners-none-24-read_resource_owners")
		p := h.dial()
		replay(t, p, "register", exchangeOf(t, "locks.03-01-register"), nil)
		r := goldenLease(1)
		check(t, "acquire r1", p.acquire(0, r), 0)
		const lver, owner = sanlockwire.HeaderSize + 96, sanlockwire.HeaderSize + 128
		generation, timestamp := [2]int{owner + 8, owner + 16}, [2]int{owner + 16, owner + 24}
		h.one(t, "read-resource-owners-ex-24-read_resource_owners", [2]int{lver, lver + 8}, generation, timestamp)
		h.one(t, "rem-lockspace-unused-busy-03-rem_lockspace")
		h.one(t, "request-11-request")
		h.one(t, "request-old-11-request")
		shared := goldenLease(4)
		shared.Flags |= sanlockwire.ResShared
		check(t, "acquire r4", p.acquire(0, shared), 0)
		h.one(t, "read-resource-owners-sh-24-read_resource_owners", [2]int{lver, lver + 8}, generation)
		h.one(t, "shutdown-ignored-04-shutdown")
		h.one(t, "inq-lockspace-16-inq_lockspace")
	})
	synctest.Test(t, func(t *testing.T) {
		opener := &anyPath{}
		blank := memdisk.New(memdisk.Config{SectorSize: 512, Size: diskAreas * ondisk.MiB})
		opener.host = startHost(t, blank, "blank", func(c *Config) { c.Opener = opener })
		opener.one(t, "read-lockspace-uninit-20-read_lockspace")
	})
}

// TestGoldenByPID replays commands on behalf of another process, whose number is put into the requests.
func TestGoldenByPID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := goldenHost(t, true)
		a := h.dial()
		// In the captures r2 had been converted to exclusive.
		for _, name := range []string{"locks.03-01-register", "locks.07-07-acquire", "locks.11-27-convert"} {
			sent, read := exchange(t, name)
			replay(t, a, name, sent, read)
		}
		for _, name := range []string{
			"acquire-by-pid-07-acquire", "inquire-by-pid-09-inquire", "release-by-pid-08-release",
			"release-all-by-pid-08-release",
		} {
			sent, read := exchange(t, name)
			binary.LittleEndian.PutUint32(sent[28:], uint32(a.who.number))
			p := h.dial()
			p.put(sent)
			got := make([]byte, len(read))
			if n, err := readFull(p, got); err != nil {
				t.Fatalf("%s: %d bytes of answer: %v", name, n, err)
			}
			if strings.HasPrefix(name, "inquire") {
				got, read = lverIn.ReplaceAll(got, []byte(":n$1")), lverIn.ReplaceAll(read, []byte(":n$1"))
			}
			if !bytes.Equal(got, read) {
				t.Errorf("%s:\n%s", name, cmp.Diff(hex.Dump(read), hex.Dump(got)))
			}
		}
		if got := a.holds(); got != "" {
			t.Errorf("it still holds %q", got)
		}
	})
}

// lverIn finds the versions in the text of an INQUIRE, which differ with the history of the disk.
var lverIn = regexp.MustCompile(`:\d( |\x00)`)

// TestGoldenOrphans replays the life of orphans. Stock grants a lease of which there is no orphan to a client
// that asks for an orphan only (orphan.04); here it is told that there is none.
func TestGoldenOrphans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := goldenHost(t, true)
		a := h.dial()
		replay(t, a, "register", exchangeOf(t, "orphan.01-01-register"), nil)
		persistent := goldenLease(4)
		persistent.Flags |= sanlockwire.ResPersistent
		check(t, "acquire r4", a.acquire(0, persistent), 0)
		a.Close()
		synctest.Wait()
		b := h.dial()
		step := func(name string, want []byte) {
			sent, read := exchange(t, name)
			if want != nil {
				read = want
			}
			replay(t, b, name, sent, read)
		}
		step("orphan.01-01-register", nil)
		step("orphan.02-07-acquire", nil)
		step("orphan.03-07-acquire", nil)
		_, refused := exchange(t, "orphan.04-07-acquire")
		binary.LittleEndian.PutUint32(refused[24:], 0xfffffffe) // -2
		step("orphan.04-07-acquire", refused)
		step("orphan.05-07-acquire", nil)
		step("orphan.06-07-acquire", nil)
		b.Close()
		synctest.Wait()
		c := h.dial()
		sent, read := exchange(t, "relorphan.02-01-register")
		replay(t, c, "register", sent, read)
		sent, read = exchange(t, "relorphan.03-08-release")
		replay(t, c, "release of the orphan", sent, read)
	})
}

// TestGoldenShutdown replays a forced shutdown that is waited for, and the log.
func TestGoldenShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := goldenHost(t, true)
		h.one(t, "shutdown-force-wait-29-shutdown_wait")
	})
	synctest.Test(t, func(t *testing.T) {
		text := "2026-11-21 02:19:01 1384 [24981]: sanlock daemon started\n"
		h := startHost(t, goldenDisk(), "a", func(c *Config) { c.Dump = func() []byte { return []byte(text) } })
		sent, read := exchange(t, "cli-log_dump-06-log_dump")
		binary.LittleEndian.PutUint32(read[24:], uint32(len(text)))
		replay(t, h.dial(), "log_dump", sent, append(read[:sanlockwire.HeaderSize:sanlockwire.HeaderSize], text...))
	})
}

// TestGoldenEvents replays a listener: registration, one event, the word that ends it.
func TestGoldenEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := goldenDisk()
		var hosts []*host
		for _, name := range []string{"gold-host1", "gold-host2"} {
			opener := &anyPath{}
			h := startHost(t, disk, name, func(c *Config) { c.Opener = opener })
			opener.host = h
			hosts = append(hosts, h)
			l := spaceAs(uint64(len(hosts)))
			l.Name = goldenLease(1).Space
			check(t, "join", h.onSpace(sanlockwire.CmdAddLockspace, 0, 1, l), 0)
		}
		time.Sleep(5 * time.Second)
		sent, read := exchange(t, "events.01-30-reg_event")
		ear := hosts[0].dial()
		replay(t, ear, "reg_event", sent, read[:sanlockwire.HeaderSize])
		l := spaceAs(0)
		l.Name = goldenLease(1).Space
		p := hosts[1].dial()
		check(t, "set_event", p.ask(sanlockwire.CmdSetEvent, 0, 0, 0,
			eventBody(l, sanlockwire.HostEvent{HostID: 1, Event: 0x33, Data: 0x44})), 0)
		replay(t, ear, "event", nil, read[sanlockwire.HeaderSize:])
		raw, _ := exchange(t, "events.02-00-raw")
		ear.put(raw)
		ear.Close()
		hosts[0].one(t, "events.03-31-end_event")
	})
}

// TestEveryCaptureIsReplayed: no captured exchange is left out.
func TestEveryCaptureIsReplayed(t *testing.T) {
	all, err := filepath.Glob("../sanlockwire/testdata/proto/*.txt")
	if err != nil || len(all) < 100 {
		t.Fatalf("%d captures: %v", len(all), err)
	}
	sources, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, s := range sources {
		text, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	for _, c := range all {
		name := strings.TrimSuffix(filepath.Base(c), ".txt")
		if !strings.Contains(code.String(), `"`+name+`"`) {
			t.Errorf("%s is not replayed", name)
		}
	}
}

func goldenLease(n int) sanlockwire.Resource {
	r := lease(n, 0)
	r.Space = leases.NameOf("gls")
	r.Disks[0].Offset = uint64(n) * ondisk.MiB
	return r
}
