package sanlockd

import (
	"os"
	"strconv"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/helper"
)

// raiseLimits lifts what would keep the daemon from locking its memory or raising its priority. What cannot
// be had is logged and done without.
func raiseLimits(log zerolog.Logger) {
	for _, l := range []struct {
		name     string
		resource int
	}{{"MEMLOCK", unix.RLIMIT_MEMLOCK}, {"RTPRIO", unix.RLIMIT_RTPRIO}, {"CORE", unix.RLIMIT_CORE}} {
		unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if err := unix.Setrlimit(l.resource, &unlimited); err != nil {
			log.Warn().Msgf("setrlimit %s: %v; going on without", l.name, err)
		}
	}
}

// lockMemory keeps the daemon's pages in memory, those that it comes to use later too: a page that must be
// read back from a disk that hangs would stop the daemon when it is needed most. Pages are locked when they
// are first used, so that the address space that Go only reserves costs nothing. That makes both levels the
// same.
func lockMemory(cfg *Config) {
	if cfg.MlockLevel <= 0 {
		return
	}
	if err := helper.MayLock(); err != nil {
		cfg.Log.Warn().Msg(err.Error())
		return
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		cfg.Log.Warn().Msgf("mlockall: memory stays unlocked: %v", err)
	}
}

// realtimePriority is the highest of SCHED_RR.
const realtimePriority = 99

// raisePriority gives all threads of the daemon real-time priority if that was asked for; those that come
// later, and the helper, inherit it.
func raisePriority(cfg *Config) {
	if cfg.HighPriority == 0 {
		return
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		cfg.Log.Warn().Msgf("set scheduler: %v", err)
		return
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: realtimePriority}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := unix.SchedSetAttr(tid, &attr, 0); err != nil {
			cfg.Log.Warn().Msgf("set scheduler RR %d: %v; going on without", realtimePriority, err)
			return
		}
	}
}
