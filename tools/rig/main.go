// Command rig runs virtual machines that share disks and have a watchdog, and breaks them as its standard input
// says. What happens is written to standard output, stamped with the seconds since the start.
//
//	go run ./tools/rig -n 2 -disk shared.img -watchdog softdog <<'…'
//	all sanlock version
//	spawn 1 wdmd wdmd -D
//	hang 1
//	wait 1 RESET
//	…
//
// It is a thin shell around package vm, which tests use; the word help lists what it understands. All machines
// end with it.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		os.Exit(1) //nolint:gocritic // the process ends
	}
}

// bootTime bounds the start of machines; two of them take 4 s when nothing else runs.
const bootTime = 3 * time.Minute

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("rig", flag.ContinueOnError)
	n := flags.Int("n", 2, "machines")
	watchdog := flags.String("watchdog", "softdog", "softdog, i6300esb or nothing")
	down := flags.Bool("stay-down", false, "a machine that is reset stays off")
	memory := flags.Int("memory", 0, "of each machine, in MiB")
	options := vm.Options{Echo: out}
	const aDisk = "file of a disk, made with 1 GiB if it is not there; with ,4096 for sectors of that size, ,512,4096 for emulated ones"
	flags.Func("disk", aDisk, func(v string) error {
		d, err := disk(v)
		options.Disks = append(options.Disks, d)
		return err
	})
	lvm := flags.Bool("lvm", false, "guests with Debian's LVM, lvmlockd, corosync and dlm_controld, on a network")
	files := map[string]string{}
	flags.Func("file", "GUEST=HERE: a file of this machine for the guests", func(v string) error {
		inside, here, ok := strings.Cut(v, "=")
		if !ok {
			return errors.New("GUEST=HERE is wanted")
		}
		files[inside] = here
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	guest, err := vm.Standard(), error(nil)
	if *lvm {
		guest, err = vm.LVM()
		options.Network = true
	}
	if err != nil {
		return err
	}
	maps.Copy(guest.Files, files)
	image, err := vm.Build(ctx, guest)
	if err != nil {
		return err
	}
	options.Image, options.Watchdog, options.StayDown, options.MemoryMB = image, vm.Watchdog(*watchdog), *down, *memory
	r, err := vm.New(options)
	if err != nil {
		return err
	}
	boot, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	if err := r.Start(boot, *n); err != nil {
		return errors.Join(err, r.Close())
	}
	err = obey(ctx, r, in, out)
	return errors.Join(err, r.Close())
}

func disk(v string) (vm.Disk, error) {
	words := strings.Split(v, ",")
	path := words[0]
	d := vm.Disk{Path: path, SectorSize: 512}
	sizes := []*int{&d.SectorSize, &d.PhysicalSize}
	if len(words) > 1+len(sizes) {
		return d, fmt.Errorf("disk %q is not FILE[,SECTORS[,PHYSICAL SECTORS]]", v)
	}
	for i, text := range words[1:] {
		var err error
		if *sizes[i], err = strconv.Atoi(text); err != nil {
			return d, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return d, err
	}
	defer f.Close()
	about, err := f.Stat()
	if err == nil && about.Size() == 0 {
		err = f.Truncate(1 << 30)
	}
	return d, err
}

// obey carries out one line at a time; a line that fails is told and does not end the rig.
func obey(ctx context.Context, r *vm.Rig, in io.Reader, out io.Writer) error {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			if err := execute(ctx, r, strings.TrimSpace(line), out); err != nil {
				fmt.Fprintln(out, "rig:", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
