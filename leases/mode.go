package leases

// Mode is how a resource is held.
type Mode uint8

// The modes of a resource lease.
const (
	Exclusive Mode = iota + 1 // one host, one holder
	Shared                    // any number of hosts and holders
)

// String prints "exclusive" or "shared".
func (m Mode) String() string {
	switch m {
	case Exclusive:
		return "exclusive"
	case Shared:
		return "shared"
	}
	return "no mode"
}
