// Package wdmd serves one watchdog to many clients: it is petted only while every one of them is well.
//
// One goroutine owns the table of clients and the device; each connection is read by its own, so that a client
// that sends half a message, or does not read its answers, holds up nobody. Messages of a connection are taken in
// their order, its end after all of them. Whatever is in doubt is a reason not to pet.
//
// The device is opened for the first client that counts on it and stopped when there is none left. A device that
// cannot be stopped is petted from the start (spec sanlock-daemon 3.9).
package wdmd
