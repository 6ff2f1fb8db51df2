package leases

import "fmt"

// HostID is a host's slot in a lockspace, counted from 1. 0 means nobody.
type HostID uint64

// Generation counts the incarnations of a host id: it grows by one with every join and never goes back
// until the lockspace is formatted anew.
type Generation uint64

// Owner is one incarnation of one host.
type Owner struct {
	Host       HostID
	Generation Generation
}

// String prints "host 3 generation 7".
func (o Owner) String() string { return fmt.Sprintf("host %d generation %d", o.Host, o.Generation) }
