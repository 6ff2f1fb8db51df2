package dlm

import (
	"errors"
	"fmt"
	"sync"
)

// errLost says that the lockspace's device cannot be used any more.
var errLost = errors.New("the lockspace is gone or its device cannot be read")

// wire carries commands to an open lockspace and their results back.
type wire struct {
	dev  Device
	lost chan struct{} // closed when no result will come any more
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	cookie  uint64
	waiting map[uint64]chan result
	why     error // of lost
	closing bool
}

func newWire(dev Device, lost chan struct{}) *wire {
	w := &wire{dev: dev, lost: lost, done: make(chan struct{}), waiting: map[uint64]chan result{}}
	go w.read()
	return w
}

// ask hands over a command and waits for its end, however long that takes: a command cannot be called back safely.
func (w *wire) ask(c command) (result, error) {
	end := make(chan result, 1)
	w.mu.Lock()
	if w.why != nil {
		w.mu.Unlock()
		return result{}, w.why
	}
	w.cookie++
	c.Cookie = w.cookie
	w.waiting[c.Cookie] = end
	w.mu.Unlock()
	if _, err := w.tell(c); err != nil {
		w.mu.Lock()
		delete(w.waiting, c.Cookie)
		w.mu.Unlock()
		return result{}, err
	}
	select {
	case r := <-end:
		return r, nil
	case <-w.lost:
		return result{}, w.reason()
	}
}

// tell hands over a command that has no result of its own, and returns what the kernel returned.
func (w *wire) tell(c command) (int, error) {
	if c.Cookie == 0 {
		c.Cookie = 1 // the kernel wants one
	}
	n, err := w.dev.Write(c.append(nil))
	if err != nil {
		return 0, fmt.Errorf("the kernel refused: %w", err)
	}
	return n, nil
}

// read serves results until the device is closed or cannot be understood.
func (w *wire) read() {
	defer close(w.done)
	var p [resultSize + valueSize]byte
	for {
		n, err := w.dev.Read(p[:])
		if err == nil {
			var r result
			if r, err = decodeResult(p[:n]); err == nil {
				w.deliver(r)
				continue
			}
		}
		w.fail(fmt.Errorf("%w: %w", errLost, err))
		return
	}
}

func (w *wire) deliver(r result) {
	if r.Blocking != modeNL {
		return
	}
	w.mu.Lock()
	end := w.waiting[r.Cookie]
	delete(w.waiting, r.Cookie)
	w.mu.Unlock()
	if end != nil {
		end <- r
	}
}

// fail says that nothing more can be learned of the lockspace.
func (w *wire) fail(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == nil {
		w.why = why
		if !w.closing {
			close(w.lost)
		}
	}
}

func (w *wire) reason() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why
}

// close closes the device and waits for the reader. No command may be under way.
func (w *wire) close() error {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	err := w.dev.Close()
	<-w.done
	return err
}
