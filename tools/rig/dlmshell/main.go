// Command dlmshell drives the lock manager "dlm" in a guest, one lockspace, as its standard input says; each line is
// answered by one. It is how tests ask a real kernel.
//
//	join | join adopt | leave | free | hosts | purge | spaces
//	lock KIND NAME MODE [adopt]    KIND is gl, vg or lv; MODE is sh or ex
//	convert KIND NAME FROM TO [VERSION]
//	unlock KIND NAME FROM [VERSION]
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/dlm"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: dlmshell VG CLUSTER")
		os.Exit(2)
	}
	vg := lvmlock.VG{Name: os.Args[1], UUID: "u", Args: "1.0.0:" + os.Args[2]}
	if err := run(context.Background(), vg, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "dlmshell:", err)
		os.Exit(1)
	}
}

// commandTime bounds one command; a cluster changes in less.
const commandTime = 2 * time.Minute

// shell is one lockspace that is talked to.
type shell struct {
	manager *dlm.Manager
	space   lvmlock.Lockspace
}

func run(ctx context.Context, vg lvmlock.VG, in io.Reader, out io.Writer) error {
	m := dlm.New(dlm.Config{})
	space, _, err := m.Prepare(ctx, vg, lvmlock.PrepareOptions{})
	if err != nil {
		return err
	}
	s := shell{m, space}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		begun := time.Now()
		ctx, cancel := context.WithTimeout(ctx, commandTime)
		said, err := s.obey(ctx, strings.Fields(lines.Text()))
		cancel()
		result := lvmwire.OK
		if err != nil {
			result = lvmwire.ManagerError
			if e, ok := errors.AsType[*lvmlock.Error](err); ok {
				result = e.Result
			}
			said = err.Error()
		}
		fmt.Fprintf(out, "%s: %d %s (%d ms)\n", lines.Text(), result, said, time.Since(begun).Milliseconds())
	}
	return nil
}

var errUsage = errors.New("not understood")

func (s shell) obey(ctx context.Context, words []string) (string, error) {
	words = append(words, "", "", "", "", "", "")
	adopt := words[4] == "adopt"
	switch words[0] {
	case "join":
		adopt = words[1] == "adopt"
		_, err := s.space.Join(ctx, lvmlock.JoinOptions{Adopt: adopt, AdoptOnly: adopt})
		return "", err
	case "leave", "free":
		return "", s.space.Leave(ctx, words[0] == "free")
	case "hosts":
		n, _, err := s.space.Hosts(ctx)
		return fmt.Sprintf("%d others", n), err
	case "purge":
		p, ok := s.space.(lvmlock.Purger)
		if !ok {
			return "", errUsage
		}
		return "", p.Purge(ctx)
	case "spaces":
		names, err := s.manager.Lockspaces(ctx)
		return strings.Join(names, " "), err
	}
	kinds := map[string]lvmwire.Kind{"gl": lvmwire.GL, "vg": lvmwire.VG, "lv": lvmwire.LV}
	modes := map[string]lvmwire.Mode{"sh": lvmwire.SH, "ex": lvmwire.EX}
	r := lvmlock.Resource{Kind: kinds[words[1]], Name: words[2]}
	from := modes[words[3]]
	switch words[0] {
	case "lock":
		v, err := s.space.Lock(ctx, r, from, lvmlock.LockOptions{Adopt: adopt, AdoptOnly: adopt})
		return fmt.Sprintf("value %d removed %v", v.Version, v.Removed), err
	case "convert":
		v, err := value(words[5])
		return "", errors.Join(err, s.space.Convert(ctx, r, from, modes[words[4]], v))
	case "unlock":
		v, err := value(words[4])
		return "", errors.Join(err, s.space.Unlock(ctx, r, from, v))
	}
	return "", errUsage
}

func value(text string) (*lvmlock.Value, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // none is to be written
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return &lvmlock.Value{Version: uint32(n)}, err
}
