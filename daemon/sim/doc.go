// Package sim runs many hosts against one shared disk in virtual time and judges what they believed.
//
// A host is the shipping lease daemon with a disk in memory and processes that are no more than their reaction
// to a signal. It has no watchdog: a process that cannot be killed keeps its lease, and the judge says so. A
// World must be made inside a synctest bubble: an hour of it takes a second. What a virtual machine can do and
// this cannot is to stop a host's code at any instruction; tools/rig does that.
package sim
