package sanlockd

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/ondisk"
)

func versionRequest(seq uint32) []byte {
	h := sanlockwire.NewHeader(sanlockwire.CmdVersion, 7, 0, 0, 0)
	h.Seq = seq
	return h.Append(nil)
}

func (p *caller) put(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Error(err)
	}
}

// wantVersion reads one answer to VERSION.
func (p *caller) wantVersion() {
	p.t.Helper()
	h, _ := p.answer()
	want := sanlockwire.NewHeader(sanlockwire.CmdVersion, 0, 0, 0, sanlockwire.DaemonVersion)
	if h != want {
		p.t.Errorf("answer to VERSION %+v, want %+v", h, want)
	}
}

// TestHalfMessages: one who stops in the middle of a request delays nobody.
func TestHalfMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(2), "a", nil)
		h.join(1)
		request := sanlockwire.NewHeader(sanlockwire.CmdAcquire, 0, 1000, 1, self).Append(nil)
		request = append(request, acquireBody(lease(2, 0))...)
		var halves []*caller
		for _, n := range []int{0, 1, 31, 32, 33, 200, len(request) - 1} {
			p := h.registered()
			p.put(request[:n])
			halves = append(halves, p)
		}
		synctest.Wait()
		check(t, "acquire by another", h.registered().acquire(0, lease(1, 0)), 0)
		check(t, "status for another", h.onSpace(inq, 0, 0, spaceAs(1)), 0)
		last := halves[len(halves)-1]
		last.put(request[len(request)-1:])
		if r, _ := last.answer(); r.Result() != 0 {
			t.Errorf("acquire whose last byte came late: %d", r.Result())
		}
		for _, p := range halves {
			p.Close()
		}
		h.settledDown()
	})
}

// TestByteByByte sends requests in pieces of one byte, and all in one piece.
func TestByteByByte(t *testing.T) {
	for _, piece := range []int{1, 7, 1 << 20} {
		synctest.Test(t, func(t *testing.T) {
			h := startHost(t, newDisk(2), "a", nil)
			h.join(1)
			p := h.dial()
			all := sanlockwire.NewHeader(sanlockwire.CmdRegister, 0, 0, 0, 0).Append(nil)
			body := acquireBody(lease(1, 0), lease(2, sh))
			all = append(all, sanlockwire.NewHeader(sanlockwire.CmdAcquire, 0, len(body), 2, self).Append(nil)...)
			all = append(all, body...)
			all = append(all, versionRequest(1)...)
			all = append(all, sanlockwire.NewHeader(sanlockwire.CmdInquire, 0, 0, 0, self).Append(nil)...)
			go func() {
				for rest := all; len(rest) > 0; {
					n := min(piece, len(rest))
					if _, err := p.Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
			}()
			if r, _ := p.answer(); r.Cmd != sanlockwire.CmdAcquire || r.Result() != 0 {
				t.Errorf("acquire: %+v", r)
			}
			p.wantVersion()
			want := "LS:r1:/dev/lease:1048576:1 LS:r2:/dev/lease:2097152:SH\x00"
			if r, body := p.answer(); r.Data2 != 2 || string(body) != want {
				t.Errorf("inquire: %+v %q", r, body)
			}
		})
	}
}

// TestGarbage: headers that are none are dropped, 32 bytes each, and the connection goes on.
func TestGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(1), "a", nil)
		p := h.dial()
		unknown := sanlockwire.NewHeader(77, 0, 0, 0, 0)
		newer := sanlockwire.NewHeader(sanlockwire.CmdInquire, 0, 0, 0, self)
		newer.Version = 0x10000
		magic := sanlockwire.NewHeader(sanlockwire.CmdInquire, 0, 0, 0, self)
		magic.Magic++
		for _, bad := range [][]byte{
			bytes.Repeat([]byte{0xff}, 32), make([]byte, 320), unknown.Append(nil), newer.Append(nil), magic.Append(nil),
		} {
			p.put(bad)
			p.put(versionRequest(1))
			p.wantVersion()
		}
		check(t, "disks of a resource", p.ask(sanlockwire.CmdReadResource, 0, 0, 0,
			sanlockwire.Resource{NumDisks: 5}.Append(nil)), -34)
		check(t, "resources of an acquire, unregistered", p.ask(sanlockwire.CmdAcquire, 0, 9, self, nil), -16)
		q := h.registered()
		check(t, "resources of an acquire", q.ask(sanlockwire.CmdAcquire, 0, 9, self, nil), -7)
		short := sanlockwire.NewHeader(sanlockwire.CmdSetLVB, 0, 0, 0, 0)
		q.put(append(short.Append(nil), lease(1, 0).Append(nil)...))
		if r, _ := q.answer(); r.Result() != -22 {
			t.Errorf("a value of negative length: %d, want -22", r.Result())
		}
	})
}

