package ondisk

import (
	"fmt"

	"github.com/tenurelock/tenure/leases"
)

// FormatError says which field of which record cannot be believed.
type FormatError struct {
	Record, Field string
	Got, Want     uint64
	GotName       string // set when Field is a name
	WantName      string
	Kind          leases.Kind
}

// Error prints "paxos leader: checksum is 0xbc2b72ca, should be 0x1d6a1592".
func (e *FormatError) Error() string {
	if e.GotName != "" || e.WantName != "" {
		return fmt.Sprintf("%s: %s is %q, should be %q", e.Record, e.Field, e.GotName, e.WantName)
	}
	if e.Kind == leases.BadMagic && e.Got == ClearedMagic {
		return e.Record + ": the resource was cleared"
	}
	return fmt.Sprintf("%s: %s is %#x, should be %#x", e.Record, e.Field, e.Got, e.Want)
}

// KindOf returns the kind, so that a lease error can carry it.
func (e *FormatError) KindOf() leases.Kind { return e.Kind }

func short(record string, got, want int) error {
	return &FormatError{
		Record: record, Field: "length", Got: uint64(got), Want: uint64(want), Kind: leases.ShortTransfer,
	}
}

func wrong[T uint32 | uint64](record, field string, kind leases.Kind, got, want T) error {
	return &FormatError{Record: record, Field: field, Got: uint64(got), Want: uint64(want), Kind: kind}
}

func wrongName(record, field string, kind leases.Kind, got, want leases.Name) error {
	return &FormatError{Record: record, Field: field, GotName: got.String(), WantName: want.String(), Kind: kind}
}
