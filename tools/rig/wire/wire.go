// Package wire is what a host and the agent in its virtual machine say to each other over one serial port: a
// line of JSON a message.
//
// A port outlives the guest that reads it: after a reset the next guest finds what was meant for the last one.
// So the agent names its boot in every report, the host repeats that name in every request, and a request with
// another name, or a line that does not parse, is dropped.
package wire

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Port is the name of the virtio port that the agent serves.
const Port = "rig.agent"

// MessageMax bounds a message in bytes; OutputMax the output in one report, which base64 makes longer.
const (
	MessageMax = 1 << 20
	OutputMax  = 32 << 10
)

// Op is what a request asks for.
type Op string

// The requests. Run starts a shell command; Signal sends Request.Signal to the process group of the command
// with that ID.
const (
	Run    Op = "run"
	Signal Op = "signal"
)

// Request is what the host sends.
type Request struct {
	Boot    string `json:"boot"` // from the Ready report
	ID      uint64 `json:"id"`   // chosen by the host, unique in a boot
	Op      Op     `json:"op"`
	Command string `json:"command,omitempty"`
	Signal  int    `json:"signal,omitempty"`
}

// Kind is what a report tells.
type Kind string

// The reports. Ready: the guest has booted and takes requests. Output: the command ID wrote Data. Exit: it
// ended with Code (128 + the signal's number if a signal ended it). Note: Text is for the log.
const (
	Ready  Kind = "ready"
	Output Kind = "output"
	Exit   Kind = "exit"
	Note   Kind = "note"
)

// Report is what the agent sends.
type Report struct {
	Boot string `json:"boot"`
	Kind Kind   `json:"kind"`
	ID   uint64 `json:"id,omitempty"`
	Data []byte `json:"data,omitempty"`
	Code int    `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
}

// Write writes one message.
func Write(w io.Writer, message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if len(line) >= MessageMax {
		return fmt.Errorf("a message of %d bytes is longer than %d", len(line), MessageMax)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// Read calls each with every message that parses, until the stream ends; the stream's error is returned, nil
// at its end.
func Read[T any](r io.Reader, each func(T)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), MessageMax)
	for lines.Scan() {
		var m T
		if json.Unmarshal(lines.Bytes(), &m) == nil {
			each(m)
		}
	}
	return lines.Err()
}
