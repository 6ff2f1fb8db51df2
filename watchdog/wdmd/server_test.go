package wdmd

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/watchdog/memdog"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

const (
	renewal = 20 // seconds between two renewals of a lockspace with io_timeout 10
	life    = 80 // from a renewal to the end of its leases
)

// healthy is a lockspace as a client of the daemon, until stop is closed.
func (b *bubble) healthy(p *peer, stop <-chan struct{}) {
	for {
		m := wdmdwire.Message{
			Command: wdmdwire.TestLive, RenewalTime: uint64(b.now()), ExpireTime: uint64(b.now() + life),
		}
		p.Write(m.Append(nil))
		select {
		case <-stop:
			return
		case <-time.After(renewal * time.Second):
		}
	}
}

// bound checks that the device resets the host, and not later than other hosts count on.
func (b *bubble) bound(earliest, end int) {
	b.t.Helper()
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	at := b.dog.Fired()
	if at < time.Duration(earliest)*time.Second || at > time.Duration(end+60)*time.Second {
		b.t.Errorf("reset after %v, want between %d and %d s: %s", at, earliest, end+60, b.events())
	}
}

// The timeline of spec sanlock-daemon 3.8: the last renewal at 40, so the lease ends at 120. It is the same for
// all phases of the daemon's tests.
func TestStorageLost(t *testing.T) {
	for phase := range 10 {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Second / 3)
			b := start(t, nil)
			b.until(phase)
			p := b.dial()
			p.register("sanlock_LS:1")
			p.say(wdmdwire.RefcountSet)
			if s := p.status(); s.FireTimeout != 60 || s.TestInterval != 10 || s.LastKeepalive != uint64(phase) {
				t.Errorf("status %+v", s)
			}
			for b.now() < 40 {
				p.live(b.now(), b.now()+life)
				b.until(min(b.now()+renewal, 40))
			}
			p.live(40, 120)
			b.until(109)
			if ev := b.events(); strings.Contains(ev, "abandon") || b.dog.Last() < 98*time.Second {
				t.Errorf("at 109: %s, last pet %v", ev, b.dog.Last())
			}
			b.until(120)
			last := b.dog.Last()
			if !strings.Contains(b.events(), "abandon@11") || last < 109*time.Second+time.Second/2 || last > 120*time.Second {
				t.Errorf("at 120: %s, last pet %v", b.events(), last)
			}
			if s := p.status(); s.TestInterval != 1 || s.FireTimeout != 60 {
				t.Errorf("status in recovery %+v", s)
			}
			for _, want := range []string{"test warning now 11", "closed unclean"} {
				if !strings.Contains(b.log.String(), want) {
					t.Errorf("log without %q:\n%s", want, b.log)
				}
			}
			b.until(125)
			if !strings.Contains(b.log.String(), "test failed rem 5") {
				t.Errorf("log:\n%s", b.log)
			}
			b.bound(169, 120)
			if b.dog.Last() != last {
				t.Error("there was a pet after the end")
			}
		})
	}
}

// Users that were stopped in time, or a renewal that succeeds, take the device back.
func TestRecovery(t *testing.T) {
	for name, recover := range map[string]func(*peer){
		"users gone": func(p *peer) { p.live(0, 0) },
		"renewed":    func(p *peer) { p.live(p.b.now(), p.b.now()+life) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				p := b.dial()
				p.register("LS")
				p.live(40, 120)
				b.until(150)
				recover(p)
				b.until(152)
				if !strings.HasSuffix(b.events(), "open@151") && !strings.HasSuffix(b.events(), "open@150") {
					t.Errorf("not taken back: %s", b.events())
				}
				stop := make(chan struct{})
				go b.healthy(p, stop)
				b.until(600)
				close(stop)
				if b.dog.Fired() != 0 || p.status().TestInterval != 10 {
					t.Errorf("%s, status %+v", b.events(), p.status())
				}
			})
		})
	}
}

