package sanlockd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/monotime"
)

// Levels of syslog, by which destinations choose.
const (
	levelError   = 3
	levelWarning = 4
	levelInfo    = 6
	levelDebug   = 7
)

const (
	ringSize  = 1 << 20 // bytes of log kept in memory
	queueSize = 4096    // lines on their way to file, syslog and stderr
	maxLine   = 511     // bytes of a line, its newline included
)

// sink is a destination of log lines.
type sink struct {
	level int // syslog level up to which it gets lines
	write func(level int, line []byte) error
}

// journal turns log events into stock's lines (spec sanlock-daemon 2.17), keeps them in memory and hands
// them on. It never waits: what does not fit into its queue is counted and dropped, for the processes that
// must be stopped cannot wait for a full disk.
type journal struct {
	clock monotime.Clock
	utc   bool
	sinks []sink

	queue   chan queued
	dropped atomic.Uint64
	writing sync.WaitGroup

	mu     sync.Mutex
	ring   ring
	closed bool
}

type queued struct {
	level int
	line  []byte
}

// newJournal starts a journal. Close flushes it.
func newJournal(clock monotime.Clock, utc bool, sinks ...sink) *journal {
	j := &journal{
		clock: clock, utc: utc, sinks: sinks, queue: make(chan queued, queueSize), ring: ring{size: ringSize},
	}
	j.writing.Go(j.drain)
	return j
}

// Write takes an event without level.
func (j *journal) Write(p []byte) (int, error) { return j.WriteLevel(zerolog.InfoLevel, p) }

// WriteLevel takes one event of zerolog's. It fails only if p is not one.
func (j *journal) WriteLevel(l zerolog.Level, p []byte) (int, error) {
	text, err := render(p)
	if err != nil {
		return 0, err
	}
	j.put(syslogLevel(l), text)
	return len(p), nil
}

// put adds a line.
func (j *journal) put(level int, text string) {
	line := j.stamp(text)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ring.write(line)
	if j.closed || !j.wanted(level) {
		return
	}
	select {
	case j.queue <- queued{level, line}:
	default:
		j.dropped.Add(1)
	}
}

func (j *journal) wanted(level int) bool {
	for _, s := range j.sinks {
		if level <= s.level {
			return true
		}
	}
	return false
}

// stamp makes a line of a text: "2026-11-21 02:19:01 1384 [24981]: text\n".
func (j *journal) stamp(text string) []byte {
	now := time.Now()
	if j.utc {
		now = now.UTC()
	}
	line := fmt.Appendf(nil, "%s %d [%d]: %s", now.Format("2006-01-02 15:04:05"), j.clock.Now().Seconds(),
		unix.Gettid(), text)
	return append(line[:min(len(line), maxLine-1)], '\n')
}

// drain writes what is queued. A destination that fails is no reason to stop the others.
func (j *journal) drain() {
	for q := range j.queue {
		j.deliver(q)
		if n := j.dropped.Swap(0); n > 0 {
			j.deliver(queued{levelError, j.stamp(fmt.Sprintf("dropped %d entries", n))})
		}
	}
}

func (j *journal) deliver(q queued) {
	for _, s := range j.sinks {
		if q.level <= s.level {
			_ = s.write(q.level, q.line) // there is nowhere to complain
		}
	}
}

// Close writes what is queued. Later lines reach the memory only.
func (j *journal) Close() {
	j.mu.Lock()
	j.closed = true
	close(j.queue)
	j.mu.Unlock()
	j.writing.Wait()
}

// dump returns the log in memory as LOG_DUMP gives it.
func (j *journal) dump() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ring.read()
}

func syslogLevel(l zerolog.Level) int {
	switch l {
	case zerolog.TraceLevel, zerolog.DebugLevel:
		return levelDebug
	case zerolog.InfoLevel:
		return levelInfo
	case zerolog.WarnLevel:
		return levelWarning
	default:
		return levelError
	}
}

// ring keeps the last size bytes that were written.
type ring struct {
	size    int
	data    []byte
	next    int // where the next byte goes, once wrapped
	wrapped bool
}

func (r *ring) write(p []byte) {
	for len(p) > 0 {
		if !r.wrapped && len(r.data) < r.size {
			n := min(len(p), r.size-len(r.data))
			r.data = append(r.data, p[:n]...)
			p = p[n:]
			continue
		}
		r.wrapped = true
		n := copy(r.data[r.next:], p)
		r.next = (r.next + n) % r.size
		p = p[n:]
	}
}

// read returns everything but the final newline, or, once wrapped, all bytes, the oldest first.
func (r *ring) read() []byte {
	if !r.wrapped {
		return bytes.TrimSuffix(append([]byte(nil), r.data...), []byte("\n"))
	}
	return append(append(make([]byte, 0, r.size), r.data[r.next:]...), r.data[:r.next]...)
}

// render turns zerolog's JSON into "sN:rN message key=value: error". The fields s and r are the numbers of a
// lockspace and a lease; a lockspace that has a number needs no name.
func render(p []byte) (string, error) {
	var prefix [2]string
	var message, failure, space string
	var rest strings.Builder
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	if _, err := d.Token(); err != nil {
		return "", err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return "", err
		}
		switch text := fmt.Sprint(value); key {
		case zerolog.LevelFieldName:
		case zerolog.MessageFieldName:
			message = text
		case zerolog.ErrorFieldName:
			failure = ": " + text
		case "space":
			space = text
		case "s":
			prefix[0] = "s" + text
		case "r":
			prefix[1] = "r" + text
		default:
			fmt.Fprintf(&rest, " %v=%s", key, text)
		}
	}
	head := prefix[0]
	switch {
	case head == "":
		head = strings.TrimSpace(space + " " + prefix[1])
	case prefix[1] != "":
		head += ":" + prefix[1]
	}
	if head != "" {
		head += " "
	}
	return head + message + rest.String() + failure, nil
}
