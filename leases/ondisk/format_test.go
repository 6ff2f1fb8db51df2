package ondisk

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/tenurelock/tenure/leases"
)

// What `sanlock direct init -s LS1:0:DEV:0 -o 2` and `-r LS1:RES1:DEV:0` of Debian's sanlock 3.8.5 left on a
// device, for each pair of sizes: SHA-256 of the whole area.
var stockAreas = map[Geometry][2]string{
	{512, MiB}: {
		"b2fef9a51f2ba591a8c97514150b44f721f366d1550c3c65bf63a263f3118dae",
		"00f1c1b451d9485282f486e43b6fbbab75f6943c1b6a72465e45706c9ef67d07",
	},
	{4096, MiB}: {
		"3a07cc9b1e0c4f3083709269e7748fb59577aaf74ec2e461a25e0d0562c0c5e6",
		"1aab42cb3878e4b07bed8ef422478fe6701ded3d91b715eb972e3a748f9a04e3",
	},
	{4096, 2 * MiB}: {
		"ab8e4e992330a17c822c0b08aecb7a6d326b21b192c50dcba59976b9d335f7d1",
		"309ab3ac6429671a715ba7a1acc3a225070271856aa753c9697681eb788a405b",
	},
	{4096, 4 * MiB}: {
		"2df46f6c053a5ba852cfaf526406539c85b50d3d607a823f89364147419de01c",
		"3866145b4781f64c3693da7308fe934d16400fe796a359733bb61cc678b0d9eb",
	},
	{4096, 8 * MiB}: {
		"63ae79ba961f21b7db622e35bb3e3948ace31c7017622a2589d86fcc03de8ea1",
		"41c65729138670fdf3d7e14dd9eeb221ee2ec8bf659c28790cc95d636b663d82",
	},
}

func TestFormatEqualsStock(t *testing.T) {
	for _, g := range Geometries() {
		t.Run(fmt.Sprintf("%d-%dM", g.Sector, g.Align/MiB), func(t *testing.T) {
			space := FormatLockspace(g, leases.NameOf("LS1"), 2)
			resource := FormatResource(g, leases.NameOf("LS1"), leases.NameOf("RES1"), 0)
			for i, area := range [][]byte{space, resource} {
				if got, want := len(area), g.Align; got != want {
					t.Errorf("area %d: length %d, want %d", i, got, want)
				}
				sum := sha256.Sum256(area)
				if got, want := hex.EncodeToString(sum[:]), stockAreas[g][i]; got != want {
					t.Errorf("area %d: sha256 %s, want %s", i, got, want)
				}
			}
		})
	}
}
