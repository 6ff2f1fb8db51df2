package sanlockd

import (
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// captured returns what stock's programs sent in the exchanges of the golden captures, one text each.
func captured(f *testing.F) [][]byte {
	f.Helper()
	files, err := filepath.Glob("../sanlockwire/testdata/proto/*")
	if err != nil || len(files) == 0 {
		f.Fatalf("no captures: %v", err)
	}
	var all [][]byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var sent []byte
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) < 4 || words[0] != ">" {
				continue
			}
			if p, err := hex.DecodeString(strings.Join(words[3:], "")); err == nil {
				sent = append(sent, p...)
			}
		}
		if len(sent) > 0 && len(sent) < maxFuzzed {
			all = append(all, sent)
		}
	}
	return all
}

// maxFuzzed bounds an input: a few requests.
const maxFuzzed = 8 << 10

// FuzzConnection sends a registered client's bytes to a daemon that has joined a lockspace. Whatever they are,
// the daemon goes on for others, unless they told it to end, and with the client its leases are gone.
func FuzzConnection(f *testing.F) {
	for _, sent := range captured(f) {
		f.Add(sent)
	}
	acquire := sanlockwire.NewHeader(sanlockwire.CmdAcquire, 0, 1224, 1, self).Append(nil)
	f.Add(append(lease(2, 0).AppendWithDisks(acquire), make([]byte, sanlockwire.OptionsSize)...))
	release := sanlockwire.NewHeader(sanlockwire.CmdRelease, 0, 128, 1, self).Append(nil)
	f.Add(lease(1, 0).Append(release))
	everyOrphan := sanlockwire.ReleaseAll | sanlockwire.ReleaseOrphan
	f.Add(sanlockwire.NewHeader(sanlockwire.CmdRelease, uint32(everyOrphan), 0, 0, self).Append(nil))
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > maxFuzzed {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			h := startHost(t, newDisk(2), "a", nil)
			h.join(1)
			holder := h.registered()
			check(t, "acquire", holder.acquire(0, lease(1, 0)), 0)
			p := h.registered()
			go func() { _, _ = io.Copy(io.Discard, p) }() // ends with the connection
			go func() { _, _ = p.Write(sent) }()          // so does this, when a request takes for ever
			time.Sleep(time.Minute)
			p.Close()
			synctest.Wait()
			h.s.mu.Lock()
			ending := h.s.ending
			h.s.mu.Unlock()
			if ending {
				return
			}
			q := h.dial()
			q.put(versionRequest(1))
			q.wantVersion()
			h.s.mu.Lock()
			defer h.s.mu.Unlock()
			for _, c := range h.s.clients {
				if c == nil || c.pid.Load() == 0 {
					continue
				}
				for _, tok := range c.tokens {
					if tok != nil && tok.h != nil && int(c.pid.Load()) == p.who.number {
						t.Errorf("a client that has gone holds %v", tok.h.wire)
					}
				}
			}
		})
	})
}
