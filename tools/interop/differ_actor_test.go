package interop

import (
	"encoding/binary"
	"time"
)

// Other hosts of the cluster are played by the test itself: it writes the same sectors to both worlds.

const (
	liveHost  = 2 // renews
	deadHost  = 3 // was there once, holds leases, never renews
	freeHost  = 4 // has left
	beatEvery = time.Second
)

// neighbour writes a host's own sector of every lockspace.
func (w *world) neighbour(id int, timestamp uint64, bits ...int) {
	for _, tw := range w.twins {
		for i, p := range plates {
			if p.file {
				continue
			}
			at := int64(id-1) * p.sector
			s := make([]byte, p.sector)
			copy(s, tw.images[i][:200]) // the sizes and the name are as in the sector of host 1
			binary.LittleEndian.PutUint64(s[32:], uint64(id))
			binary.LittleEndian.PutUint64(s[40:], 5)
			clear(s[104:152])
			copy(s[104:], "neighbour"+string(rune('0'+id)))
			binary.LittleEndian.PutUint64(s[152:], timestamp)
			binary.LittleEndian.PutUint32(s[168:], checksum(s[:168]))
			binary.LittleEndian.PutUint32(s[172:], differIO<<16)
			clear(s[176:])
			for _, b := range bits {
				s[256+(b-1)/8] |= 1 << ((b - 1) % 8)
			}
			copy(tw.images[i][at:], s)
		}
	}
}

// beat renews the living neighbour when it is time.
func (w *world) beat() {
	if w.beaten.IsZero() || time.Since(w.beaten) < beatEvery {
		return
	}
	w.beaten = time.Now()
	w.neighbour(liveHost, uint64(time.Now().Unix()))
}

// passDeath waits, when the silent neighbour is about to be declared dead, until both daemons have done so: each
// counts from its own first look, and what they answer about its leases changes there.
func (w *world) passDeath() {
	const near = (8*differIO + 60 - 6) * time.Second
	for i, at := range w.joined {
		if at.IsZero() || time.Since(at) < near {
			continue
		}
		w.joined[i] = time.Time{}
		m := w.gen.order(cmdGetHosts)
		m.closes, m.body = true, spaceArgs{name: spaces[i], host: deadHost}.bytes()
		w.until(w.gen.say(-1, m, "%s", spaces[i]), func(a answer) bool {
			return len(a.body) == 32 && word(a.body, 28)&0xF == hostDead
		})
	}
}

// leader changes the leader record of an area on both sides and seals it.
func (w *world) leader(p, area int, change func(leader []byte), seal bool) {
	for _, tw := range w.twins {
		at := int64(area) * plates[p].align
		s := tw.images[p][at : at+plates[p].sector]
		change(s)
		if seal {
			binary.LittleEndian.PutUint32(s[168:], checksum(s[:168]))
		}
	}
}

// own makes a neighbour the owner of a free lease: what a ballot of its leaves behind.
func (w *world) own(p, area, id int, timestamp uint64) {
	put := binary.LittleEndian.PutUint64
	var lver, mbal uint64
	w.leader(p, area, func(s []byte) {
		lver = quad(s, 48) + 1
		put(s[32:], uint64(id))
		put(s[40:], 5)
		put(s[48:], lver)
		put(s[152:], timestamp)
		put(s[176:], uint64(id))
		put(s[184:], 5)
		put(s[192:], timestamp)
		mbal = (lver+7)*quad(s, 24) + uint64(id)
	}, true)
	w.block(p, area, id, func(b []byte) {
		for i, v := range []uint64{mbal, mbal, uint64(id), 5, timestamp, lver} {
			put(b[8*i:], v)
		}
		binary.LittleEndian.PutUint32(b[48:], checksum(b[:48]))
		binary.LittleEndian.PutUint32(b[52:], 0)
	})
}

// block changes a neighbour's block of an area on both sides.
func (w *world) block(p, area, id int, change func(block []byte)) {
	for _, tw := range w.twins {
		at := int64(area)*plates[p].align + int64(id+1)*plates[p].sector
		change(tw.images[p][at : at+plates[p].sector])
	}
}

// sharedElsewhere reports whether a neighbour's mark lies on a lease.
func (g *generator) sharedElsewhere(h held) bool {
	for _, s := range spots {
		if s.space != h.space || g.name(s) != h.name {
			continue
		}
		p := plates[s.plate]
		for id := int64(liveHost); id <= freeHost; id++ {
			block := g.w.twins[debian].images[s.plate][int64(s.area)*p.align+(id+1)*p.sector:]
			if word(block, 128) != 0 {
				return true
			}
		}
	}
	return false
}

// level copies leaders and votes of leases that nobody has here from Debian's world to ours where its version
// is one higher: stock wins a ballot before it looks whether others share the lease, we look first
// (COMPATIBILITY.md).
func (w *world) level(asked []spot) {
	for _, s := range asked {
		p := plates[s.plate]
		at, own := int64(s.area)*p.align, int64(s.area)*p.align+(differID+1)*p.sector
		stock, ours := w.twins[debian].images[s.plate], w.twins[tenure].images[s.plate]
		if s.mirrors != 0 || s.area == 0 || int64(len(stock)) < own+p.sector ||
			word(stock[at:], 0) != paxosMagic || quad(stock[at:], 48) != quad(ours[at:], 48)+1 ||
			quad(stock[at:], 152) != 0 {
			continue
		}
		w.allowed["a lease that others share is refused before a ballot"]++
		copy(ours[at:at+p.sector], stock[at:])
		copy(ours[own:own+p.sector], stock[own:])
	}
}
