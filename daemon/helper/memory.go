package helper

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// MayLock returns an error if this process may lock a bounded amount of memory only: with all that it has
// locked, memory that it needs later could not be had at all. CAP_IPC_LOCK lifts every bound.
func MayLock() error {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit)
	if err == nil && limit.Cur == unix.RLIM_INFINITY {
		return nil
	}
	const word, bit = unix.CAP_IPC_LOCK / 32, unix.CAP_IPC_LOCK % 32
	var have [2]unix.CapUserData
	self := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&self, &have[0]); err == nil && have[word].Effective&(1<<bit) != 0 {
		return nil
	}
	return fmt.Errorf("mlockall: memory stays unlocked, RLIMIT_MEMLOCK is not unlimited (%d)", limit.Cur)
}
