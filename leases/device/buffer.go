package device

// Buffer is page aligned memory from the package's pool. It has one owner at a time; ownership moves with
// the call that takes it.
type Buffer struct {
	mem []byte // whole mapping
	n   int
}

// Bytes returns the n bytes that were asked for.
func (b *Buffer) Bytes() []byte { return b.mem[:b.n] }
