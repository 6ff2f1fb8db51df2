package vm

// Standard is the guest with Debian's sanlock and wdmd in their places.
func Standard() Guest {
	return Guest{Files: map[string]string{
		"/usr/sbin/sanlock": "/usr/sbin/sanlock",
		"/usr/sbin/wdmd":    "/usr/sbin/wdmd",
	}}
}
