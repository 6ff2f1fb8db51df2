// Package native keeps the locks of volume groups in sanlock leases, by way of a sanlock daemon: Tenure's or
// stock's.
//
// Each VG has a lockspace "lvm_<VG>" in its lock LV, which holds one lease for the global lock, one for the
// VG and one for each LV. Everything that touches a lease is done by the daemon. Only to find a free slot
// among thousands does this package read the device itself, and it believes what it read no further than the
// daemon confirms it. Source: spec lvmlockd 4.
package native
