// Package hosts judges hosts alive, failing or dead from the timestamps they left and when we saw them
// change.
//
// Clocks of hosts are never compared. A timestamp means only "different from before"; the time that counts is
// ours, when we saw the change. A host is dead once it has not changed for the time after which its own
// watchdog must have reset it, which depends on its io_timeout, not on ours. The judgement needs no disk and
// no clock: both are told to it (spec ondisk 3.5).
package hosts
