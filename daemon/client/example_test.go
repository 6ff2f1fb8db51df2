package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// A process registers, takes a lease, works, and gives the lease back. If it dies in between, the daemon does
// that for it. The example is compiled and not run: it needs a daemon that has joined the lockspace.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	conn, err := client.Dial(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Register(ctx); err != nil {
		log.Fatal(err)
	}

	lease := sanlockwire.Resource{
		Space: leases.NameOf("cluster"),
		Name:  leases.NameOf("vm-17"),
		Disks: []sanlockwire.Disk{{Path: "/dev/vg/leases", Offset: 17 << 20}},
	}
	err = conn.Acquire(ctx, client.Self, sanlockwire.AcquireOwnerNoWait, "vm-17", lease)
	switch {
	case leases.KindOf(err) == leases.Held:
		fmt.Println("another host runs it")
		return
	case err != nil:
		log.Fatal(err)
	}
	fmt.Println("it is ours")

	if _, err := conn.Release(ctx, client.Self, 0, lease); err != nil {
		log.Fatal(err)
	}
}
