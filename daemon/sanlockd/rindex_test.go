package sanlockd

import (
	"encoding/binary"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// TestGoldenIndex replays the captures about a resource index, in the order in which they were made.
func TestGoldenIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := goldenHost(t, true)
		for _, name := range []string{
			"rx-format-35-format_rindex", "rx-create-38-create_resource", "rx-lookup-37-lookup_rindex",
			"rx-lookup-none-37-lookup_rindex", "rx-update-36-update_rindex", "rx-rebuild-40-rebuild_rindex",
			"rx-lookup-37-lookup_rindex", "rx-delete-39-delete_resource",
		} {
			sent, read := exchange(t, name)
			replay(t, h.dial(), name, sent, read)
		}
	})
}

// indexAt is the offset of the tests' index; its first resource lies two areas behind.
const indexAt = 8 * ondisk.MiB

// onIndex asks about the tests' index and returns the result and the offset of the entry in the answer.
func (h *host) onIndex(cmd, flags uint32, name string, offset uint64) (int32, uint64) {
	h.t.Helper()
	p := h.dial()
	defer synctest.Wait()
	defer p.Close()
	return p.onIndex(cmd, flags, name, offset)
}

func (p *caller) onIndex(cmd, flags uint32, name string, offset uint64) (int32, uint64) {
	p.t.Helper()
	p.sendIndex(cmd, flags, name, offset)
	head, body := p.answer()
	if len(body) != sanlockwire.REntrySize {
		return head.Result(), 0
	}
	return head.Result(), binary.LittleEndian.Uint64(body[48:])
}

func (p *caller) sendIndex(cmd, flags uint32, name string, offset uint64) {
	p.t.Helper()
	x := sanlockwire.Rindex{
		Space: leases.NameOf("LS"), Disk: sanlockwire.Disk{Path: diskPath, Offset: indexAt}, MaxResources: 6,
	}
	body := x.Append(nil)
	if cmd != sanlockwire.CmdFormatRindex && cmd != sanlockwire.CmdRebuildRindex {
		body = sanlockwire.REntry{Name: leases.NameOf(name), Offset: offset}.Append(body)
	}
	p.send(cmd, flags, 0, 0, body)
}

func slot(n uint64) uint64 { return indexAt + (2+n)*ondisk.MiB }

// indexHost is a daemon that has joined LS as host 1 and formatted an index.
func indexHost(t *testing.T, disk *memdisk.Disk) *host {
	t.Helper()
	h := startHost(t, disk, "a", nil)
	h.join(1)
	got, _ := h.onIndex(sanlockwire.CmdFormatRindex, 0, "", 0)
	check(t, "format", got, 0)
	return h
}

// member returns an indexed resource as a request names it.
func member(name string, n uint64) sanlockwire.Resource {
	return sanlockwire.Resource{
		Space: leases.NameOf("LS"), Name: leases.NameOf(name),
		Disks: []sanlockwire.Disk{{Path: diskPath, Offset: slot(n)}},
	}
}