// Two lockspaces fail one after the other and both recover. Stock may reset the host after that, for its
// failures add up; here the pets between them count.
func TestOverlappingFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		one, two := b.dial(), b.dial()
		one.live(0, 80)
		two.live(0, 80)
		b.until(30)
		two.live(30, 110)
		b.until(115) // one has failed at 80, two at 110
		two.live(115, 195)
		b.until(120)
		if b.dog.Fired() != 0 {
			t.Fatalf("reset before the end of one and a minute: %s", b.events())
		}
		one.live(120, 200)
		b.until(190)
		one.live(190, 270)
		two.live(190, 270)
		b.until(250)
		one.live(250, 330)
		two.live(250, 330)
		b.until(300)
		if b.dog.Fired() != 0 {
			t.Errorf("a reset although both recovered: %s", b.events())
		}
	})
}

// A client that is killed cannot say that it has ended well. Its end comes, and nobody else can put it off.
func TestClientKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		stop := make(chan struct{})
		defer close(stop)
		go b.healthy(b.dial(), stop)
		synctest.Wait() // so that the other one has the slot before
		p := b.dial()
		p.register("sanlock_LS:1")
		p.say(wdmdwire.RefcountSet)
		p.live(40, 120)
		b.until(50)
		p.close()
		again := b.dial()
		again.register("sanlock_LS:1")
		again.live(0, 0)
		if want := "client dead ci 3 fd 5 pid 77 renewal 40 expire 120 sanlock_LS:1"; !strings.Contains(b.log.String(), want) {
			t.Errorf("log without %q:\n%s", want, b.log)
		}
		b.bound(109+60, 120)
	})
}

// What a client sent before it closed counts before its end.
func TestMessagesBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p := b.dial()
		p.register("LS")
		p.say(wdmdwire.RefcountSet)
		p.live(10, 90)
		bye := wdmdwire.Message{Command: wdmdwire.TestLive}
		all := bye.Append(nil)
		bye.Command = wdmdwire.RefcountClear
		all = bye.Append(all)
		p.Write(append(all, 1, 2, 3)) // and half a message
		p.close()
		if b.dog.Counting() {
			t.Errorf("the device counts though nobody needs it: %s", b.events())
		}
		b.until(300)
		if b.dog.Fired() != 0 {
			t.Error("a client that left well resets the host")
		}
		b.server.Stop()
		if b.running() {
			t.Error("a client that is gone keeps the daemon")
		}
	})
}

// Half a message, and answers that are not read, hold up nobody.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		half, deaf, well := b.dial(), b.dial(), b.dial()
		half.Write(make([]byte, wdmdwire.Size-1))
		deaf.say(wdmdwire.Status)
		stop := make(chan struct{})
		defer close(stop)
		go b.healthy(well, stop)
		b.until(300)
		if b.dog.Fired() != 0 {
			t.Fatalf("reset at %v", b.dog.Fired())
		}
		// What the deaf one says is heard all the same.
		deaf.live(b.now(), b.now()+30)
		deaf.say(wdmdwire.Status)
		b.until(400)
		if b.dog.Fired() == 0 {
			t.Error("the end of a client that does not read was not noted")
		}
	})
}

// The daemon dies: the kernel pets once, and the bound holds at every moment of a failure.
func TestDaemonKilled(t *testing.T) {
	for _, at := range []int{41, 60, 100, 109, 112, 119, 121, 140, 165} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, nil)
			p := b.dial()
			p.live(40, 120)
			b.until(at)
			b.kill()
			b.bound(at, 120)
		})
	}
}

// A daemon that was stopped past an end does not close the device: that would be a pet.
func TestDaemonStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p := b.dial()
		p.live(40, 120)
		b.until(115)
		last := b.dog.Last()
		p.live(40, 60) // as if it had been found only now
		b.until(119)
		if b.dog.Last() != last {
			t.Errorf("petted at %v, after the end: %s", b.dog.Last(), b.events())
		}
		b.bound(100, 120)
	})
}

func TestSuspendCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p := b.dial()
		p.live(40, 120)
		b.until(50)
		b.asleep.Store(int64(65 * time.Second))
		b.until(56)
		if b.dog.Last() > 55*time.Second || b.dog.Counting() == false {
			t.Errorf("petted at %v: 115 s have passed for others", b.dog.Last())
		}
	})
}

func TestStopAndRefs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p := b.dial()
		p.say(wdmdwire.RefcountSet)
		b.server.Stop()
		b.until(2)
		if !b.running() {
			t.Fatal("ended although a client forbids it")
		}
		p.say(wdmdwire.RefcountClear)
		p.live(1, 500)
		b.server.Stop()
		b.until(4)
		if !b.running() {
			t.Fatal("ended although something is expected of a client")
		}
		p.live(0, 0)
		b.until(60)
		if !b.running() {
			t.Fatal("a signal that was refused was remembered")
		}
		b.server.Stop()
		if b.running() || b.dog.Counting() || !strings.HasSuffix(b.events(), "disarm@60") {
			t.Errorf("%s", b.events())
		}
		if n := strings.Count(b.log.String(), "ignore shutdown"); n != 2 {
			t.Errorf("%d refusals logged", n)
		}
	})
}

// What lets go of the device may have been sent before the request to end, and be read after it.
func TestStopBeforeLastMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p, q := b.dial(), b.dial()
		for _, c := range []*peer{p, q} {
			c.register("LS")
			c.say(wdmdwire.RefcountSet)
			c.live(0, 80)
		}
		b.until(20)
		b.server.Stop()
		p.live(0, 0)
		p.say(wdmdwire.RefcountClear)
		p.close()
		q.live(0, 0)
		if !b.running() || !b.dog.Counting() {
			t.Fatal("ended although a client forbids it")
		}
		time.Sleep(500 * time.Millisecond) // systemctl starts the second stop right after the first
		q.close()
		if b.running() || b.dog.Counting() || strings.Contains(b.log.String(), "ignore shutdown") {
			t.Errorf("not ended, or not well, after the last client: %s\n%s", b.events(), b.log)
		}
	})
	// One that is cut off lets nothing go.
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p := b.dial()
		p.live(0, 80)
		b.server.Stop()
		p.close()
		b.until(5)
		if !b.running() || !b.dog.Counting() {
			t.Errorf("ended under a client that died: %s", b.events())
		}
	})
}

func TestOpenWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p, other := b.dial(), b.dial()
		if s := p.status(); s.FireTimeout != 0 {
			t.Errorf("a timeout of %d before the device is armed", s.FireTimeout)
		}
		if got := p.open(0); got != 0 || b.dog.Counting() {
			t.Errorf("a timeout of 0 became %d", got)
		}
		if got := p.open(30); got != 30 || !b.dog.Counting() {
			t.Errorf("opened with %d", got)
		}
		if got := other.open(60); got != 30 {
			t.Errorf("a second client was told %d, 30 is in force", got)
		}
		if s := p.status(); s.FireTimeout != 30 || s.TestInterval != 5 {
			t.Errorf("%+v", s)
		}
		p.close()
		if !b.dog.Counting() {
			t.Error("stopped while a client counts on it")
		}
		other.close()
		if b.dog.Counting() {
			t.Errorf("not stopped: %s", b.events())
		}
		if got := b.dial().open(60); got != 60 {
			t.Errorf("the next client got %d", got)
		}
		b.until(500)
		if b.dog.Fired() != 0 {
			t.Error("a reset without reason")
		}
	})
}

// A device that does not take the timeout, or cannot be opened, protects nobody, and is tried again.
func TestDeviceRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.dog.Break(memdog.Faults{Takes: 30 * time.Second})
		p := b.dial()
		if got := p.open(60); got != 0 || b.dog.Counting() {
			t.Errorf("told %d: %s", got, b.events())
		}
		p.register("LS")
		p.live(0, 500)
		if s := p.status(); s.FireTimeout != 0 {
			t.Errorf("a client that is not protected was told %d", s.FireTimeout)
		}
		b.until(15)
		b.dog.Break(memdog.Faults{})
		b.until(21)
		if s := p.status(); s.FireTimeout != 60 || !b.dog.Counting() {
			t.Errorf("not armed when it could be: %+v", s)
		}
	})
}

