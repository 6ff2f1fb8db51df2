// Package archtest holds the tree to ARCHITECTURE.md: floors, package comments, function length, no cgo.
//
// It has tests only; the rules are the tables in them.
package archtest
