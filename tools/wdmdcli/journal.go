package wdmdcli

import (
	"encoding/json"
	"fmt"
	"io"
	"log/syslog"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// queueSize is how many lines may wait for a log that is slow. Further ones are lost: the daemon does not wait.
const queueSize = 1024

// journal hands log lines on in a goroutine of its own, to stderr when debugging and to syslog always.
type journal struct {
	debug  io.Writer // nil unless debugging
	syslog *syslog.Writer
	queue  chan entry
	done   sync.WaitGroup
}

type entry struct {
	level zerolog.Level
	text  string
}

func newJournal(debug bool, stderr io.Writer) *journal {
	j := &journal{queue: make(chan entry, queueSize)}
	if debug {
		j.debug = stderr
	}
	// Without a syslog there is nowhere to complain.
	j.syslog, _ = syslog.New(syslog.LOG_DAEMON|syslog.LOG_ERR, "wdmd")
	j.done.Go(j.drain)
	return j
}

func (j *journal) logger() zerolog.Logger { return zerolog.New(j).Level(zerolog.DebugLevel) }

// Write takes an event without level.
func (j *journal) Write(p []byte) (int, error) { return j.WriteLevel(zerolog.InfoLevel, p) }

// WriteLevel takes one event of zerolog's.
func (j *journal) WriteLevel(l zerolog.Level, p []byte) (int, error) {
	var e struct{ Message, Error string }
	if err := json.Unmarshal(p, &e); err != nil {
		return 0, err
	}
	if e.Error != "" {
		e.Message += ": " + e.Error
	}
	select {
	case j.queue <- entry{l, e.Message}:
	default:
	}
	return len(p), nil
}

// drain writes what is queued. Debug events go to stderr only.
func (j *journal) drain() {
	for e := range j.queue {
		if j.debug != nil {
			fmt.Fprintf(j.debug, "%d %s\n", time.Now().Unix(), e.text)
		}
		if j.syslog != nil && e.level > zerolog.DebugLevel {
			_ = j.syslog.Err(e.text)
		}
	}
}

// Close writes what is queued.
func (j *journal) Close() {
	close(j.queue)
	j.done.Wait()
}
