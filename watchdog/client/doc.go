// Package client speaks to wdmd for a lockspace: as long as it is told that the lockspace lives, the watchdog is
// petted.
//
// It knows both kinds of daemon that are in use under one version number: those that open the device when they are
// asked to, and the older ones that never answer that question and have it open from their start. From neither is it
// taken on trust that the device runs (spec sanlock-daemon 3.9).
package client
