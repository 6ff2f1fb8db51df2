// Package sanlockcli is sanlock's own command line.
//
// Options, texts and exit codes are those of sanlock 3.8.5, because scripts read them: every message goes to
// standard output, and the exit code is 0 only where the result of the action is 0. Where stock crashes or
// goes on after a complaint as if a lease had been asked for, this one stops with exit code 1.
package sanlockcli
