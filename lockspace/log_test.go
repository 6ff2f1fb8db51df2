package lockspace

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/lockspace/hosts"
)

// logBook keeps what is logged.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// lines returns the lines that contain a word.
func (l *logBook) lines(word string) (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, word) {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// TestLogTexts: the lines about hosts and events are stock's, as is their priority.
func TestLogTexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		da, db := disk.Open("a"), disk.Open("b")
		defer da.Close()
		defer db.Close()
		var book logBook
		ca := config(da, 1, "alpha", 2)
		ca.Log = zerolog.New(&book)
		a := join(t, ca)
		b := join(t, config(db, 2, "beta", 2))
		time.Sleep(20 * time.Second)
		leave(t, b)
		b = join(t, config(db, 2, "beta", 2))
		time.Sleep(20 * time.Second)
		want := []string{
			`{"level":"warn","space":"LS1","message":"host 1 1 1000 alpha"}`,
			`{"level":"warn","space":"LS1","message":"host 2 1 1000 beta"}`,
			`{"level":"warn","space":"LS1","message":"host 2 2 1000 beta"}`,
		}
		if got := book.lines(`"host `); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for number := range uint64(2) {
			_ = a.SetEvent(2, hosts.Event{Generation: 7, Number: 1 + number, Data: 5 + number}, 0) // the second is refused
		}
		want = []string{
			`{"level":"warn","space":"LS1","message":"event 2 7 1 5 replaced by 2 7 2 6 t 1052"}`,
		}
		if got := book.lines("replaced"); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		leave(t, a)
		leave(t, b)
	})
}
