package sanlockwire

// Sizes in bytes of a Killpath.
const (
	KillpathSize = 256
	killpathHalf = 128
	// MaxKillpath is the longest path, and the longest text of arguments, that stock's library sends. The daemon
	// takes one byte more.
	MaxKillpath = 126
)

// Killpath is the program that is run to stop a process in an orderly way. 256 bytes:
//
//	offset 0 path, zero terminated   128 arguments, zero terminated
type Killpath struct {
	Path, Args string // 127 bytes each; more is cut off
}

// Append adds the 256 bytes of k to p.
func (k Killpath) Append(p []byte) []byte {
	p = appendText(p, k.Path, killpathHalf, killpathHalf-1)
	return appendText(p, k.Args, killpathHalf, killpathHalf-1)
}

// Decode reads the paths from the first 256 bytes of p; the only error is that there are fewer.
func (k *Killpath) Decode(p []byte) error {
	if err := enough("killpath", p, KillpathSize); err != nil {
		return err
	}
	k.Path = text(p[:killpathHalf-1])
	k.Args = text(p[killpathHalf : KillpathSize-1])
	return nil
}
