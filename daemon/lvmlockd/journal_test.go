package lvmlockd

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

func TestJournalLines(t *testing.T) {
	debug := &safeLog{}
	j := newJournal(logSize, debug, nil, zerolog.WarnLevel)
	log := j.logger()
	log.Debug().Msg("plain")
	log.Error().Err(errors.New("bad\nthing")).Str("space", "lvm_a").Int("n", 3).Msg("it failed")
	log.Info().Msg(strings.Repeat("y", 1000))
	j.Close()
	log.Info().Msg("after the end")
	lines := strings.SplitAfter(string(j.text()), "\n")
	for i, want := range []string{
		`^\d+ plain\n$`, `^\d+ it failed space=lvm_a n=3: bad_thing\n$`, `^\d+ y{244}\n$`, `^\d+ after the end\n$`, `^$`,
	} {
		if i >= len(lines) || !regexp.MustCompile(want).MatchString(lines[i]) {
			t.Errorf("line %d of %q, want %s", i, lines, want)
		}
	}
	if got, want := debug.String(), strings.Join(lines[:3], ""); got != want {
		t.Errorf("stderr has %q, want %q", got, want)
	}
}

// stuck is a log that takes nothing.
type stuck struct{ release chan struct{} }

func (s *stuck) Write(p []byte) (int, error) {
	<-s.release
	return len(p), nil
}

func TestJournalNeverWaits(t *testing.T) {
	s := &stuck{make(chan struct{})}
	j := newJournal(logSize, s, nil, zerolog.WarnLevel)
	log := j.logger()
	for range 2 * logQueue {
		log.Debug().Msg("x")
	}
	if n := j.dropped.Load(); n < logQueue-1 {
		t.Errorf("%d lines were dropped, want at least %d", n, logQueue-1)
	}
	close(s.release)
	j.Close()
}
