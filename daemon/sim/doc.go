// Package sim runs many hosts against one shared disk in virtual time and judges what they believed.
//
// A host is the shipping lease daemon and the shipping watchdog daemon, connected, with a disk and a
// watchdog in memory, and processes that are no more than their reaction to a signal. When the watchdog
// runs out the whole machine is off: every holder ends then, and the machine may boot again. A World must
// be made inside a synctest bubble: an hour of it takes a second.
//
// A process that is stopped, and every process of a machine that is frozen, is kept from the outside: what
// it sends, reads, writes, signals or pets next waits. Its memory is not: its timers run on. So what others
// see of a stopped process is true, also while it is stopped for ever or until the watchdog resets its
// machine. What the code does that runs on after a SIGCONT or a thaw is not, and is not played;
// tools/vmtest does that, and tools/rig can stop a host's code at any instruction.
package sim
