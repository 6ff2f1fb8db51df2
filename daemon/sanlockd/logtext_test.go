package sanlockd

import (
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// levelLog collects lines as stock would print them, each behind its level.
type levelLog struct {
	mu  sync.Mutex
	all []string
}

func (l *levelLog) Write(p []byte) (int, error) {
	text, err := render(p)
	if err != nil {
		return 0, err
	}
	var event struct{ Level string }
	if err := json.Unmarshal(p, &event); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, event.Level+" "+text)
	return len(p), nil
}

func (l *levelLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// TestLogTexts: what is looked for in stock's log is found in ours, with the same priority. That it is stock's
// is tested beside stock.
func TestLogTexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log levelLog
		h := startHost(t, newDisk(3), "a", func(c *Config) { c.Log = zerolog.New(&log) })
		h.join(1)
		time.Sleep(25 * time.Second) // a renewal
		a := h.registered()
		check(t, "acquire", a.acquire(0, lease(1, 0)), 0)
		check(t, "acquire again", a.acquire(0, lease(1, 0)), -17)
		wrong := lease(2, 0)
		wrong.Name = leases.NameOf("other")
		check(t, "acquire by another name", a.acquire(0, wrong), -227)
		homeless := lease(2, 0)
		homeless.Space = leases.NameOf("XX")
		check(t, "acquire elsewhere", a.acquire(0, homeless), -28)
		check(t, "convert", a.ask(sanlockwire.CmdConvert, 0, 0, self, lease(1, 0).Append(nil)), -114)
		check(t, "release", a.release(lease(1, 0)), 0)
		check(t, "release again", a.release(lease(1, 0)), -1)
		check(t, "acquire it anew", a.acquire(0, lease(1, 0)), 0)

		bad := sanlockwire.NewHeader(99, 0, 0, 0, 0)
		stray := h.dial()
		stray.put(bad.Append(nil))
		bad.Magic, bad.Cmd = 7, 5
		stray.put(bad.Append(nil))
		bad.Magic, bad.Version = sanlockwire.Magic, 0x70000
		stray.put(bad.Append(nil))
		stray.put(bad.Append(nil)[:20])
		stray.Close()
		check(t, "rem", h.onSpace(rem, async, 0, spaceAs(1)), 0)
		time.Sleep(time.Second / 2)
		a.Close()
		time.Sleep(10 * time.Second)
		for _, want := range []string{
			`warn s1 lockspace LS:1:/dev/lease:0`, `debug s1 add_lockspace done`, `warn s1 host 1 1 \d+ a`,
			`warn s1:r2 resource LS:r1:/dev/lease:1048576`, `warn s1:r3 resource LS:other:/dev/lease:2097152`,
			`debug s1:r2 cmd_acquire C acquire_token -17: .*`, `error s1:r3 cmd_acquire C acquire_token -227: .*`,
			`error cmd_acquire C invalid lockspace found -1 failed 0 name XX`,
			`debug cmd_acquire C result 0 pid_dead 0`, `debug cmd_acquire C result -28 pid_dead 0: .*`,
			`debug cmd_convert C result -114 pid_dead 0: .*`,
			`debug cmd_release C result 0 pid_dead 0 count 1`, `error cmd_release C no resource r1`,
			`error client connection ci \d+ fd -1 pid -1 cmd 99 unknown`,
			`error client connection \d+ -1 -1 recv msg header rv 32 cmd 5 len 32 magic 7 vs 4282010`,
			`error client connection \d+ -1 -1 recv msg header rv 32 cmd 5 len 32 version 70000`,
			`error client connection \d+ -1 -1 recv msg header rv 20 cmd 5 len 32`,
			`error s1 kill \d+ sig 9 count 1`, `debug client_pid_dead C cmd_active 0 suspend 0`, `error dead \d+ ci \d+ count 1`,
			`debug s1 all pids clear`, `debug s1 free lockspace`,
		} {
			want = strings.ReplaceAll(want, " C ", ` \d+,-?\d+,\d+ `)
			if n := len(regexp.MustCompile(`(?m)^`+want+`$`).FindAllString(log.text(), -1)); n == 0 ||
				n > 1 && strings.Contains(want, "resource ") {
				t.Errorf("%d times in the log: %s", n, want)
			}
		}
		if t.Failed() {
			t.Log(log.text())
		}
	})
}
