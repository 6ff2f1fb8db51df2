package ondisk

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is CRC-32C with initial value 0xFFFFFFFE and no final inversion (spec ondisk 2.11). The odd
// initial value is a slip that became the format.
func Checksum(p []byte) uint32 { return ^crc32.Update(1, castagnoli, p) }
