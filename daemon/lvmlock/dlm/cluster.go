package dlm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// cluster is what dlm_controld tells the kernel about the cluster, a directory of configfs.
type cluster string

const clusterDir cluster = "/sys/kernel/config/dlm/cluster"

const (
	spacePrefix = "lvm_"
	argsMajor   = "1"     // of vg_lock_args
	argsVersion = "1.0.0" // ours
	argsMax     = 64      // bytes
)

// name returns the cluster's name; none is an error, since dlm_controld does not run then.
func (c cluster) name() (string, error) {
	p, err := os.ReadFile(filepath.Join(string(c), "cluster_name"))
	name := strings.TrimRight(string(p), "\n\x00")
	if err == nil && name == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("read the cluster's name: %w (do corosync and dlm_controld run?)", err)
	}
	return name, nil
}

// spaces lists the lockspaces of LVM that this host has joined.
func (c cluster) spaces() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(string(c), "spaces"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), spacePrefix) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// members counts the hosts in a lockspace, this one included.
func (c cluster) members(space string) (int, error) {
	entries, err := os.ReadDir(filepath.Join(string(c), "spaces", space, "nodes"))
	return len(entries), err
}

// node returns the number of this host.
func (c cluster) node() (uint32, error) {
	hosts, err := os.ReadDir(filepath.Join(string(c), "comms"))
	if err != nil {
		return 0, err
	}
	for _, h := range hosts {
		local, err := os.ReadFile(filepath.Join(string(c), "comms", h.Name(), "local"))
		if err != nil || strings.TrimSpace(string(local)) != "1" {
			continue
		}
		n, err := strconv.ParseUint(h.Name(), 10, 32)
		return uint32(n), err
	}
	return 0, errors.New("no node of the cluster is local")
}

// args makes the vg_lock_args of a VG in this cluster.
func (c cluster) args() (string, error) {
	name, err := c.name()
	if err != nil {
		return "", fault("init", "a VG", lvmwire.NoManager, err)
	}
	args := argsVersion + ":" + name
	if len(args) > argsMax {
		return "", fault("init", "a VG", lvmwire.BadArgs,
			fmt.Errorf("lock args %q have %d bytes, the most is %d", args, len(args), argsMax))
	}
	return args, nil
}

// check looks whether vg_lock_args are those of this cluster. The global lockspace has none.
func (c cluster) check(vg, args string) error {
	name, err := c.name()
	if err != nil {
		return fault("prepare", "VG "+vg, lvmwire.NoManager, err)
	}
	if args == "" {
		return nil
	}
	version, of, found := strings.Cut(args, ":")
	major, _, _ := strings.Cut(version, ".")
	switch {
	case !found || major != argsMajor:
		err = fmt.Errorf("lock args %q are not of the form %s:CLUSTER", args, argsVersion)
	case of != name:
		err = fmt.Errorf("it belongs to the cluster %q, this host to %q", of, name)
	}
	if err != nil {
		return fault("prepare", "VG "+vg, lvmwire.BadArgs, err)
	}
	return nil
}

func fault(op, what string, r lvmwire.Result, err error) *lvmlock.Error {
	return &lvmlock.Error{Op: op, What: what, Result: r, Err: err}
}