// TestFlood sends a million bytes of garbage; the daemon keeps a bounded part of it and its log stays small.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(1), "a", nil)
		p := h.dial()
		p.put(bytes.Repeat([]byte("all work and no play makes Jack "), 1<<15))
		p.put(versionRequest(1))
		p.wantVersion()
		if n := strings.Count(h.log.String(), "recv msg header"); n != maxDropLogs {
			t.Errorf("%d lines about dropped headers, want %d", n, maxDropLogs)
		}
	})
}

// TestRestrictAll closes a connection to requests, also those that are on their way already.
func TestRestrictAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a := h.registered()
		check(t, "acquire", a.acquire(0, lease(1, 0)), 0)
		restrict := sanlockwire.NewHeader(sanlockwire.CmdRestrict, sanlockwire.RestrictAll, 0, 0, self)
		a.put(append(restrict.Append(nil), versionRequest(1)...))
		if r, _ := a.answer(); r.Cmd != sanlockwire.CmdRestrict || r.Result() != 0 {
			t.Errorf("restrict: %+v", r)
		}
		if err := a.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if n, err := a.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes of answer on a restricted connection", n)
		}
		out := h.dial()
		check(t, "by pid", out.ask(sanlockwire.CmdRelease, sanlockwire.ReleaseAll, 0, uint32(a.who.number), nil), 0)
		if owner(disk, 1) != 0 {
			t.Error("the lease was not released")
		}
	})
}

// TestRegisterTwice: what a client holds stays its own.
func TestRegisterTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a := h.registered()
		check(t, "acquire", a.acquire(0, lease(1, 0)), 0)
		a.send(sanlockwire.CmdRegister, 0, 0, 0, nil)
		if got := a.holds(); got == "" {
			t.Error("a second REGISTER lost the client's leases")
		}
		a.Close()
		synctest.Wait()
		h.settledDown()
		if owner(disk, 1) != 0 {
			t.Error("the lease was not released when the client died")
		}
	})
}

// TestSlowCommandHoldsUpNobody: twenty commands hang in the storage, and everything else goes on.
func TestSlowCommandHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(30), "a", nil)
		h.join(1)
		hang := faulty.NewGate()
		h.dev.Add(faulty.On(faulty.Read, faulty.Stall(hang)).In(ondisk.MiB, ondisk.MiB))
		for range 20 {
			h.registered().send(sanlockwire.CmdAcquire, 0, 1, self, acquireBody(lease(1, 0)))
		}
		h.dial().send(sanlockwire.CmdReadResource, 0, 0, 0, lease(1, 0).AppendWithDisks(nil))
		synctest.Wait()
		began := time.Now()
		check(t, "another lease", h.registered().acquire(0, lease(2, 0)), 0)
		check(t, "inq", h.onSpace(inq, 0, 0, spaceAs(1)), 0)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %v for storage of others", waited)
		}
		hang.Release()
	})
}

