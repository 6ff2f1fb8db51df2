// Package wdmdwire is the wdmd socket protocol: one message of 176 bytes, both ways (spec sanlock-daemon 3.1).
package wdmdwire

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Size is the length of every message but the text that answers DumpDebug.
const Size = 176

// NameSize is the length of a client's name on the wire. It need not end in a zero byte.
const NameSize = 128

// MaxDump is the longest text that clients take as an answer to DumpDebug, in bytes.
const MaxDump = 1 << 20

// SocketPath is where clients look for the daemon.
const SocketPath = "/run/wdmd/wdmd.sock"

// Command is what a message asks for.
type Command uint32

// The commands. Status, DumpDebug and OpenWatchdog are answered, the others are not. OpenWatchdog is newer than
// the others: a daemon that does not know it does not answer.
const (
	Register      Command = 1 // Name: who the client is
	RefcountSet   Command = 2 // keeps the daemon from ending
	RefcountClear Command = 3
	TestLive      Command = 4 // RenewalTime, ExpireTime; both 0: nothing is expected of the client any more
	Status        Command = 5 // answered with TestInterval, FireTimeout, LastKeepalive
	DumpDebug     Command = 6 // answered with text
	OpenWatchdog  Command = 7 // FireTimeout; answered with the one in force, 0 for a failure
)

func (c Command) String() string {
	switch c {
	case Register:
		return "REGISTER"
	case RefcountSet:
		return "REFCOUNT_SET"
	case RefcountClear:
		return "REFCOUNT_CLEAR"
	case TestLive:
		return "TEST_LIVE"
	case Status:
		return "STATUS"
	case DumpDebug:
		return "DUMP_DEBUG"
	case OpenWatchdog:
		return "OPEN_WATCHDOG"
	}
	return fmt.Sprintf("command %d", uint32(c))
}

// Message is one message. Times are seconds of CLOCK_MONOTONIC, timeouts are seconds.
//
//	offset size
//	  0     4   magic, sent 0        16     4   test interval          32     8   renewal time
//	  4     4   command              20     4   fire timeout           40     8   expire time
//	  8     4   length, sent 0       24     8   last keepalive         48   128   name
//	 12     4   flags, sent 0
//
// Little-endian. Magic, length and flags are not looked at, but answers carry what the request had.
type Message struct {
	Magic         uint32
	Command       Command
	Length        uint32
	Flags         uint32
	TestInterval  uint32
	FireTimeout   uint32
	LastKeepalive uint64
	RenewalTime   uint64
	ExpireTime    uint64
	Name          [NameSize]byte
}

// Append appends the 176 bytes of m.
func (m *Message) Append(to []byte) []byte {
	le := binary.LittleEndian
	for _, v := range []uint32{m.Magic, uint32(m.Command), m.Length, m.Flags, m.TestInterval, m.FireTimeout} {
		to = le.AppendUint32(to, v)
	}
	for _, v := range []uint64{m.LastKeepalive, m.RenewalTime, m.ExpireTime} {
		to = le.AppendUint64(to, v)
	}
	return append(to, m.Name[:]...)
}

// Decode reads a message from the first 176 bytes of p. It fails only if there are fewer.
func Decode(p []byte) (Message, error) {
	if len(p) < Size {
		return Message{}, fmt.Errorf("wdmd message of %d bytes: it has %d", len(p), Size)
	}
	le := binary.LittleEndian
	m := Message{
		Magic: le.Uint32(p[0:]), Command: Command(le.Uint32(p[4:])), Length: le.Uint32(p[8:]),
		Flags: le.Uint32(p[12:]), TestInterval: le.Uint32(p[16:]), FireTimeout: le.Uint32(p[20:]),
		LastKeepalive: le.Uint64(p[24:]), RenewalTime: le.Uint64(p[32:]), ExpireTime: le.Uint64(p[40:]),
	}
	copy(m.Name[:], p[48:Size])
	return m, nil
}

// SetName stores a name, cut to 127 bytes.
func (m *Message) SetName(name string) {
	m.Name = [NameSize]byte{}
	copy(m.Name[:NameSize-1], name)
}

// Text returns the name up to its first zero byte.
func (m *Message) Text() string {
	text, _, _ := bytes.Cut(m.Name[:], []byte{0})
	return string(text)
}