// TestIndexAndClients: what a client of this host has, or has left as an orphan, is not deleted; during a
// change no client gets it.
func TestIndexAndClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := indexHost(t, newDisk(0))
		for _, name := range []string{"one", "two"} {
			got, _ := h.onIndex(sanlockwire.CmdCreateResource, 0, name, 0)
			check(t, "create", got, 0)
		}
		c := h.registered()
		check(t, "acquire", c.acquire(0, member("one", 0)), 0)
		got, _ := h.onIndex(sanlockwire.CmdDeleteResource, 0, "one", 0)
		check(t, "delete what is held here", got, resultBusy)
		got, at := h.onIndex(sanlockwire.CmdLookupRindex, 0, "one", 0)
		if check(t, "lookup", got, 0); at != slot(0) {
			t.Errorf("it is at %d", at)
		}
		check(t, "release", c.release(member("one", 0)), 0)
		got, _ = h.onIndex(sanlockwire.CmdDeleteResource, 0, "one", 0)
		check(t, "delete", got, 0)

		// The clearing of the second one hangs: meanwhile it is nobody's.
		gate := faulty.NewGate()
		h.dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)).In(int64(slot(1)), ondisk.MiB).From(3).Times(1))
		p := h.dial()
		p.sendIndex(sanlockwire.CmdDeleteResource, 0, "two", 0)
		time.Sleep(time.Second)
		if gate.Arrived() != 1 {
			t.Fatal("the write that should hang does not; is the number of writes before it another now?")
		}
		check(t, "acquire what is being deleted", c.acquire(0, member("two", 1)), resultBusy)
		check(t, "a second request", firstOf(h.onIndex(sanlockwire.CmdCreateResource, 0, "x", 0)), resultBusy)
		check(t, "remove the lockspace", h.onSpace(sanlockwire.CmdRemLockspace, 0, 0, spaceAs(1)), resultBusy)
		check(t, "without a lockspace",
			firstOf(h.onIndex(sanlockwire.CmdLookupRindex, sanlockwire.IndexNoLockspace, "", 0)), 0)
		gate.Release()
		head, _ := p.answer()
		check(t, "delete", head.Result(), 0)
		check(t, "acquire what was deleted", c.acquire(0, member("two", 1)), -223)
		h.settledDown()
		check(t, "remove the lockspace", h.onSpace(sanlockwire.CmdRemLockspace, 0, 0, spaceAs(1)), 0)
	})
}

func firstOf(result int32, _ uint64) int32 { return result }

// TestIndexLateWrite: a write that misses its deadline keeps the index locked and the lockspace busy until it
// has landed, though the caller has its answer.
func TestIndexLateWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(0)
		h := indexHost(t, disk)
		other := startHost(t, disk, "b", nil)
		other.join(2)
		time.Sleep(20 * time.Second) // they have seen each other renew
		gate := faulty.NewGate()
		h.dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)).In(indexAt+512, 512).Times(1))
		check(t, "create", firstOf(h.onIndex(sanlockwire.CmdCreateResource, 0, "late", 0)), -202)
		check(t, "again", firstOf(h.onIndex(sanlockwire.CmdCreateResource, 0, "late", 0)), resultBusy)
		check(t, "another host", firstOf(other.onIndex(sanlockwire.CmdCreateResource, 0, "mine", 0)), -243)
		gate.Release()
		time.Sleep(10 * time.Second)
		check(t, "the late one is there", firstOf(h.onIndex(sanlockwire.CmdCreateResource, 0, "late", 0)), -17)
		got, at := other.onIndex(sanlockwire.CmdCreateResource, 0, "mine", 0)
		if check(t, "another host", got, 0); at != slot(1) {
			t.Errorf("created at %d, want %d", at, slot(1))
		}
	})
}

// TestIndexEndsWithSpace: when the lockspace is lost in the middle of a request, the caller is told, and the
// host id is kept until the last write has ended.
func TestIndexEndsWithSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := indexHost(t, newDisk(0))
		gate, dead := faulty.NewGate(), faulty.NewGate()
		h.dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)).In(int64(slot(0)), ondisk.MiB).Times(1))
		h.dev.Add(faulty.On(faulty.Any, faulty.Stall(dead)).In(0, ondisk.MiB))
		p := h.dial()
		p.sendIndex(sanlockwire.CmdCreateResource, 0, "x", 0)
		time.Sleep(30 * time.Second) // the lease on the host id has expired after 16
		head, _ := p.answer()
		check(t, "create", head.Result(), resultNoSpace)
		check(t, "another", firstOf(h.onIndex(sanlockwire.CmdCreateResource, 0, "y", 0)), resultNotFound)
		dead.Release()
		time.Sleep(time.Minute)
		check(t, "still leaving", h.onSpace(sanlockwire.CmdInqLockspace, 0, 0, spaceAs(1)), resultInProgress)
		gate.Release()
		time.Sleep(time.Minute)
		check(t, "left", h.onSpace(sanlockwire.CmdInqLockspace, 0, 0, spaceAs(1)), resultNotFound)
		if !strings.Contains(h.log.String(), "still in flight") {
			t.Error("the log does not say why the host id was kept")
		}
	})
}

const (
	resultNotFound   = -2
	resultInProgress = -115
)
