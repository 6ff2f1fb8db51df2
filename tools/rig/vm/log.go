package vm

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// linesMax bounds a Log: the older half is dropped when it is full.
const linesMax = 1 << 20

// Sources of lines that are not the name of a spawned program.
const (
	SourceRig     = "rig"     // what the rig did to a machine
	SourceQMP     = "qmp"     // QEMU's events: RESET, SHUTDOWN, WATCHDOG, …
	SourceConsole = "console" // the guest's kernel
	SourceGuest   = "guest"   // the agent
	SourceQEMU    = "qemu"    // QEMU's own words, which is trouble
)

// Line is one thing that happened.
type Line struct {
	At      time.Time // the host's clock, when the host saw it
	Machine int       // from 1
	Source  string
	Text    string
}

// Log is what happened on all machines in the order in which the host saw it.
type Log struct {
	start time.Time
	echo  io.Writer

	mu      sync.Mutex
	lines   []Line
	dropped int
	more    chan struct{} // closed and replaced by each line
}

func newLog(echo io.Writer) *Log {
	return &Log{start: time.Now(), echo: echo, more: make(chan struct{})}
}

func (l *Log) add(machine int, source, text string) {
	line := Line{At: time.Now(), Machine: machine, Source: source, Text: text}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == linesMax {
		l.lines = append([]Line(nil), l.lines[linesMax/2:]...)
		l.dropped += linesMax / 2
	}
	l.lines = append(l.lines, line)
	close(l.more)
	l.more = make(chan struct{})
	if l.echo != nil {
		fmt.Fprintln(l.echo, line.Format(l.start))
	}
}

// Format writes a line with its time in seconds since origin.
func (l Line) Format(origin time.Time) string {
	return fmt.Sprintf("%8.2f vm%d %-8s %s", l.At.Sub(origin).Seconds(), l.Machine, l.Source, l.Text)
}

// Lines returns the lines at or after a time; the zero time asks for all.
func (l *Log) Lines(since time.Time) []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Line
	for _, line := range l.lines {
		if !line.At.Before(since) {
			out = append(out, line)
		}
	}
	return out
}

// Match says which lines are meant. Zero fields match anything; Text must be contained.
type Match struct {
	Machine int
	Source  string
	Text    string
	Since   time.Time
}

func (m Match) matches(l Line) bool {
	return (m.Machine == 0 || m.Machine == l.Machine) && (m.Source == "" || m.Source == l.Source) &&
		strings.Contains(l.Text, m.Text) && !l.At.Before(m.Since)
}

// Find returns all lines that match.
func (l *Log) Find(m Match) []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Line
	for _, line := range l.lines {
		if m.matches(line) {
			out = append(out, line)
		}
	}
	return out
}

// Wait returns the first line that matches, which may be in the log already.
func (l *Log) Wait(ctx context.Context, m Match) (Line, error) {
	for next := 0; ; {
		l.mu.Lock()
		for i := max(0, next-l.dropped); i < len(l.lines); i++ {
			if m.matches(l.lines[i]) {
				defer l.mu.Unlock()
				return l.lines[i], nil
			}
		}
		next = l.dropped + len(l.lines)
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return Line{}, fmt.Errorf("wait for a line of vm%d (0: any) with %q: %w", m.Machine, m.Text, ctx.Err())
		}
	}
}

// lineWriter makes lines of what is written to it.
type lineWriter struct {
	say  func(text string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, ok := strings.Cut(string(w.rest), "\n")
		if !ok {
			return len(p), nil
		}
		w.rest = []byte(rest)
		if line = strings.TrimRight(line, "\r"); line != "" {
			w.say(line)
		}
	}
}

// flush says the last line if no newline ended it.
func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.say(string(w.rest))
		w.rest = nil
	}
}
