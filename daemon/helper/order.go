package helper

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Name is the first argument of the helper process, and of the ones that become programs.
const Name = "sanlock-helper"

// Bounds and times of the exchange.
const (
	maxMessage  = 512                    // bytes of an order or a report
	statusEvery = 30 * time.Second       // between two signs of life of the helper
	orderLasts  = 200 * time.Millisecond // after this the helper refuses an order
	answerWait  = 300 * time.Millisecond // after this the daemon sends a signal itself
	runWait     = time.Second            // and this for a program, which two should not start
	maxWaiting  = 4096                   // orders that have not been confirmed
	maxPrograms = 1024                   // programs that run at a time
)

// What an order and a report are about.
const (
	orderSignal uint32 = iota + 1
	orderRun
	reportStatus
	reportDone  // an order was carried out, or not: code is the errno
	reportEnded // a program has ended: code is its exit status
	reportUnrun // a program whose order was confirmed could not be started; the words are the order's
)

var errMessage = errors.New("message of the helper that is none")

// message is an order or a report. A signal's order carries the pidfd beside it.
//
//	offset size
//	  0     4   kind
//	  4     4   code: signal, errno or exit status
//	  8     8   number of the order
//	 16     8   boot time in nanoseconds after which an order is void
//	 24     …   words, each with a zero behind it: a program and its arguments, or a text
type message struct {
	kind  uint32
	code  int32
	seq   uint64
	until uint64
	words []string
}

const messageHead = 24

func (m message) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, m.kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(m.code))
	b = binary.LittleEndian.AppendUint64(b, m.seq)
	b = binary.LittleEndian.AppendUint64(b, m.until)
	for _, w := range m.words {
		b = append(append(b, w...), 0)
	}
	return b
}

func decode(p []byte) (message, error) {
	if len(p) < messageHead || len(p) > messageHead && p[len(p)-1] != 0 {
		return message{}, errMessage
	}
	m := message{
		kind: binary.LittleEndian.Uint32(p), code: int32(binary.LittleEndian.Uint32(p[4:])),
		seq: binary.LittleEndian.Uint64(p[8:]), until: binary.LittleEndian.Uint64(p[16:]),
	}
	if text := string(p[messageHead:]); text != "" {
		m.words = strings.Split(text[:len(text)-1], "\x00")
	}
	return m, nil
}

// bootTime is the clock that both processes share; it goes on while the machine is suspended.
func bootTime() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("CLOCK_BOOTTIME: " + err.Error()) // every kernel that has pidfds has it
	}
	return uint64(t.Nano())
}