// A pet that the driver refuses is no pet.
func TestPetFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p := b.dial()
		p.live(0, 5000)
		b.until(35)
		b.dog.Break(memdog.Faults{BadPets: errors.New("no such device")})
		b.until(45)
		if s := p.status(); s.FireTimeout != 0 || s.LastKeepalive > 31 || s.TestInterval != 1 {
			t.Errorf("%+v", s)
		}
		b.dog.Break(memdog.Faults{})
		b.until(47)
		if s := p.status(); s.FireTimeout != 60 || s.LastKeepalive < 45 {
			t.Errorf("%+v", s)
		}
	})
}

func TestReopenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p := b.dial()
		p.live(0, 30)
		b.until(35)
		b.dog.Break(memdog.Faults{BadOpen: errors.New("busy")})
		p.live(35, 5000)
		b.until(60)
		if s := p.status(); s.FireTimeout != 0 {
			t.Errorf("protected: %+v", s)
		}
		b.dog.Break(memdog.Faults{})
		b.until(200)
		if s := p.status(); s.FireTimeout != 60 || b.dog.Fired() != 0 {
			t.Errorf("%+v, %s", s, b.events())
		}
	})
}

// A device that cannot be stopped is petted from the start and for ever.
func TestNoWayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, func(b *bubble, _ *Config) { b.dog.Break(memdog.Faults{NoWayOut: true}) })
		b.until(300)
		p := b.dial()
		p.register("LS")
		p.close()
		b.until(600)
		if b.dog.Fired() != 0 || p.b.events() != "open@0" {
			t.Errorf("%s", b.events())
		}
		b.server.Stop()
		if b.running() || !strings.Contains(b.log.String(), "resets this host within 1m0s") {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

// One that does not say whether it can be stopped is stopped at the end only.
func TestUnsure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, func(b *bubble, _ *Config) { b.dog.Break(memdog.Faults{Unsure: true}) })
		p := b.dial()
		p.register("LS")
		p.close()
		b.until(300)
		if b.dog.Fired() != 0 || b.events() != "open@0" {
			t.Errorf("%s", b.events())
		}
		b.server.Stop()
		if b.running() || b.events() != "open@0 disarm@300" {
			t.Errorf("%s", b.events())
		}
	})
}

func TestDump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p := b.dial()
		p.register("sanlock_LS:1")
		p.live(0, 80)
		b.until(12)
		q := b.dial()
		q.say(wdmdwire.DumpDebug)
		buf := make([]byte, wdmdwire.MaxDump)
		n, err := q.Read(buf)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		got := string(buf[:n])
		for _, want := range []string{
			" socket_gid 0 high_priority 0 now 12 last_keepalive 10 last_closeunclean 0 allow_scripts 0 kill_script_sec 0 " +
				"fire_timeout 60\nclient 0 name signal pid 0 fd -1 dead 0 ref 0 now 12 renewal 0 expire 0\nclient 1 name listen",
			"\nclient 2 name sanlock_LS:1 pid 77 fd 5 dead 0 ref 0 now 12 renewal 0 expire 80\n",
			"client 3 name dump pid 77",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})
}

func TestTooManyClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		for range maxClients {
			b.dial()
		}
		synctest.Wait()
		p := b.dial()
		if _, err := p.Read(make([]byte, 1)); err == nil {
			t.Error("a client beyond the limit was taken")
		}
	})
}

// An unknown command is not answered and ends nothing.
func TestUnknownCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		p := b.dial()
		p.say(8)
		p.say(0)
		if s := p.status(); s.Command != wdmdwire.Status {
			t.Errorf("%+v", s)
		}
	})
}
