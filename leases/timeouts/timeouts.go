// Package timeouts derives every interval of the protocol from a host's io_timeout.
//
// The intervals are sanlock's (spec ondisk 3.8). Another host's intervals come from the io_timeout that it
// left on disk, never from ours: build a Set per host.
package timeouts

import "time"

// Defaults and bounds.
const (
	DefaultIO   = 10  // seconds, what stock uses when a caller gives none
	MaxIO       = 255 // seconds; a delta lease stores the low 8 bits only (spec ondisk 9.14)
	DefaultFire = 60  // seconds from the last pet of the watchdog to the reset; all hosts must agree
	Grace       = 40  // seconds of SIGTERM or killpath between renewal failure and SIGKILL
)

// Set is the io_timeout of one host and the watchdog's fire time, in seconds.
type Set struct {
	IO   uint32
	Fire uint32
}

// Of returns the set of a host with the given io_timeout; 0 means "unknown" on old disks and is taken
// as fallback.
func Of(ioTimeout, fallback, fire uint32) Set {
	if ioTimeout == 0 {
		ioTimeout = fallback
	}
	return Set{IO: ioTimeout, Fire: fire}
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

// OneIO bounds one transfer: d.
func (s Set) OneIO() time.Duration { return seconds(s.IO) }

// ShortDelay is the wait after claiming a free host id: 2d.
func (s Set) ShortDelay() time.Duration { return seconds(2 * s.IO) }

// Renewal is the interval between renewals: 2d.
func (s Set) Renewal() time.Duration { return seconds(2 * s.IO) }

// RenewalWarn is the age of the last renewal at which each second is logged: 6d.
func (s Set) RenewalWarn() time.Duration { return seconds(6 * s.IO) }

// RenewalFail is the age of the last renewal at which the lockspace is lost: 8d, inclusive. Counted from
// before the renewal's write.
func (s Set) RenewalFail() time.Duration { return seconds(8 * s.IO) }

// HostFail is the silence after which another host is seen failing: 8d, exclusive.
func (s Set) HostFail() time.Duration { return seconds(8 * s.IO) }

// HostDead is the silence after which a host has been reset by its watchdog: 8d + fire, exclusive.
func (s Set) HostDead() time.Duration { return seconds(8*s.IO + s.Fire) }

// RenewalWrite bounds the write of a renewal: retrying gains nothing, so it gets as long as the lease
// can matter to anyone, 8d + fire.
func (s Set) RenewalWrite() time.Duration { return s.HostDead() }

// BitmapHold is how long a host id's bit stays set in our bitmap: 6d.
func (s Set) BitmapHold() time.Duration { return seconds(6 * s.IO) }

// KillFrom is the age of the last renewal from which holders get SIGKILL: 8d + grace.
func (s Set) KillFrom() time.Duration { return s.RenewalFail() + seconds(Grace) }
