package ondisk

// The host id bitmap of a delta sector: 2048 bits from byte BitmapAt, bit H-1 for host id H, lowest bit
// first (spec ondisk 2.2). The sector's owner raises the bit of a host that should look at the owner's
// event and at the requests for its own leases. It has no checksum.

// bitmapHosts is the number of bits.
const bitmapHosts = 8 * BitmapSize

// bitOf finds the bit of a host id. A sector that is too short, or a host id that has no bit, gives false.
func bitOf(sector []byte, host uint64) (at int, mask byte, ok bool) {
	if host < 1 || host > bitmapHosts || len(sector) < BitmapAt+BitmapSize {
		return 0, 0, false
	}
	return BitmapAt + int(host-1)/8, 1 << ((host - 1) % 8), true
}

// BitmapSet raises the bit of a host id in a delta sector. A host id outside 1 to 2048 changes nothing.
func BitmapSet(sector []byte, host uint64) {
	if at, mask, ok := bitOf(sector, host); ok {
		sector[at] |= mask
	}
}

// BitmapHas reports whether the bit of a host id is raised in a delta sector.
func BitmapHas(sector []byte, host uint64) bool {
	at, mask, ok := bitOf(sector, host)
	return ok && sector[at]&mask != 0
}

// BitmapClear lowers all bits of a delta sector.
func BitmapClear(sector []byte) {
	if len(sector) >= BitmapAt+BitmapSize {
		clear(sector[BitmapAt : BitmapAt+BitmapSize])
	}
}

// BitmapHosts returns the host ids whose bits are raised in a delta sector, in ascending order.
func BitmapHosts(sector []byte) []uint64 {
	var hosts []uint64
	for host := uint64(1); host <= bitmapHosts; host++ {
		if BitmapHas(sector, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
