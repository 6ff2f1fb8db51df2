package vm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var echo strings.Builder
		l := newLog(&echo)
		l.add(1, "wdmd", "keepalive 0")
		line, err := l.Wait(t.Context(), Match{Machine: 1, Source: "wdmd", Text: "alive"})
		if err != nil || line.Text != "keepalive 0" {
			t.Fatalf("a line that is there: %+v, %v", line, err)
		}
		time.Sleep(time.Second)
		since := time.Now()
		go func() {
			time.Sleep(time.Second)
			l.add(2, "wdmd", "keepalive 0") // another machine
			l.add(1, "sanlock", "keepalive 0")
			l.add(1, "wdmd", "test failed")
			time.Sleep(time.Second)
			l.add(1, "wdmd", "keepalive 1")
		}()
		line, err = l.Wait(t.Context(), Match{Machine: 1, Source: "wdmd", Text: "alive", Since: since})
		if err != nil || line.Text != "keepalive 1" || line.At.Sub(since) != 2*time.Second {
			t.Fatalf("a line that comes: %+v, %v", line, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := l.Wait(ctx, Match{Text: "never"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a line that does not come: %v", err)
		}
		if got := len(l.Find(Match{Machine: 1})); got != 4 {
			t.Errorf("Find finds %d lines of machine 1, want 4", got)
		}
		if got := len(l.Lines(since)); got != 4 {
			t.Errorf("Lines returns %d lines since then, want 4", got)
		}
		if want := "    3.00 vm1 wdmd     keepalive 1\n"; !strings.HasSuffix(echo.String(), want) {
			t.Errorf("the echo is %q, want it to end in %q", echo.String(), want)
		}
	})
}

func TestLineWriter(t *testing.T) {
	var got []string
	w := &lineWriter{say: func(text string) { got = append(got, text) }}
	for _, part := range []string{"one\r\ntw", "o\n\n", "thr", "ee"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	w.flush()
	w.flush()
	if strings.Join(got, "|") != "one|two|three" {
		t.Errorf("lines are %q", got)
	}
}
