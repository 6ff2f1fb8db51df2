package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// help is shown for the word help. A disk is number 0 unless another is named.
const help = `N is a machine, from 1.
N COMMAND             run a shell command in machine N and wait for it
all COMMAND           the same in every machine, one after the other
spawn N NAME COMMAND  start a command; its lines are logged under NAME
cut N | boot N | reset N                    power off, on; the reset button
freeze N | thaw N                           stalled, its clocks run on
pause N | resume N                          stopped, its clocks too
fail N [DISK] | hang N [DISK] | ok N [DISK] EIO; transfers wait; well again
slow N RATE [DISK]                          RATE transfers per second
unplug N [DISK] | plug N [DISK]             take the disk out, put it back
wait N TEXT           until a line of machine N that comes from now on has TEXT
sleep SECONDS
`

// plain are the words that take a machine and nothing else; onDisk those that take a disk too.
var plain = map[string]func(context.Context, *vm.Machine) error{
	"cut":    func(_ context.Context, m *vm.Machine) error { return m.Cut() },
	"boot":   func(ctx context.Context, m *vm.Machine) error { return m.Boot(ctx) },
	"reset":  func(ctx context.Context, m *vm.Machine) error { return m.Reset(ctx) },
	"freeze": func(_ context.Context, m *vm.Machine) error { return m.Freeze() },
	"thaw":   func(_ context.Context, m *vm.Machine) error { return m.Thaw() },
	"pause":  func(ctx context.Context, m *vm.Machine) error { return m.Pause(ctx) },
	"resume": func(ctx context.Context, m *vm.Machine) error { return m.Resume(ctx) },
}

var onDisk = map[string]func(*vm.Machine, context.Context, int) error{
	"fail": (*vm.Machine).DiskFail, "hang": (*vm.Machine).DiskHang, "ok": (*vm.Machine).DiskOK,
	"unplug": (*vm.Machine).DiskUnplug, "plug": (*vm.Machine).DiskPlug,
}

// monitorTime bounds a word that asks QEMU, which does not answer while it is frozen.
const monitorTime = 30 * time.Second

func execute(ctx context.Context, r *vm.Rig, line string, out io.Writer) error {
	word, rest, _ := strings.Cut(line, " ")
	if word == "" || strings.HasPrefix(word, "#") {
		return nil
	}
	if _, err := strconv.Atoi(word); err == nil {
		return command(ctx, r, word, rest, out)
	}
	switch word {
	case "help":
		fmt.Fprint(out, help)
		return nil
	case "sleep":
		seconds, err := strconv.ParseFloat(rest, 64)
		if err != nil {
			return err
		}
		select {
		case <-time.After(time.Duration(seconds * float64(time.Second))):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case "all":
		for _, m := range r.Machines() {
			if err := command(ctx, r, strconv.Itoa(m.ID()), rest, out); err != nil {
				return err
			}
		}
		return nil
	}
	which, rest, _ := strings.Cut(rest, " ")
	m, err := machine(r, which)
	if err != nil {
		return err
	}
	switch word {
	case "spawn":
		name, what, _ := strings.Cut(rest, " ")
		_, err := m.Spawn(name, what)
		return err
	case "wait":
		_, err := r.Log().Wait(ctx, vm.Match{Machine: m.ID(), Text: rest, Since: time.Now()})
		return err
	}
	return fault(ctx, m, word, strings.Fields(rest))
}

func fault(ctx context.Context, m *vm.Machine, word string, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, max(monitorTime, bootTime))
	defer cancel()
	if f, ok := plain[word]; ok {
		return f(ctx, m)
	}
	var numbers []int
	for _, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil {
			return err
		}
		numbers = append(numbers, n)
	}
	if word == "slow" && len(numbers) > 0 {
		return m.DiskSlow(ctx, append(numbers, 0)[1], numbers[0])
	}
	if f, ok := onDisk[word]; ok {
		return f(m, ctx, append(numbers, 0)[0])
	}
	return fmt.Errorf("%q is not understood; help lists what is", word)
}

func machine(r *vm.Rig, which string) (*vm.Machine, error) {
	i, err := strconv.Atoi(which)
	if err != nil || !slices.ContainsFunc(r.Machines(), func(m *vm.Machine) bool { return m.ID() == i }) {
		return nil, fmt.Errorf("there is no machine %q", which)
	}
	return r.Machine(i), nil
}

func command(ctx context.Context, r *vm.Rig, which, what string, out io.Writer) error {
	m, err := machine(r, which)
	if err != nil {
		return err
	}
	text, code, err := m.Run(ctx, what)
	fmt.Fprint(out, text)
	if err == nil && code != 0 {
		err = fmt.Errorf("vm%s: exit code %d", which, code)
	}
	return err
}
