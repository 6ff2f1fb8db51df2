package sanlockwire

import (
	"encoding/binary"
	"fmt"

	"github.com/tenurelock/tenure/leases"
)

// ResourceSize is the size in bytes of a resource without its disks.
const ResourceSize = 128

const resourceDisksAt = 124

// Resource is a lease as requests name it. 128 bytes, then its disks where the command carries them:
//
//	offset 0 lockspace   48 name   96 lver, 8   104 data64, 8   112 data32   116 unused   120 flags   124 disks
type Resource struct {
	Space, Name leases.Name
	LVer        uint64 // version of the leader, with ResLVer in requests
	Data64      uint64
	Data32      uint32 // number of hosts, with ResNumHosts
	Flags       uint32 // Res… and the sizes
	Disks       []Disk // 1 to 4 where the command carries them
	NumDisks    uint32 // as received; may be not 0 where no disks follow
}

// Shared reports the flag ResShared.
func (r Resource) Shared() bool { return r.Flags&ResShared != 0 }

// Append adds the 128 bytes of r, without its disks, to p. The number of disks is NumDisks, or, if that is 0,
// the number of Disks.
func (r Resource) Append(p []byte) []byte {
	p = append(p, r.Space[:]...)
	p = append(p, r.Name[:]...)
	p = binary.LittleEndian.AppendUint64(p, r.LVer)
	p = binary.LittleEndian.AppendUint64(p, r.Data64)
	p = binary.LittleEndian.AppendUint32(p, r.Data32)
	p = binary.LittleEndian.AppendUint32(p, 0)
	p = binary.LittleEndian.AppendUint32(p, r.Flags)
	disks := r.NumDisks
	if disks == 0 {
		disks = uint32(len(r.Disks))
	}
	return binary.LittleEndian.AppendUint32(p, disks)
}

// AppendWithDisks adds the 128 bytes of r and then its disks to p.
func (r Resource) AppendWithDisks(p []byte) []byte {
	r.NumDisks = uint32(len(r.Disks))
	p = r.Append(p)
	for _, d := range r.Disks {
		p = d.Append(p)
	}
	return p
}

// Decode reads the resource from the first 128 bytes of p and leaves Disks empty; the only error is that
// there are fewer.
func (r *Resource) Decode(p []byte) error {
	if err := enough("resource", p, ResourceSize); err != nil {
		return err
	}
	*r = Resource{
		Space:    leases.Name(p[0:48]),
		Name:     leases.Name(p[48:96]),
		LVer:     binary.LittleEndian.Uint64(p[96:]),
		Data64:   binary.LittleEndian.Uint64(p[104:]),
		Data32:   binary.LittleEndian.Uint32(p[112:]),
		Flags:    binary.LittleEndian.Uint32(p[120:]),
		NumDisks: binary.LittleEndian.Uint32(p[resourceDisksAt:]),
	}
	return nil
}

// DecodeWithDisks reads a resource and its NumDisks disks from p and returns what follows them. The errors
// are a *ShortError, and a *leases.Error of kind OutOfRange when NumDisks is not 1 to 4.
func (r *Resource) DecodeWithDisks(p []byte) (rest []byte, err error) {
	if err := r.Decode(p); err != nil {
		return nil, err
	}
	if r.NumDisks == 0 || r.NumDisks > MaxDisks {
		return nil, tooManyDisks(r.NumDisks)
	}
	p = p[ResourceSize:]
	for range r.NumDisks {
		var d Disk
		if err := d.Decode(p); err != nil {
			return nil, err
		}
		r.Disks = append(r.Disks, d)
		p = p[DiskSize:]
	}
	return p, nil
}

// Options are sent once behind the resources of an ACQUIRE. 56 bytes:
//
//	offset 0 owner name   48 flags, unused   52 length of a string that is never sent
type Options struct {
	OwnerName  leases.Name // shown by status
	Flags, Len uint32
}

// OptionsSize is the size in bytes of Options.
const OptionsSize = 56

// Append adds the 56 bytes of o to p.
func (o Options) Append(p []byte) []byte {
	p = append(p, o.OwnerName[:]...)
	p = binary.LittleEndian.AppendUint32(p, o.Flags)
	return binary.LittleEndian.AppendUint32(p, o.Len)
}

// Decode reads the options from the first 56 bytes of p; the only error is that there are fewer.
func (o *Options) Decode(p []byte) error {
	if err := enough("options", p, OptionsSize); err != nil {
		return err
	}
	*o = Options{
		OwnerName: leases.Name(p[0:48]),
		Flags:     binary.LittleEndian.Uint32(p[48:]),
		Len:       binary.LittleEndian.Uint32(p[52:]),
	}
	return nil
}

// DecodeAcquire takes apart the body of an ACQUIRE: the resources that h announces with their disks, and the
// options. A body that ReadBody returned without error has no error here.
func DecodeAcquire(h Header, body []byte) ([]Resource, Options, error) {
	var rs []Resource
	var o Options
	for n := int32(h.Data); n > 0; n-- {
		var r Resource
		rest, err := r.DecodeWithDisks(body)
		if err != nil {
			return nil, o, err
		}
		rs, body = append(rs, r), rest
	}
	err := o.Decode(body)
	return rs, o, err
}

// DecodeRelease takes apart the body of a RELEASE, however many resources it has.
func DecodeRelease(body []byte) ([]Resource, error) {
	var rs []Resource
	for ; len(body) > 0; body = body[ResourceSize:] {
		var r Resource
		if err := r.Decode(body); err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	return rs, nil
}

func tooManyDisks(n uint32) error {
	return &leases.Error{
		Op: "read", Kind: leases.OutOfRange,
		Err: fmt.Errorf("a resource with %d disks; 1 to %d are possible", n, MaxDisks),
	}
}
