package main

import "io"

// sanlock is the lease daemon and its command line.
func sanlock(args []string, stdout, stderr io.Writer) int { return notBuilt(args, stdout, stderr) }
