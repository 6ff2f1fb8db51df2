package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// leaseOn names lease n of the example's device.
func leaseOn(n uint64) sanlockwire.Resource {
	return sanlockwire.Resource{
		Space: leases.NameOf("cluster"),
		Name:  leases.NameOf(fmt.Sprintf("vm-%d", n)),
		Disks: []sanlockwire.Disk{{Path: "/dev/vg/leases", Offset: n << 20}},
	}
}

// A process registers, takes a lease, works, and gives the lease back. If it dies in between, the daemon does
// that for it.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	conn, err := client.Dial(ctx, exampleDaemon())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Register(ctx); err != nil {
		log.Fatal(err)
	}

	lease := leaseOn(1)
	err = conn.Acquire(ctx, client.Self, sanlockwire.AcquireOwnerNoWait, "vm-1", lease)
	switch {
	case leases.KindOf(err) == leases.Held:
		fmt.Println("another host runs it")
		return
	case err != nil:
		log.Fatal(err)
	}
	held, err := conn.Inquire(ctx, client.Self)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range held {
		fmt.Println("it is ours:", sanlockwire.FormatResource(r))
	}

	if _, err := conn.Release(ctx, client.Self, 0, lease); err != nil {
		log.Fatal(err)
	}
	// Output: it is ours: cluster:vm-1:/dev/vg/leases:1048576:1
}

// What the daemon refuses has stock's number and name, a sentence, and a kind to decide by.
func ExampleConn_Acquire() {
	ctx := context.Background()
	conn, err := client.Dial(ctx, exampleDaemon())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Register(ctx); err != nil {
		log.Fatal(err)
	}
	if err := conn.Acquire(ctx, client.Self, 0, "", leaseOn(2)); err != nil {
		log.Fatal(err)
	}

	err = conn.Acquire(ctx, client.Self, 0, "", leaseOn(2))
	fmt.Println(err)
	if refused, ok := errors.AsType[*sanlockwire.Result](err); ok {
		fmt.Println(refused.Number, refused.Name)
	}
	fmt.Println(leases.KindOf(err) == leases.Exists)
	// Output:
	// acquire: EEXIST (-17): exists already, or is held already by this host
	// -17 EEXIST
	// true
}

// A lease can carry a value: whoever takes the lease next, on whatever host, reads what was put there.
func ExampleConn_SetLVB() {
	ctx := context.Background()
	conn, err := client.Dial(ctx, exampleDaemon())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Register(ctx); err != nil {
		log.Fatal(err)
	}
	lease := leaseOn(3)
	for _, value := range []string{"size=10G", "size=20G"} {
		if err := conn.Acquire(ctx, client.Self, sanlockwire.AcquireLVB, "", lease); err != nil {
			log.Fatal(err)
		}
		old, err := conn.GetLVB(ctx, lease)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q\n", old[:8])
		if err := conn.SetLVB(ctx, lease, []byte(value)); err != nil {
			log.Fatal(err)
		}
		if _, err := conn.Release(ctx, client.Self, 0, lease); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// "\x00\x00\x00\x00\x00\x00\x00\x00"
	// "size=10G"
}

// Whoever wants a lease that another holds can ask for it, through the disk: the holder's host then runs its
// killpath, or sends it SIGTERM.
func ExampleConn_Request() {
	ctx := context.Background()
	err := client.Do(ctx, exampleDaemon(), func(c *client.Conn) error {
		return c.Request(ctx, sanlockwire.RequestNextLVer, sanlockwire.RequestGraceful, leaseOn(4))
	})
	fmt.Println(err)
	// Output: <nil>
}

// The hosts of a lockspace, and what is thought of each.
func ExampleConn_GetHosts() {
	ctx := context.Background()
	var hosts []sanlockwire.Host
	err := client.Do(ctx, exampleDaemon(), func(c *client.Conn) (err error) {
		hosts, err = c.GetHosts(ctx, sanlockwire.Lockspace{Name: leases.NameOf("cluster")}, 0)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, h := range hosts {
		fmt.Println(h.HostID, h.Generation, h.Verdict())
	}
	// Output: 1 1 LIVE
}

// Events come on a connection of their own until the lockspace is left. The example is compiled and not run:
// it waits for another host.
func ExampleConn_NextEvent() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	space := sanlockwire.Lockspace{Name: leases.NameOf("cluster")}
	conn, err := client.Dial(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	if err := conn.RegEvent(ctx, space); err != nil {
		log.Fatal(err)
	}
	var last sanlockwire.Event
	for {
		e, err := conn.NextEvent(ctx)
		if errors.Is(err, client.ErrHungUp) {
			return // the lockspace is gone
		}
		if err != nil {
			log.Fatal(err)
		}
		if e != last { // the same one comes several times
			fmt.Printf("host %d says %d, %d\n", e.FromHostID, e.Event, e.Data)
		}
		last = e
	}
}
