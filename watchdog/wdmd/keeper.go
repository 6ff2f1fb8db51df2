package wdmd

import (
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog"
)

// ErrNoDevice says that this machine has no watchdog that can be used.
var ErrNoDevice = errors.New("no watchdog device, load a watchdog driver")

// keeper holds the device. It is used by the server's goroutine only.
type keeper struct {
	source watchdog.Source
	clock  monotime.Clock
	log    zerolog.Logger

	device watchdog.Device // nil: not open
	path   string          // of the device that is counting, or was the last to
	fire   time.Duration   // of the device that is counting; 0: none is
	stuck  bool            // it cannot be stopped, or that is not certain: only the end of the daemon tries it

	petted    monotime.Instant // last pet that the driver confirmed
	abandoned monotime.Instant // last time that it was given up; 0 never
	failing   bool             // the last attempt to pet it was not confirmed
}

// counting reports whether a device runs because of us, open or given up.
func (k *keeper) counting() bool { return k.fire != 0 }

// resetting reports whether the device was given up and runs out.
func (k *keeper) resetting() bool { return k.counting() && k.device == nil }

// protected returns the fire time that clients may rely on: 0 if the device does not run, or does not answer.
func (k *keeper) protected() time.Duration {
	if k.failing {
		return 0
	}
	return k.fire
}

// probe finds a device that can be used and stops it again. One that may not stop is kept and petted.
func (k *keeper) probe() error {
	all := []error{ErrNoDevice}
	for _, path := range k.source.Paths() {
		d, err := k.source.Open(path)
		if err == nil {
			if err = k.tryOut(path, d); err == nil {
				return nil
			}
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

func (k *keeper) tryOut(path string, d watchdog.Device) error {
	if d.CanStop() {
		return d.Disarm()
	}
	if err := k.take(path, d, watchdog.DefaultFire); err != nil {
		return errors.Join(err, giveUp(d))
	}
	k.stuck = true
	k.log.Warn().Msgf("%s may not be stoppable: it is petted until this daemon ends", d.Identity())
	return nil
}

// giveUp stops a device that cannot be used, or, if it cannot be stopped, leaves it.
func giveUp(d watchdog.Device) error {
	err := d.Disarm()
	if errors.Is(err, watchdog.ErrNoWayOut) {
		err = errors.Join(err, d.Abandon())
	}
	return err
}

// arm makes sure that a device runs, and returns the fire time in force: another than was asked for if one runs
// already, 0 if none does.
func (k *keeper) arm(fire time.Duration) time.Duration {
	if k.counting() {
		return k.protected()
	}
	for _, path := range k.source.Paths() {
		d, err := k.source.Open(path)
		if err == nil {
			if err = k.take(path, d, fire); err == nil {
				return k.fire
			}
			err = errors.Join(err, giveUp(d))
		}
		k.log.Error().Err(err).Msgf("arm with fire_timeout %d", fire/time.Second)
	}
	k.log.Error().Msg(ErrNoDevice.Error())
	return 0
}

// take sets the timeout of a device that was just opened and keeps it.
func (k *keeper) take(path string, d watchdog.Device, fire time.Duration) error {
	now := k.clock.Now()
	if got, err := d.SetTimeout(fire); err != nil {
		return err
	} else if got != fire {
		return watchdog.ErrTimeout
	}
	k.device, k.path, k.fire, k.petted, k.failing = d, path, fire, now, false
	k.stuck = k.stuck || !d.CanStop()
	k.log.Error().Msgf("%s armed with fire_timeout %d", d.Identity(), fire/time.Second)
	return nil
}

// pet pets the device, and opens it again if it was given up. It reports whether that is certain to have worked.
func (k *keeper) pet() bool {
	if !k.counting() {
		return true
	}
	if k.device == nil {
		k.failing = !k.reopen()
		return !k.failing
	}
	now := k.clock.Now()
	if err := k.device.Pet(); err != nil {
		k.log.Error().Err(err).Msg("pet the watchdog; this host is reset if that goes on")
		k.failing = true
		return false
	}
	k.petted, k.failing = now, false
	return true
}

// reopen takes the device back that was given up: the same one, for that is the one that runs out.
func (k *keeper) reopen() bool {
	d, err := k.source.Open(k.path)
	if err != nil {
		k.log.Error().Err(err).Msg("reopen; this host is reset if that goes on")
		return false
	}
	if err := k.take(k.path, d, k.fire); err != nil {
		k.log.Error().Err(errors.Join(err, d.Abandon())).Msg("reopen; this host is reset if that goes on")
		return false
	}
	k.log.Error().Msgf("%s reopen", k.path)
	return true
}

// abandon gives the device up. The kernel pets it at that.
func (k *keeper) abandon() {
	if k.device == nil {
		return
	}
	k.abandoned = k.clock.Now()
	err := k.device.Abandon()
	k.device = nil
	k.log.Error().Err(err).Msgf("%s closed unclean", k.path)
}

// disarm stops the device, and reports whether none runs now.
func (k *keeper) disarm() bool {
	if k.device == nil {
		return !k.counting()
	}
	if err := k.device.Disarm(); err != nil {
		k.log.Error().Err(err).Msgf("%s disarm", k.path)
		if errors.Is(err, watchdog.ErrNoWayOut) {
			k.stuck = true
			return false
		}
		k.device, k.fire, k.failing = nil, 0, false
		return false
	}
	k.device, k.fire, k.failing = nil, 0, false
	k.log.Error().Msgf("%s disarmed", k.path)
	return true
}

// usable finds the first path that can be used, for -p, and what was wrong with those before it.
func usable(source watchdog.Source) (string, []error) {
	var all []error
	for _, path := range source.Paths() {
		d, err := source.Open(path)
		if err == nil {
			// One that cannot be stopped can be used, and now it runs: nothing was to be done about that.
			if err = giveUp(d); err == nil || errors.Is(err, watchdog.ErrNoWayOut) {
				return path, all
			}
		}
		all = append(all, err)
	}
	return "", all
}
