package ondisk

import (
	"encoding/binary"

	"github.com/tenurelock/tenure/leases"
)

// Constants of the request record.
const (
	RequestMagic   = 0x08292011
	RequestVersion = 0x00010001
	RequestSize    = 24
)

// Request is the second sector of a resource area: another host's wish to have the lease (spec ondisk 2.4).
// It has no checksum. The undefined bytes are not kept: we write zeros.
//
//	0  4  magic        8  8  lver wanted, 0 = no request                20  4  undefined
//	4  4  version     16  4  force mode: 0 none, 1 force, 2 graceful
type Request struct {
	Magic, Version uint32
	LVer           uint64
	ForceMode      uint32
}

// DecodeRequest fails only if fewer than RequestSize bytes are given.
func DecodeRequest(sector []byte) (Request, error) {
	if len(sector) < RequestSize {
		return Request{}, short("request", len(sector), RequestSize)
	}
	le := binary.LittleEndian
	return Request{
		Magic: le.Uint32(sector[0:]), Version: le.Uint32(sector[4:]),
		LVer: le.Uint64(sector[8:]), ForceMode: le.Uint32(sector[16:]),
	}, nil
}

// Encode writes the record and zeros the rest of sector.
func (r *Request) Encode(sector []byte) {
	clear(sector)
	le := binary.LittleEndian
	le.PutUint32(sector[0:], r.Magic)
	le.PutUint32(sector[4:], r.Version)
	le.PutUint64(sector[8:], r.LVer)
	le.PutUint32(sector[16:], r.ForceMode)
}

// Check tests magic and major version, in that order.
func (r *Request) Check() error {
	if r.Magic != RequestMagic {
		return wrong("request", "magic", leases.RequestMagic, r.Magic, RequestMagic)
	}
	if r.Version>>16 != RequestVersion>>16 {
		return wrong("request", "version", leases.RequestVersion, r.Version, RequestVersion)
	}
	return nil
}
