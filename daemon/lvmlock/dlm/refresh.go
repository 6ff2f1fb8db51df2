package dlm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// controldSocket is where dlm_controld listens, in the abstract namespace.
const controldSocket = "@dlmc_sock"

// What is said to dlm_controld, in the machine's byte order (spec lvmlockd 5.3.3). Sizes in bytes:
//
//	offset 0 magic, 4   4 version, 4   8 verb, 4   16 length of all, 4   20 result, 4   24 flags, 4   32 id, 64
//
// A run_start has the command line behind that, and a run_check is answered with a status behind it.
const (
	controldMagic   = 0xD13CD13C
	controldVersion = 0x00010001
	headerSize      = 96
	runSize         = 1024 // of a command line, a NUL at its end included
	idSize          = 64
	statusSize      = 4

	verbRunStart = 15
	verbRunCheck = 16

	flagNotHere = 1 // of run_start: on the other nodes only
	flagClear   = 1 // of run_check: forget a command that has ended
)

// Bits of the status of a command.
const (
	runWaiting = 1
	runDone    = 2
	runFailed  = 4
)

const (
	refreshLimit = time.Minute            // for the other hosts to have refreshed an LV
	refreshPoll  = 200 * time.Millisecond // between two looks whether they have
)

// refreshCommand is what each of the other hosts runs.
const refreshCommand = "lvm lvchange --refresh --partial --nolocking "

// Refresh has dlm_controld make the other hosts look at an LV anew, whose path is "/dev//vg/lv", and waits until all
// have. An error means that some may still use the LV as it was: the user must see to it.
func (m *Manager) Refresh(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, refreshLimit)
	defer cancel()
	lv, err := refreshed(path)
	if err == nil {
		err = m.run(ctx, refreshCommand+lv)
	}
	if err != nil {
		return fault("refresh", path+" on the other hosts", lvmwire.Perm, err)
	}
	return nil
}

// refreshed returns "vg/lv" of a path. The name goes into a command line that root runs elsewhere.
func refreshed(path string) (string, error) {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if len(parts) != 3 || parts[0] != "dev" {
		return "", errors.New("it is not /dev/VG/LV")
	}
	lv := parts[1] + "/" + parts[2]
	strange := func(r rune) bool {
		plain := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !plain && !strings.ContainsRune("/+_.-", r)
	}
	if strings.ContainsFunc(lv, strange) || parts[1][0] == '-' || len(refreshCommand+lv) >= runSize {
		return "", errors.New("no LV has such a name")
	}
	return lv, nil
}

// run has the other hosts run a command and waits for its end.
func (m *Manager) run(ctx context.Context, command string) error {
	body := make([]byte, runSize)
	copy(body, command)
	started, err := m.tell(ctx, verbRunStart, flagNotHere, nil, body, 0)
	if err != nil {
		return err
	}
	id := started[headerSize-idSize : headerSize]
	for {
		text, err := m.tell(ctx, verbRunCheck, flagClear, id, nil, statusSize)
		if err != nil {
			return err
		}
		switch status := binary.NativeEndian.Uint32(text[headerSize:]); {
		case status&runFailed != 0:
			return errors.New("some host could not run it")
		case status&runDone != 0:
			return nil
		case status&runWaiting == 0:
			return fmt.Errorf("dlm_controld says status %#x of it", status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("some host has not answered: %w", ctx.Err())
		case <-time.After(refreshPoll):
		}
	}
}

// tell makes one request of dlm_controld and returns its answer with so many bytes behind the header.
func (m *Manager) tell(ctx context.Context, verb, flags uint32, id, body []byte, more int) ([]byte, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", m.controld)
	if err != nil {
		return nil, fmt.Errorf("reach dlm_controld: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	p := make([]byte, headerSize, headerSize+len(body))
	order := binary.NativeEndian
	order.PutUint32(p, controldMagic)
	order.PutUint32(p[4:], controldVersion)
	order.PutUint32(p[8:], verb)
	order.PutUint32(p[16:], uint32(headerSize+len(body)))
	order.PutUint32(p[24:], flags)
	copy(p[headerSize-idSize:], id)
	if _, err := c.Write(append(p, body...)); err != nil {
		return nil, fmt.Errorf("ask dlm_controld: %w", err)
	}
	answer := make([]byte, headerSize+more)
	if _, err := io.ReadFull(c, answer[:headerSize]); err != nil {
		return nil, fmt.Errorf("hear from dlm_controld: %w (does it run with enable_helper=1?)", err)
	}
	if order.Uint32(answer) != controldMagic {
		return nil, fmt.Errorf("dlm_controld answers with magic %#x", order.Uint32(answer))
	}
	if result := int32(order.Uint32(answer[20:])); result < 0 {
		return nil, fmt.Errorf("dlm_controld refuses (does it run with enable_helper=1?): %w", syscall.Errno(-result))
	}
	if _, err := io.ReadFull(c, answer[headerSize:]); err != nil {
		return nil, fmt.Errorf("hear from dlm_controld: %w", err)
	}
	return answer, nil
}
