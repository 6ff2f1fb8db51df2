package lvmlock

import (
	"slices"
	"time"
)

// RetryPause is how long a refused request waits to be tried again. With the usual 4 retries a command hears
// Again after 6 tries in 5 s (spec lvmlockd 3.5).
const RetryPause = time.Second

// Pause reports whether something waits to be tried again: the host should call Resume and then Step
// RetryPause after the first Pause, whatever else comes between. Steps in between are welcome, and try
// nothing before its time.
func (l *Locks) Pause() bool {
	return l.stray ||
		slices.ContainsFunc(l.queue, func(a *Ask) bool { return a.paused }) ||
		slices.ContainsFunc(l.closing, func(d departure) bool { return d.paused })
}

// Resume ends the pause: the next Step tries again what was refused.
func (l *Locks) Resume() {
	l.stray = false
	for _, a := range l.queue {
		a.paused = false
	}
	for i := range l.closing {
		l.closing[i].paused = false
	}
}

// pauseRelease lets a lock that the lock manager did not take back be tried again later.
func (l *Locks) pauseRelease(h *Holder) {
	if h == nil {
		l.stray = true
		return
	}
	for i := range l.closing {
		if l.closing[i].client == h.Client {
			l.closing[i].paused = true
		}
	}
}
