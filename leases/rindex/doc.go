// Package rindex keeps the index of which resource lies at which offset.
//
// An index lies in front of its resources (spec ondisk 1.5, 5): one area of header and entries, one with the
// lease that guards them, then a place for each entry's resource. Whoever changes the index as a member of
// its lockspace holds that lease meanwhile (Lock, Unlock). The order of writes keeps the one promise that
// matters after a crash at any point: no offset belongs to two resources, and no resource that somebody may
// hold is written over.
package rindex
