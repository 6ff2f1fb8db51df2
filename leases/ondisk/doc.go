// Package ondisk reads and writes the records that hosts leave for one another, byte for byte as
// sanlock 3.8 does.
//
// All integers are little-endian. FORMAT.md beside this file holds every table. A decoder never fails on
// content: it hands out what is there, so that a record can be shown and rewritten without loss; whether it
// may be believed is asked with the Check functions, which test magic, version, names and checksum in the
// order that stock does, so that the first thing wrong has the same number everywhere.
package ondisk