// TestClosing: commands whose answer ends with the connection end it, unless it is registered.
func TestClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(1), "a", nil)
		for cmd, body := range map[uint32][]byte{
			sanlockwire.CmdStatus: nil, sanlockwire.CmdLogDump: nil, sanlockwire.CmdGetLockspaces: nil,
			sanlockwire.CmdGetHosts: spaceAs(1).Append(nil), sanlockwire.CmdHostStatus: spaceAs(1).Append(nil),
			sanlockwire.CmdRenewal: spaceAs(1).Append(nil), sanlockwire.CmdSetConfig: spaceAs(1).Append(nil),
		} {
			p := h.dial()
			p.send(cmd, 0, 0, 0, body)
			if n := len(p.rest()); n < sanlockwire.HeaderSize {
				t.Errorf("command %d: %d bytes of answer", cmd, n)
			}
		}
		a := h.registered()
		a.send(sanlockwire.CmdGetLockspaces, 0, 0, 0, nil)
		a.answer()
		check(t, "a registered connection afterwards", a.ask(sanlockwire.CmdInquire, 0, 0, self, nil), 0)
	})
}

// TestConvert walks the results of CONVERT (spec sanlock-daemon 2.4).
func TestConvert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(3)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a, b := h.registered(), h.registered()
		check(t, "not held", a.convert(lease(1, 0)), -2)
		check(t, "acquire", a.acquire(0, lease(1, 0)), 0)
		check(t, "exclusive to exclusive", a.convert(lease(1, 0)), -114)
		check(t, "to shared", a.convert(lease(1, sh)), 0)
		check(t, "shared to shared", a.convert(lease(1, sh)), -114)
		if owner(disk, 1) != 0 || !sharing(disk, 1, 1) {
			t.Error("the disk does not show a shared lease")
		}
		check(t, "b shares", b.acquire(0, lease(1, sh)), 0)
		check(t, "to exclusive while b shares", a.convert(lease(1, 0)), -11)
		check(t, "b releases", b.release(lease(1, 0)), 0)
		check(t, "to exclusive", a.convert(lease(1, 0)), 0)
		if owner(disk, 1) != 1 || sharing(disk, 1, 1) {
			t.Error("the disk does not show an exclusive lease")
		}
		if got, want := a.holds(), "LS:r1:/dev/lease:1048576:2"; got != want {
			t.Errorf("a holds %q, want %q", got, want)
		}
		check(t, "b, exclusive", b.acquire(0, lease(1, 0)), -17)
	})
}

// TestConvertFails: an exclusive conversion that storage refuses leaves the lease shared and usable.
func TestConvertFails(t *testing.T) {
	for n := range 8 {
		synctest.Test(t, func(t *testing.T) {
			disk := newDisk(2)
			h := startHost(t, disk, "a", nil)
			h.join(1)
			a := h.registered()
			check(t, "acquire", a.acquire(0, lease(1, sh)), 0)
			rule := faulty.OnIndex(n, faulty.Fail(nil)).In(ondisk.MiB, ondisk.MiB)
			h.dev.Add(rule)
			rv := a.convert(lease(1, 0))
			if rule.Fired() == 0 {
				return
			}
			if rv == 0 && owner(disk, 1) != 1 {
				t.Errorf("transfer %d failed: convert said 0, but the disk has no owner", n)
			}
			time.Sleep(30 * time.Second)
			if rv != 0 && owner(disk, 1) != 0 {
				t.Errorf("transfer %d failed: the leader was left owned after %d", n, rv)
			}
			if rv != 0 {
				check(t, "convert again", a.convert(lease(1, 0)), 0)
			}
			check(t, "release", a.release(lease(1, 0)), 0)
			if owner(disk, 1) != 0 || sharing(disk, 1, 1) {
				t.Errorf("transfer %d failed: the lease is not free in the end", n)
			}
		})
	}
}

