// Package leases names what a lease is made of: hosts, generations, owners, modes, verdicts, errors.
//
// Everything here is a noun that more than one floor needs. The package does no I/O and knows no clock.
package leases
