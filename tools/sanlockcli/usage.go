package sanlockcli

import _ "embed"

// usage is what `sanlock help` prints, line for line as stock does: programs read it.
//
//go:embed usage.txt
var usage string
