package sanlockd

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/tenurelock/tenure/leases"
)

// defaultUser is the user and the group that the socket belongs to when both exist.
const defaultUser = "sanlock"

// owners finds the user and group ids of the socket. Unknown names mean 0, as in stock.
func owners(cfg *Config) (uid, gid int) {
	u, userErr := user.Lookup(defaultUser)
	g, groupErr := user.LookupGroup(defaultUser)
	if userErr == nil && groupErr == nil {
		uid, gid = number(u.Uid), number(g.Gid)
	}
	if cfg.User != "" {
		uid = 0
		if u, err := user.Lookup(cfg.User); err == nil {
			uid = number(u.Uid)
		} else {
			cfg.Log.Error().Msgf("user '%s' not found, using uid: 0", cfg.User)
		}
	}
	if cfg.Group != "" {
		gid = 0
		if g, err := user.LookupGroup(cfg.Group); err == nil {
			gid = number(g.Gid)
		} else {
			cfg.Log.Error().Msgf("group '%s' not found, using uid: 0", cfg.Group)
		}
	}
	return uid, gid
}

func number(id string) int {
	n, err := strconv.Atoi(id)
	if err != nil {
		return 0
	}
	return n
}

func nodeName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// newHostName makes a name that no other host has: a random UUID and the node name, cut to what fits on disk.
// A daemon without a configured name is a new host to the others each time it starts.
func newHostName(node string) (string, error) {
	var u [16]byte
	if _, err := rand.Read(u[:]); err != nil {
		return "", err
	}
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	name := fmt.Sprintf("%x-%x-%x-%x-%x.%s", u[:4], u[4:6], u[6:8], u[8:10], u[10:], node)
	return name[:min(len(name), leases.NameSize-1)], nil
}