// TestRelease: the forms of RELEASE.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(20)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a := h.registered()
		for n := 1; n <= 20; n++ {
			check(t, "acquire", a.acquire(0, lease(n, 0)), 0)
		}
		check(t, "one that is not held among others", a.release(lease(1, 0), lease(50, 0), lease(2, 0)), -1)
		if owner(disk, 1) != 0 || owner(disk, 2) != 0 {
			t.Error("the others were not released")
		}
		renamed := lease(3, 0)
		renamed.Name = leases.NameOf("new")
		body := renamed.Append(lease(3, 0).Append(nil))
		check(t, "rename", a.ask(sanlockwire.CmdRelease, sanlockwire.ReleaseRename, 2, self, body), 0)
		l, err := ondisk.DecodeLeader(disk.Bytes(3*ondisk.MiB, 512))
		if err != nil || l.ResourceName.String() != "new" || l.Timestamp != 0 {
			t.Errorf("leader after a rename: %+v, %v", l, err)
		}
		check(t, "all", a.ask(sanlockwire.CmdRelease, sanlockwire.ReleaseAll, 0, self, nil), 0)
		for n := 4; n <= 20; n++ {
			if owner(disk, n) != 0 {
				t.Errorf("r%d was not released", n)
			}
		}
		if got := a.holds(); got != "" {
			t.Errorf("a holds %q", got)
		}
	})
}

// TestValueBlock sets, gets, keeps and refuses value blocks (spec sanlock-daemon 2.4).
func TestValueBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(2), "a", nil)
		h.join(1)
		a, out := h.registered(), h.dial()
		set := func(value string) int32 {
			return out.ask(sanlockwire.CmdSetLVB, 0, 0, 0, append(lease(1, 0).Append(nil), value...))
		}
		get := func(n uint32) (int32, []byte) {
			out.send(sanlockwire.CmdGetLVB, 0, 0, n, lease(1, 0).Append(nil))
			h, body := out.answer()
			return h.Result(), body
		}
		check(t, "set, not held", set("x"), -2)
		check(t, "acquire without", a.acquire(0, lease(1, 0)), 0)
		check(t, "set, acquired without", set("x"), -22)
		check(t, "release", a.release(lease(1, 0)), 0)
		check(t, "acquire with", a.acquire(sanlockwire.AcquireLVB, lease(1, 0)), 0)
		check(t, "too long", set(strings.Repeat("x", 513)), -7)
		check(t, "set", set("hello"), 0)
		check(t, "release", a.release(lease(1, 0)), 0)
		check(t, "acquire again", a.acquire(sanlockwire.AcquireLVB, lease(1, 0)), 0)
		want := append([]byte("hello"), make([]byte, 507)...)
		if rv, got := get(0); rv != 0 || !bytes.Equal(got, want) {
			t.Errorf("get: %d, %q", rv, got)
		}
		if rv, got := get(3); rv != 0 || string(got) != "hel" {
			t.Errorf("get 3 bytes: %d, %q", rv, got)
		}
		if rv, got := get(4000000); rv != 0 || !bytes.Equal(got, want) {
			t.Errorf("get too many bytes: %d, %d bytes", rv, len(got))
		}
	})
}

// TestManyClients: a hundred clients at once take, share, convert, release and die; afterwards nothing is held.
func TestManyClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const resources = 6
		disk := newDisk(resources)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		done := make(chan struct{})
		for n := range 100 {
			p := h.dial()
			p.send(sanlockwire.CmdRegister, 0, 0, 0, nil)
			go func() {
				defer func() { done <- struct{}{} }()
				for i := range 10 {
					r := 1 + (n*7+i*3)%resources
					mode := uint32((n + i) % 3 / 2 * sh)
					if rv := p.acquire(0, lease(r, mode)); rv == 0 {
						if (n+i)%4 == 0 {
							p.convert(lease(r, mode^sh))
						}
						if (n+i)%5 != 0 {
							check(t, "release", p.release(lease(r, 0)), 0)
						}
					} else if rv != -17 && rv != -16 && rv != -11 {
						t.Errorf("acquire: %d", rv)
					}
				}
				p.Close()
			}()
		}
		for range 100 {
			<-done
		}
		h.settledDown()
		time.Sleep(time.Minute)
		h.s.mu.Lock()
		left := fmt.Sprint(len(h.s.holdings), h.s.spaces[0].ops)
		h.s.mu.Unlock()
		if left != "0 0" {
			t.Errorf("leases and operations left: %s", left)
		}
		for n := 1; n <= resources; n++ {
			if owner(disk, n) != 0 || sharing(disk, n, 1) {
				t.Errorf("r%d is held on disk by nobody", n)
			}
		}
	})
}
