package client

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

// fake is a daemon of one of the kinds that are in use.
type fake struct {
	old      bool   // does not know OPEN_WATCHDOG
	opens    uint32 // what it answers to that; 0: what it was asked for
	broken   bool   // answers 0
	fire     uint32 // of STATUS
	age      uint64 // seconds since its last pet
	interval uint32
	full     int // how many of our messages, from the second TEST_LIVE on, do not fit into its socket

	clock monotime.Clock
	mu    sync.Mutex
	said  []string
	dials int
}

func (f *fake) serve(c net.Conn) {
	defer c.Close()
	for {
		var p [wdmdwire.Size]byte
		if _, err := io.ReadFull(c, p[:]); err != nil {
			f.note("end")
			return
		}
		m, _ := wdmdwire.Decode(p[:])
		switch m.Command {
		case wdmdwire.OpenWatchdog:
			f.note(m.Command.String())
			if f.old {
				continue
			}
			if f.opens != 0 || f.broken {
				m.FireTimeout = f.opens
			}
			c.Write(m.Append(nil))
		case wdmdwire.Status:
			f.note(m.Command.String())
			m.FireTimeout, m.TestInterval = f.fire, f.interval
			m.LastKeepalive = uint64(f.clock.Now().Seconds()) - f.age
			c.Write(m.Append(nil))
		case wdmdwire.Register:
			f.note("REGISTER " + m.Text())
		case wdmdwire.TestLive:
			f.note("TEST_LIVE " + time.Duration(m.RenewalTime).String() + " " + time.Duration(m.ExpireTime).String())
		default:
			f.note(m.Command.String())
		}
	}
}

func (f *fake) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, what)
}

func (f *fake) heard() []string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.said)
}

func (f *fake) config() Config {
	f.clock = monotime.At(monotime.Instant(1000*time.Second), nil)
	return Config{
		Name: "sanlock_LS:1", Clock: &f.clock,
		Dial: func(context.Context) (net.Conn, error) {
			mine, theirs := net.Pipe()
			synctest.Wait() // so that an earlier connection has ended
			f.dials++
			go f.serve(theirs)
			return mine, nil
		},
		Send: func(c net.Conn, p []byte) error {
			if m, _ := wdmdwire.Decode(p); m.Command == wdmdwire.TestLive && m.RenewalTime != 7 && f.full > 0 {
				f.full--
				return syscall.EAGAIN
			}
			_, err := c.Write(p)
			return err
		},
	}
}

var conversation = []string{
	"REGISTER sanlock_LS:1", "REFCOUNT_SET", "STATUS", "TEST_LIVE 7ns 87ns", "TEST_LIVE 27ns 107ns",
	"TEST_LIVE 0s 0s", "REFCOUNT_CLEAR", "end",
}

func TestConversation(t *testing.T) {
	for _, old := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{old: old, fire: 60, interval: 10, age: 9}
			began := time.Now()
			l, err := Dial(context.Background(), f.config())
			if err != nil {
				t.Fatal(err)
			}
			before := []string{"OPEN_WATCHDOG"}
			if old {
				before = append(before, "end")
			}
			if took := time.Since(began); (took == 2*time.Second) != old || f.dials != len(before) {
				t.Errorf("old %v: %v, %d connections", old, took, f.dials)
			}
			if err := errors.Join(l.Live(7, 87), l.Live(27, 107), l.Close(), l.Close()); err != nil {
				t.Fatal(err)
			}
			if err := l.Live(47, 127); err == nil {
				t.Error("a pet after the end")
			}
			if got := f.heard(); !slices.Equal(got, append(before, conversation...)) {
				t.Errorf("old %v: %q", old, got)
			}
		})
	}
}

func TestNoProtection(t *testing.T) {
	for name, f := range map[string]*fake{
		"cannot open":             {broken: true, fire: 60, interval: 10},
		"another timeout":         {opens: 30, fire: 60, interval: 10},
		"another timeout, old":    {old: true, fire: 30, interval: 10},
		"not armed":               {old: true, fire: 0, interval: 10},
		"newer, but never opened": {old: true, fire: 60, interval: 10, age: 21},
		"never petted":            {old: true, fire: 60, interval: 10, age: 1000},
		"failing for long":        {fire: 60, interval: 1, age: 25},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, err := Dial(context.Background(), f.config())
				if err == nil {
					if err = l.Live(7, 87); err == nil {
						t.Fatal("believed to be protected")
					}
					if again := l.Live(7, 87); !errors.Is(again, err) {
						t.Errorf("then %v", again)
					}
					l.Close()
				}
				if !strings.Contains(err.Error(), "wdmd") {
					t.Errorf("%v", err)
				}
				if got := f.heard(); slices.Contains(got, "TEST_LIVE 7ns 87ns") || got[len(got)-1] != "end" {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

// A daemon that takes nothing more ends the membership, and is told the end once it takes something again.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{fire: 60, interval: 10}
		l, err := Dial(context.Background(), f.config())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Live(7, 87); err != nil {
			t.Fatal(err)
		}
		f.full = 2
		if err := l.Live(27, 107); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("a message that did not fit: %v", err)
		}
		if err := l.Live(7, 127); err == nil {
			t.Error("went on after a message was lost")
		}
		began := time.Now()
		if err := l.Close(); err != nil || time.Since(began) != 500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if got := f.heard(); !slices.Equal(got[4:], append([]string{conversation[3]}, conversation[5:]...)) {
			t.Errorf("%q", got)
		}
	})
}

// The real socket: nothing waits for a daemon that does not read, and one that died is noticed without a signal.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f := &fake{fire: 60, interval: 10, clock: monotime.System()}
	hold := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		for range 4 { // OPEN_WATCHDOG, REGISTER, REFCOUNT_SET, STATUS
			var p [wdmdwire.Size]byte
			io.ReadFull(c, p[:])
			m, _ := wdmdwire.Decode(p[:])
			m.TestInterval, m.FireTimeout, m.LastKeepalive = 10, 60, uint64(f.clock.Now().Seconds())
			if m.Command == wdmdwire.OpenWatchdog || m.Command == wdmdwire.Status {
				c.Write(m.Append(nil))
			}
		}
		hold <- c
	}()
	l, err := Dial(context.Background(), Config{Name: "x", Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for err == nil && time.Since(began) < 10*time.Second {
		err = l.Live(7, 87)
	}
	if !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("a daemon that does not read: %v", err)
	}
	l.ended = nil
	(<-hold).Close()
	if err := l.Live(7, 87); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a daemon that is gone: %v", err)
	}
	if err := l.Close(); err == nil {
		t.Error("closed in good order without anybody at the other end")
	}
	if _, err := Dial(context.Background(), Config{Socket: path + "x"}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("no daemon: %v", err)
	}
}
