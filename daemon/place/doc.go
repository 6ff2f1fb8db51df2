// Package place is what a daemon takes on its machine before it serves: a session of its own, the lock file that
// makes it the only one, and its socket.
package place
