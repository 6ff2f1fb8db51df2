// Package device moves whole sectors to and from shared storage before a deadline, or says that it could not.
//
// A transfer that misses its deadline is not undone: the kernel may still perform it at any later time
// (spec ondisk 6.4). The package therefore keeps such a transfer's buffer until the kernel is done with it,
// never starts a second write to a sector while an earlier one is in flight, and hands out a Late with which
// the answer can be reaped.
package device
