package main

import (
	"io"

	"github.com/tenurelock/tenure/daemon/sanlockd"
	"github.com/tenurelock/tenure/tools/sanlockcli"
)

// sanlock is the lease daemon and its command line.
func sanlock(args []string, stdout, stderr io.Writer) int {
	return sanlockcli.Main(sanlockcli.Config{Daemon: sanlockDaemon}, args, stdout, stderr)
}

func sanlockDaemon(o *sanlockcli.Options, _, _ io.Writer) int {
	return sanlockd.Run(sanlockd.Config{Config: o.Config, Foreground: o.Debug})
}
