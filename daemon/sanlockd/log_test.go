package sanlockd

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/tenurelock/tenure/leases/monotime"
)

// TestRing compares the ring with a string that is cut to its last bytes.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 16
		r := ring{size: size}
		var all []byte
		for _, p := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 40)).Draw(t, "writes") {
			r.write(p)
			all = append(all, p...)
		}
		want := all
		if len(all) > size {
			want = all[len(all)-size:]
		} else {
			want = bytes.TrimSuffix(want, []byte("\n"))
		}
		if got := r.read(); !bytes.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// TestJournalNeverWaits: a destination that hangs costs lines, which are counted, and no time.
func TestJournalNeverWaits(t *testing.T) {
	hang := make(chan struct{})
	var mu sync.Mutex
	var written []string
	j := newJournal(monotime.System(), true, sink{levelDebug, func(_ int, line []byte) error {
		<-hang
		mu.Lock()
		defer mu.Unlock()
		written = append(written, string(line))
		return nil
	}}, sink{levelError, func(int, []byte) error { return errors.New("disk full") }})
	log := zerolog.New(j)
	for range queueSize + 100 {
		log.Debug().Uint32("s", 1).Msg("hello")
	}
	close(hang)
	j.Close()
	log.Error().Msg("after the end")
	if n := len(written); n < queueSize || n > queueSize+3 {
		t.Errorf("%d lines written, want about %d", n, queueSize)
	}
	all := strings.Join(written, "")
	if !strings.Contains(all, "dropped ") || !strings.HasSuffix(written[0], ": s1 hello\n") || !line.MatchString(written[0]) {
		t.Errorf("first line %q; dropped lines reported: %v", written[0], strings.Contains(all, "dropped "))
	}
	dump := string(j.dump())
	if got := strings.Count(dump, "s1 hello"); got != queueSize+100 || !strings.HasSuffix(dump, "after the end") {
		t.Errorf("%d lines in memory, want %d, and the last one", got, queueSize+100)
	}
}

// TestLongLine: a line has at most 511 bytes.
func TestLongLine(t *testing.T) {
	j := newJournal(monotime.System(), false)
	defer j.Close()
	j.put(levelDebug, strings.Repeat("x", 2000))
	if n := len(j.dump()); n != maxLine-1 {
		t.Errorf("a line of %d bytes without its newline, want %d", n, maxLine-1)
	}
}
