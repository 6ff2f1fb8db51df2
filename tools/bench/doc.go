// Command bench sets our sanlock beside Debian's on one loop device and says what an operation costs on each.
//
// Both daemons, and a bare sequence of the same transfers without any daemon, take turns within the same
// run, so that a slow minute of the machine hits all alike. Transfers and sectors come first: they are exact
// on any machine. Times are medians; the limits are on ratios of medians. It needs root.
package main
