// Command guest is what a virtual machine of the rig runs: its first process, the agent that runs the host's
// commands, the holder that writes under a lease, and what plays renewals to wdmd. It is Linux's init only inside of such
// a machine.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	var err error
	switch filepath.Base(os.Args[0]) {
	case "holder":
		err = holder(os.Args[1:])
	case "renewals":
		err = renewals(os.Args[1:])
	case "agent":
		err = serve()
	default:
		err = initialise()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
