package main

import (
	"io"

	"github.com/tenurelock/tenure/tools/wdmdcli"
)

// wdmd is the watchdog daemon and its command line.
func wdmd(args []string, stdout, stderr io.Writer) int {
	return wdmdcli.Main(wdmdcli.Config{}, args, stdout, stderr)
}
