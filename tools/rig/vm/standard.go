package vm

// Ours is the directory of our own programs in a standard guest; Debian's are where Debian has them.
const Ours = "/opt/tenure/"

// Standard is the guest with Debian's sanlock and wdmd, which must be installed here, and with our programs,
// compiled from this source.
func Standard() Guest {
	g := Guest{
		Files: map[string]string{"/usr/sbin/sanlock": "/usr/sbin/sanlock", "/usr/sbin/wdmd": "/usr/sbin/wdmd"},
		Built: map[string]string{Ours + "tenure": "github.com/tenurelock/tenure/tools/tenure"},
		Links: map[string]string{},
	}
	for _, name := range []string{"sanlock", "wdmd", "lvmlockd", "lvmlockctl"} {
		g.Links[Ours+name] = "tenure"
	}
	return g
}
