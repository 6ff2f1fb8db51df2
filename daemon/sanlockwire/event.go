package sanlockwire

import "encoding/binary"

// Sizes in bytes of what travels for events.
const (
	HostEventSize = 32
	EventSize     = HeaderSize + HostEventSize + 16
	// EventEnd is what a client writes on the connection of its REG_EVENT when it wants no more events:
	// this number, 4 bytes, little-endian.
	EventEnd     = 1
	EventEndSize = 4
)

// HostEvent is what one host tells another through their delta leases. 32 bytes:
//
//	offset 0 host id, 8   8 generation, 8   16 event, 8   24 data, 8
type HostEvent struct{ HostID, Generation, Event, Data uint64 }

// Append adds the 32 bytes of e to p.
func (e HostEvent) Append(p []byte) []byte {
	for _, v := range [...]uint64{e.HostID, e.Generation, e.Event, e.Data} {
		p = binary.LittleEndian.AppendUint64(p, v)
	}
	return p
}

// Decode reads the event from the first 32 bytes of p; the only error is that there are fewer.
func (e *HostEvent) Decode(p []byte) error {
	if err := enough("host event", p, HostEventSize); err != nil {
		return err
	}
	for i, v := range [...]*uint64{&e.HostID, &e.Generation, &e.Event, &e.Data} {
		*v = binary.LittleEndian.Uint64(p[8*i:])
	}
	return nil
}

// Event is the only message that the daemon sends unasked, on connections that REG_EVENT was sent on. It must
// be written in one piece: stock's client takes 80 bytes without waiting, or none. 80 bytes:
//
//	offset 0 header   32 the event as it was set   64 host id it comes from, 8   72 its generation, 8
type Event struct {
	HostEvent                  // its HostID is the receiver's
	FromHostID, FromGeneration uint64
}

// Append adds the 80 bytes of e to p, beginning with a header whose command is 1.
func (e Event) Append(p []byte) []byte {
	p = NewHeader(1, 0, EventSize-HeaderSize, 0, 0).Append(p)
	p = e.HostEvent.Append(p)
	p = binary.LittleEndian.AppendUint64(p, e.FromHostID)
	return binary.LittleEndian.AppendUint64(p, e.FromGeneration)
}

// Decode reads the event from the first 80 bytes of p; the only error is that there are fewer. The header's
// content is not looked at, as in stock.
func (e *Event) Decode(p []byte) error {
	if err := enough("event", p, EventSize); err != nil {
		return err
	}
	e.FromHostID = binary.LittleEndian.Uint64(p[64:])
	e.FromGeneration = binary.LittleEndian.Uint64(p[72:])
	return e.HostEvent.Decode(p[HeaderSize:])
}
