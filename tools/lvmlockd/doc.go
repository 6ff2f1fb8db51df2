// Package lvmlockd is lvmlockd's own command line.
//
// Options and exit codes are those of stock, which units and scripts rely on (spec lvmlockd 3.13).
package lvmlockd
