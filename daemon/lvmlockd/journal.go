package lvmlockd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/syslog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	// logSize is how much of the log is kept for --dump, bytes.
	logSize = maxDump
	// logSize16 is what 2.03.16 keeps.
	logSize16 = 1 << 20
	// maxLine is how long a line may be, its newline included, bytes.
	maxLine = 256
	// logQueue is how many lines may wait for a log that is slow. Further ones are counted and lost there.
	logQueue = 4096
)

// journal turns log events into stock's lines, "UNIXTIME text", keeps the last of them and hands them on. It never waits.
type journal struct {
	debug   io.Writer // gets all lines; nil: no
	syslog  *syslog.Writer
	level   zerolog.Level // from which syslog gets lines
	queue   chan logged
	dropped atomic.Uint64
	writing sync.WaitGroup

	mu     sync.Mutex
	ring   ring
	closed bool
}

type logged struct {
	level zerolog.Level
	line  []byte
}

// newJournal starts a journal. Close flushes it. debug and to may be nil.
func newJournal(size int, debug io.Writer, to *syslog.Writer, level zerolog.Level) *journal {
	j := &journal{debug: debug, syslog: to, level: level, queue: make(chan logged, logQueue), ring: ring{size: size}}
	j.writing.Go(j.drain)
	return j
}

func (j *journal) logger() zerolog.Logger { return zerolog.New(j).Level(zerolog.DebugLevel) }

// Write takes an event without level.
func (j *journal) Write(p []byte) (int, error) { return j.WriteLevel(zerolog.InfoLevel, p) }

// WriteLevel takes one event of zerolog's. It fails only if p is not one.
func (j *journal) WriteLevel(l zerolog.Level, p []byte) (int, error) {
	text, err := render(p)
	if err != nil {
		return 0, err
	}
	j.put(l, text)
	return len(p), nil
}

func (j *journal) put(l zerolog.Level, text string) {
	line := fmt.Appendf(nil, "%d %s", time.Now().Unix(), oneLine(text))
	line = append(line[:min(len(line), maxLine-1)], '\n')
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ring.write(line)
	if j.closed || j.debug == nil && (j.syslog == nil || l < j.level) {
		return
	}
	select {
	case j.queue <- logged{l, line}:
	default:
		j.dropped.Add(1)
	}
}

// drain writes what is queued.
func (j *journal) drain() {
	for q := range j.queue {
		j.deliver(q)
		if n := j.dropped.Swap(0); n > 0 {
			j.deliver(logged{zerolog.ErrorLevel, fmt.Appendf(nil, "%d dropped %d lines\n", time.Now().Unix(), n)})
		}
	}
}

// deliver has nowhere to complain.
func (j *journal) deliver(q logged) {
	if j.debug != nil {
		_, _ = j.debug.Write(q.line)
	}
	if j.syslog == nil || q.level < j.level {
		return
	}
	_, text, _ := strings.Cut(strings.TrimSuffix(string(q.line), "\n"), " ")
	switch {
	case q.level >= zerolog.ErrorLevel:
		_ = j.syslog.Err(text)
	case q.level == zerolog.WarnLevel:
		_ = j.syslog.Warning(text)
	default:
		_ = j.syslog.Debug(text)
	}
}

// Close writes what is queued. Later lines reach the memory only.
func (j *journal) Close() {
	j.mu.Lock()
	closed := j.closed
	j.closed = true
	if !closed {
		close(j.queue)
	}
	j.mu.Unlock()
	j.writing.Wait()
}

// text returns the lines in memory, the oldest first.
func (j *journal) text() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ring.read()
}

// ring keeps the last whole lines that fit into size bytes.
type ring struct {
	size    int
	data    []byte
	next    int // where the next byte goes, once wrapped
	wrapped bool
}

func (r *ring) write(line []byte) {
	if !r.wrapped && len(r.data)+len(line) <= r.size {
		r.data = append(r.data, line...)
		return
	}
	if !r.wrapped {
		r.wrapped = true
		r.data = append(r.data, make([]byte, r.size-len(r.data))...)
		r.next = len(bytes.TrimRight(r.data, "\x00"))
	}
	for len(line) > 0 {
		n := copy(r.data[r.next:], line)
		r.next = (r.next + n) % r.size
		line = line[n:]
	}
}

// read leaves out the line of which the beginning was overwritten.
func (r *ring) read() []byte {
	if !r.wrapped {
		return bytes.Clone(r.data)
	}
	all := append(append(make([]byte, 0, r.size), r.data[r.next:]...), r.data[:r.next]...)
	all = bytes.TrimLeft(all, "\x00")
	_, whole, _ := bytes.Cut(all, []byte("\n"))
	return whole
}

// oneLine replaces what would make a line two, or garble a terminal.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '_'
		}
		return c
	}, s)
}

// render turns zerolog's JSON into "message key=value: error".
func render(p []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	if _, err := d.Token(); err != nil {
		return "", err
	}
	var message, failure string
	var rest strings.Builder
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
		default:
			fmt.Fprintf(&rest, " %v=%s", key, text)
		}
	}
	return message + rest.String() + failure, nil
}
